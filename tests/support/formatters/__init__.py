"""Formatters in Python, from the decoded events: the reference for what C writes.

They share nothing with C but what a header has to say: the fields of ``conn.log`` and the columns
of CSV, in their order. The package itself writes JSON in both languages.
"""

from __future__ import annotations

from collections.abc import Iterable

from netring_bpf import FlowEnded, FlowEvent
from netring_bpf.formats.json import encode_event
from netring_bpf.formats.zeek import uid_key
from tests.support.formatters.csv import csv_line
from tests.support.formatters.eve import eve_line
from tests.support.formatters.zeek import zeek_json_line, zeek_line

__all__ = ["IN_PYTHON", "text_in_python"]

#: The formats that have a formatter here. The logs of applications are held to lines by hand.
IN_PYTHON = ("json", "zeek", "zeek-json", "eve", "csv")


def text_in_python(
    name: str,
    events: Iterable[FlowEvent],
    *,
    salt: str = "",
    interface: str | None = None,
    capture: str | None = None,
    seq: int | None = None,
    compress_ipv6: bool = False,
) -> bytes:
    """The events in the format ``name``, as a ``TextEncoder`` with these options writes them."""
    if name == "json":
        return b"".join(
            encode_event(
                event,
                interface=interface,
                capture=capture,
                seq=None if seq is None else seq + place,
            )
            + b"\n"
            for place, event in enumerate(events)
        )
    ended = (event for event in events if isinstance(event, FlowEnded))
    if name == "csv":
        return b"".join(csv_line(event, interface) for event in ended)
    if name == "eve":
        return b"".join(
            eve_line(event, interface=interface, compress_ipv6=compress_ipv6) for event in ended
        )
    line = {"zeek": zeek_line, "zeek-json": zeek_json_line}[name]
    key = uid_key(salt)
    return b"".join(line(event.flow, key) for event in ended)
