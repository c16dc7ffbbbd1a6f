"""The code numbers of ``nr_event`` of ``api.h``, and its layout in memory.

The C core itself tells the layout, through cffi: this file has no offset and no size of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from types import MappingProxyType
from typing import Any, Final

from netring_bpf._core import ffi, lib
from netring_bpf.events.event import (
    AppEvent,
    CoreEvent,
    Counters,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    NeighbourBy,
    NeighbourSeen,
    TunnelKind,
)

__all__ = [
    "COUNTERS",
    "ENDS",
    "FLOW_KINDS",
    "KINDS",
    "NEIGHBOURS",
    "NO_VLAN",
    "TUNNELS",
    "Layout",
    "format_of",
    "mask_of",
    "slice_of",
]

FLOW_KINDS: Final[Mapping[int, type[FlowEvent]]] = {
    lib.NR_EVENT_STARTED: FlowStarted,
    lib.NR_EVENT_ESTABLISHED: FlowEstablished,
    lib.NR_EVENT_UPDATED: FlowUpdated,
    lib.NR_EVENT_ENDED: FlowEnded,
    lib.NR_EVENT_APP: AppEvent,
}
KINDS: Final[Mapping[int, type[CoreEvent]]] = {
    **FLOW_KINDS,
    lib.NR_EVENT_NEIGHBOUR: NeighbourSeen,
}
_NUMBERS = {kind: number for number, kind in KINDS.items()}
ENDS = {
    lib.NR_END_FIN: FlowEnd.FIN,
    lib.NR_END_RST: FlowEnd.RST,
    lib.NR_END_IDLE: FlowEnd.IDLE,
    lib.NR_END_ACTIVE: FlowEnd.ACTIVE,
    lib.NR_END_REUSED: FlowEnd.REUSED,
    lib.NR_END_EVICTED: FlowEnd.EVICTED,
    lib.NR_END_SHUTDOWN: FlowEnd.SHUTDOWN,
}
TUNNELS = {
    lib.NR_TUNNEL_IP: TunnelKind.IP,
    lib.NR_TUNNEL_GRE: TunnelKind.GRE,
    lib.NR_TUNNEL_ERSPAN: TunnelKind.ERSPAN,
    lib.NR_TUNNEL_VXLAN: TunnelKind.VXLAN,
    lib.NR_TUNNEL_GENEVE: TunnelKind.GENEVE,
    lib.NR_TUNNEL_GTPU: TunnelKind.GTPU,
    lib.NR_TUNNEL_TEREDO: TunnelKind.TEREDO,
    lib.NR_TUNNEL_AYIYA: TunnelKind.AYIYA,
    lib.NR_TUNNEL_VXLAN_GPE: TunnelKind.VXLAN_GPE,
    lib.NR_TUNNEL_MPLS: TunnelKind.MPLS,
    lib.NR_TUNNEL_ETHERIP: TunnelKind.ETHERIP,
    lib.NR_TUNNEL_L2TP: TunnelKind.L2TP,
    lib.NR_TUNNEL_CAPWAP: TunnelKind.CAPWAP,
    lib.NR_TUNNEL_LISP: TunnelKind.LISP,
}
NEIGHBOURS = {
    lib.NR_HOW_ARP_REQUEST: NeighbourBy.ARP_REQUEST,
    lib.NR_HOW_ARP_REPLY: NeighbourBy.ARP_REPLY,
    lib.NR_HOW_ARP_ANNOUNCED: NeighbourBy.ARP_ANNOUNCED,
    lib.NR_HOW_NDP_SOLICITED: NeighbourBy.NDP_SOLICITED,
    lib.NR_HOW_NDP_ADVERTISED: NeighbourBy.NDP_ADVERTISED,
    lib.NR_HOW_ROUTER: NeighbourBy.ROUTER,
    lib.NR_HOW_PREFIX: NeighbourBy.PREFIX,
}
NO_VLAN = int(lib.NR_NO_VLAN)

_OTHER_NAMES = {"first": "first_ts", "last": "last_ts", "rtt": "rtt_ns", "state": "tcp_state"}
#: The fields of ``Counters`` but ``name``, and for each the field of ``nr_event_side``.
COUNTERS: Final = MappingProxyType(
    {name: _OTHER_NAMES.get(name, name) for name in Counters._fields if name != "name"}
)

_CODES: Final = {
    "uint64_t": "Q", "uint32_t": "I", "int32_t": "i", "uint16_t": "H", "uint8_t": "B",
    "double": "d",
}  # fmt: skip
_NO_CODES: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of one reader's events: their size, and the parts after each ``nr_event``."""

    size: int
    statistics: bool
    first_packets: int


def format_of(
    name: str, fields: Sequence[str], codes: Mapping[str, str] = _NO_CODES
) -> struct.Struct:
    """Return a ``Struct`` that reads these fields of the struct ``name`` of ``api.h``.

    ``codes``: the code for a field, instead of the one of its type. Raises ``ImportError`` if the
    fields have another order in C, as each value would go by the name of another.
    """
    c_type = ffi.typeof(name)
    found = [(field_name, field) for field_name, field in c_type.fields if field_name in fields]
    in_c = (field_name for field_name, _ in found)
    for have, want in zip_longest(in_c, fields, fillvalue="nothing"):
        if have != want:
            raise ImportError(
                f"{name} of netring_bpf._core has {have} where the package reads {want}; build "
                "the C core again, or read the fields in the order of ring/api.h"
            )
    parts, end = [], 0
    for field_name, field in found:
        code = codes.get(field_name) or _code_of(field.type)
        parts += ["x"] * (field.offset - end) + [code]
        end = field.offset + struct.calcsize(f"={code}")
    parts += ["x"] * (ffi.sizeof(c_type) - end)
    return struct.Struct(
        "=" + "".join(_repeated(code, len([*run])) for code, run in groupby(parts))
    )


def _repeated(code: str, times: int) -> str:
    """Return ``"8Q"`` for eight of ``"Q"``, which ``struct`` reads faster than eight codes."""
    return f"{times}{code}" if len(code) == 1 else code * times


def _code_of(c_type: Any) -> str:
    """Return the code of a C type: one value for an array of bytes, else a value an item."""
    if c_type.kind == "array":
        item = c_type.item
        code = "s" if ffi.sizeof(item) == 1 else _code_of(item)
        return f"{c_type.length}{code}"
    return _CODES[c_type.cname]


def mask_of(kinds: Iterable[type[CoreEvent]]) -> int:
    """Return the kinds as a bit mask, as C takes them."""
    return sum(1 << _NUMBERS[kind] for kind in set(kinds))


def slice_of(rows: range) -> slice:
    """Return the slice that takes these rows."""
    # A slice backwards to the first row has no end: -1 would be the last row.
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)
