"""The code numbers of ``nr_event`` of ``api.h``, and how its events lie in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netring_bpf._core import lib
from netring_bpf.events.event import (
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    TunnelKind,
)

__all__ = ["ENDS", "KINDS", "NO_VLAN", "TUNNELS", "Layout", "mask_of", "slice_of"]

KINDS: dict[int, type[FlowEvent]] = {
    lib.NR_EVENT_STARTED: FlowStarted,
    lib.NR_EVENT_ESTABLISHED: FlowEstablished,
    lib.NR_EVENT_UPDATED: FlowUpdated,
    lib.NR_EVENT_ENDED: FlowEnded,
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
}
NO_VLAN = int(lib.NR_NO_VLAN)


@dataclass(frozen=True, slots=True)
class Layout:
    """Of the events of one reader: their size, and what follows each ``nr_event``."""

    size: int
    statistics: bool
    first_packets: int


def mask_of(kinds: Iterable[type[FlowEvent]]) -> int:
    """Return the kinds as C takes them: a bit for each."""
    return sum(1 << _NUMBERS[kind] for kind in set(kinds))


def slice_of(rows: range) -> slice:
    """Return the slice that takes these rows: one that ends before the first has no number."""
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)
