"""Flows as comma-separated values (RFC 4180), for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from typing import Final

from netring_bpf.events.event import Counters, FlowEnded

__all__ = ["Csv"]

_SIDE: Final = Counters._fields
_COLUMNS: Final = (
    "start", "last", "duration", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port",
    "vlan", "inner_vlan", "icmp_id", "network", "conn_state", "history", "reason",
    *(f"orig_{name}" for name in _SIDE), *(f"resp_{name}" for name in _SIDE),
    "icmp_errors", "tunnel", "tunnel_id", "community_id", "id",
)  # fmt: skip


class Csv:
    """A line of names, then a line a flow; times are nanoseconds; what is not there is empty."""

    def __init__(self, salt: str = "") -> None:
        del salt  # nothing here must differ between captures

    def header(self) -> bytes:
        """The names of the columns."""
        return _line(_COLUMNS)

    def line(self, event: FlowEnded) -> bytes:
        """The flow as one line."""
        flow = event.flow
        key = flow.key
        vlans = (*key.vlans, "", "")
        return _line(
            (
                flow.start, flow.last, flow.duration, key.proto_name,
                key.orig.text, key.orig.port, key.resp.text, key.resp.port,
                vlans[0], vlans[1], key.icmp_id, key.network,
                flow.conn_state, flow.history, event.reason.value,
                *_side(flow.orig), *_side(flow.resp),
                flow.icmp_errors,
                flow.tunnel.kind.value if flow.tunnel else None,
                flow.tunnel.id if flow.tunnel else None,
                key.community_id() if len(key.orig.packed) != 6 else None,
                flow.id,
            )
        )  # fmt: skip


def _side(counters: Counters) -> tuple[object, ...]:
    return (*counters[:-1], counters.tcp_state.name.lower())


def _line(values: tuple[object, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue().encode()
