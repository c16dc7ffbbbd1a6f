"""The backends by name, the options of opening one, and the outcome of opening it.

This file is cheap to import: it loads neither pyroute2, nor libpcap, nor the C core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from netring_bpf.errors import OptionError

if TYPE_CHECKING:
    from netring_bpf.filter.filter_set import FilterSet
    from netring_bpf.ring.flow_options import FlowOptions
    from netring_bpf.ring.options import TpacketOptions, XdpOptions
    from netring_bpf.ring.reader import SharedSums

__all__ = ["BACKENDS", "Backend", "BackendOptions", "HasOpened", "Opened"]

Backend: TypeAlias = Literal["auto", "af_xdp", "tpacket_v3"]
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """The options of opening a backend, with the meaning they have in ``Capture``."""

    backend: Backend
    filter: FilterSet
    steal: bool
    xdp: XdpOptions
    tpacket: TpacketOptions
    flow: FlowOptions
    sums: SharedSums | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise OptionError(
                f"backend={self.backend!r}: must be one of {', '.join(BACKENDS)}",
                option="backend",
            )


@dataclass(frozen=True, slots=True)
class Opened:
    """The backend in use and how it was opened; ``HasOpened`` gives each field's meaning.

    The defaults are the values before opening.
    """

    backend: str = ""
    attach: str | None = None
    attach_reason: str | None = None
    fallback_reason: str | None = None
    notices: tuple[str, ...] = ()
    zero_copy: bool = False
    xdp: XdpOptions | None = None


class HasOpened(ABC):
    """The fields of an ``Opened`` as properties of the object that holds it."""

    @property
    @abstractmethod
    def opened(self) -> Opened:
        """The backend in use and how it was opened, as one value."""

    @property
    def backend(self) -> str:
        """The backend in use: ``"af_xdp"``, ``"tpacket_v3"``, or ``"file"`` of a replay.

        Empty before a capture is opened.
        """
        return self.opened.backend

    @property
    def attach(self) -> str | None:
        """``"native"`` or ``"generic"`` XDP; None with other backends."""
        return self.opened.attach

    @property
    def attach_reason(self) -> str | None:
        """The reason for which native XDP was refused; None if it was not."""
        return self.opened.attach_reason

    @property
    def fallback_reason(self) -> str | None:
        """The reason for which ``backend="auto"`` took TPACKET_V3; None if it did not."""
        return self.opened.fallback_reason

    @property
    def notices(self) -> tuple[str, ...]:
        """The points in which the capture differs from its options, with the reasons.

        They are about memory, CPUs and busy polling. The log has them too. ``stop()`` and
        ``close()`` can add one.
        """
        return self.opened.notices

    @property
    def zero_copy(self) -> bool:
        """Whether AF_XDP shares its memory with the driver, instead of copying."""
        return self.opened.zero_copy

    @property
    def xdp(self) -> XdpOptions | None:
        """The options of AF_XDP in force, with the chosen sizes; None with other backends."""
        return self.opened.xdp
