"""The formats of text for flow events: one table, and everything reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, get_args

from netring_bpf.events.event import AppEvent, CoreEvent, FlowEnded
from netring_bpf.formats import csv, zeek

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of text, made in C (``batch_text.py``).

    ``kinds``: the events it has records for. ``terminator``: ends each record. ``header``: stands
    before the first record.
    """

    name: str
    kinds: tuple[type[CoreEvent], ...]
    terminator: bytes = b"\n"
    header: bytes = b""


_ALL: Final[tuple[type[CoreEvent], ...]] = get_args(CoreEvent)
_ENDED: Final = (FlowEnded,)

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format("json", _ALL),
            Format("zeek", _ENDED, header=zeek.HEADER),
            Format("zeek-json", _ENDED),
            Format("eve", (FlowEnded, AppEvent)),
            Format("csv", _ENDED, terminator=b"\r\n", header=csv.HEADER),
            *(
                Format(f"zeek-{log}", (AppEvent,), header=zeek.header(log))
                for log in zeek.LOGS
                if log != "conn"
            ),
        )
    }
)
