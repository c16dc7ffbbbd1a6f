"""A capture in words: its filter, and the options that differ from their defaults."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from netring_bpf.capture.backend import Opened
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.version import __version__

if TYPE_CHECKING:
    from netring_bpf.filter.filter_set import FilterLike

__all__ = ["changed_options", "describe", "filter_text"]

_LONGEST: Final = 200  # characters of an option's value


def describe(
    interface: str,
    opened: Opened,
    *,
    since: int,
    filter: str | None,
    options: tuple[tuple[str, str], ...],
    link_up: bool,
) -> CaptureInfo:
    """Return what the capture is, as it was opened."""
    return CaptureInfo(
        version=__version__,
        interface=interface,
        backend=opened.backend,
        attach=opened.attach,
        filter=filter,
        since=since,
        options=options,
        notices=opened.notices,
        link_up=link_up,
    )


def filter_text(filter: FilterLike) -> str | None:
    """Return the text of a filter; None if it takes all packets."""
    if filter is None or isinstance(filter, str):
        return filter or None
    if isinstance(filter, Mapping):
        return " or ".join(f"({filter_text(one) or ''})" for one in filter.values())
    return filter.expression or None


def changed_options(
    given: Mapping[str, object], defaults: Mapping[str, object]
) -> tuple[tuple[str, str], ...]:
    """Return the options that differ from their defaults, by name, as text.

    A field of a group of options is named ``group.field``. A group whose default is none has all
    fields that differ from the group's own defaults, or its name alone.
    """
    return tuple(
        (name, text)
        for option, value in given.items()
        if value is not None
        for name, text in _changed(option, value, defaults.get(option))
    )


def _changed(option: str, value: object, default: object) -> Iterator[tuple[str, str]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fresh = default if isinstance(default, type(value)) else type(value)()
        found = [
            (f"{option}.{field.name}", _text(getattr(value, field.name)))
            for field in dataclasses.fields(value)
            if field.init and getattr(value, field.name) != getattr(fresh, field.name)
        ]
        yield from found or ([] if fresh is default else [(option, "True")])
    elif value != default:
        yield option, _text(value)


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        made = str(value.value)
    elif isinstance(value, type):
        made = value.__name__
    elif isinstance(value, str | PurePath):
        made = str(value)
    elif isinstance(value, tuple | list):
        made = ", ".join(map(_text, value))
    else:
        made = repr(value)
    return made if len(made) <= _LONGEST else f"{made[: _LONGEST - 1]}…"
