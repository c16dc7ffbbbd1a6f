"""The filters of one capture: a single one, or several with names and counters of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

from netring_bpf.errors import FilterError, OptionError
from netring_bpf.filter.address_set import AddressSet
from netring_bpf.filter.filter import Filter

__all__ = ["MAX_NAMES", "FilterLike", "FilterSet"]

MAX_NAMES = 64  #: named filters of one capture
_MAX_INSTRUCTIONS = 4096  # in all; the verifier accepts so many
_MAX_NAME = 64  # characters

FilterLike: TypeAlias = str | Filter | Mapping[str, str | Filter] | None


@dataclass(frozen=True, slots=True)
class FilterSet:
    """The filters of a capture, which takes every frame that any of them matches.

    ``names``: one for each filter; empty for a single filter without a name.
    """

    filters: tuple[Filter, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.names:
            if (
                not isinstance(name, str)
                or not name.isprintable()
                or not 0 < len(name) <= _MAX_NAME
            ):
                raise OptionError(
                    f"filter name {name!r}: must be 1 to {_MAX_NAME} printable characters",
                    option="filter",
                )
        if not 1 <= len(self.filters) <= MAX_NAMES:
            raise OptionError(
                f"{len(self.filters)} named filters: one capture takes 1 to {MAX_NAMES}",
                option="filter",
            )
        total = sum(len(f.instructions) for f in self.filters)
        if total > _MAX_INSTRUCTIONS:
            raise FilterError(
                f"named filters: {total} instructions together, one capture takes "
                f"{_MAX_INSTRUCTIONS}; name fewer hosts, nets or ports",
                expression=self.expression,
            )

    @classmethod
    def of(cls, wanted: FilterLike) -> Self:
        """Make one from an expression, a filter, several filters by name, or None."""
        if isinstance(wanted, Mapping):
            return cls(tuple(map(_filter, wanted.values())), tuple(wanted))
        return cls((_filter("" if wanted is None else wanted),))

    @property
    def expression(self) -> str:
        """All filters as one expression, for people to read."""
        if not self.names:
            return self.filters[0].expression
        return " or ".join(f"({f.expression})" for f in self.filters)

    @property
    def snaplen(self) -> int:
        """The bytes of a frame that the capture takes: the most that any filter asks for."""
        return max(f.snaplen for f in self.filters)

    @property
    def sets(self) -> tuple[AddressSet, ...]:
        """The sets of addresses of all filters, each once."""
        return tuple(dict.fromkeys(one for f in self.filters for one in f.sets))

    @property
    def needs_ebpf(self) -> bool:
        """Whether classic BPF cannot do it: it counts no matches, and has no sets."""
        return bool(self.names or self.sets)

    @property
    def matches_all(self) -> bool:
        """Whether a single filter matches every frame, so that none has to run."""
        return not self.names and self.filters[0].matches_all

    def for_interface(self, interface: str) -> Self:
        """Return the same, compiled for live traffic: see ``Filter.for_interface``."""
        return type(self)(tuple(f.for_interface(interface) for f in self.filters), self.names)


def _filter(wanted: str | Filter) -> Filter:
    if isinstance(wanted, Filter):
        return wanted
    if not isinstance(wanted, str):
        raise OptionError(
            f"filter {wanted!r}: must be an expression, a Filter, or a mapping of names to those",
            option="filter",
        )
    return Filter(wanted)
