"""Batches of events with application records, made by hand."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from netring_bpf import FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.layout import Layout
from netring_bpf.ring.reader import Reader

__all__ = ["answer", "batch_of", "record"]


def record(*fields: tuple[str, int | str | bytes]) -> bytes:
    """Return the bytes of a record: names as ``"SERVER_NAME"``; text is UTF-8."""
    return b"".join(
        struct.pack("=BxH", getattr(lib, f"NR_FIELD_{name}"), len(value)) + value
        for name, value in ((name, _bytes(value)) for name, value in fields)
    )


def _bytes(value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return struct.pack("=I", value)
    return value.encode() if isinstance(value, str) else value


def answer(
    type: int, data: bytes, *, ttl: int = 60, owner: bytes = b"", chained: bool = True
) -> bytes:
    """Return the value of a field ``ANSWER``."""
    return struct.pack("=IHBB", ttl, type, chained, len(owner)) + owner + data


def batch_of(events: Iterable[tuple[dict[str, object], bytes]]) -> EventBatch:
    """Return a batch of events, each given as the fields of its ``nr_event`` and its record."""
    given = list(events)
    size = ffi.sizeof("nr_event")
    natives, records = [], b""
    for native, app in given:
        at = len(given) * size + len(records)
        natives.append({"kind": lib.NR_EVENT_APP, "app_at": at, "app_size": len(app)} | native)
        records += app
    raw = bytes(ffi.buffer(ffi.new("nr_event[]", natives))) + records
    return EventBatch(raw, _layout(), len(given))


@functools.cache
def _layout() -> Layout:
    """The layout of a reader whose events have nothing behind them."""
    with Reader(FlowOptions()) as reader:
        return reader.take(1)._layout
