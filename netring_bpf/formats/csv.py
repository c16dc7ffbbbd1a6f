"""Flows as comma-separated values (RFC 4180), for spreadsheets and data frames.

A line of names, then a line a flow. Times are nanoseconds; a missing value is an empty field.
"""

from __future__ import annotations

from typing import Final

from netring_bpf.events.flow import Counters

__all__ = ["COLUMNS", "HEADER"]

COLUMNS: Final = (
    "start", "last", "duration", "proto", "orig_addr", "orig_port", "resp_addr", "resp_port",
    "vlan", "inner_vlan", "icmp_id", "network", "conn_state", "history", "reason",
    *(f"orig_{name}" for name in Counters._fields), *(f"resp_{name}" for name in Counters._fields),
    "icmp_errors", "tunnel", "tunnel_id", "community_id", "id", "one_sided",
)  # fmt: skip
HEADER: Final = (",".join(COLUMNS) + "\r\n").encode()
