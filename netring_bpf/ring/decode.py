"""Flow events as C writes them (``nr_event`` of ``api.h``) made into records."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from netring_bpf._core import ffi, lib
from netring_bpf.records import (
    Counters,
    Endpoint,
    FirstPacket,
    FiveTuple,
    Flow,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    PacketStatistics,
    Spread,
    Tunnel,
    TunnelKind,
)

__all__ = ["ENDS", "KINDS", "Layout", "decode"]

# nr_event of api.h, and what may follow it
_EVENT = struct.Struct("=4Q 8Q6I 8Q6I 16s16s16s16s HHI HHHHH BBBBBB II BBB5x 40s")
_STATISTICS = struct.Struct("=4d2Q2I")
_FIRST_PACKET = struct.Struct("=Qi4x")
if _EVENT.size != ffi.sizeof("nr_event"):
    raise ImportError("netring_bpf._core is of another version than the package; build it again")
KINDS: dict[int, type[FlowEvent]] = {
    lib.NR_EVENT_STARTED: FlowStarted,
    lib.NR_EVENT_ESTABLISHED: FlowEstablished,
    lib.NR_EVENT_UPDATED: FlowUpdated,
    lib.NR_EVENT_ENDED: FlowEnded,
}
_UNENDED: dict[int, type[FlowStarted | FlowEstablished | FlowUpdated]] = {
    lib.NR_EVENT_STARTED: FlowStarted,
    lib.NR_EVENT_ESTABLISHED: FlowEstablished,
    lib.NR_EVENT_UPDATED: FlowUpdated,
}
ENDS = {
    lib.NR_END_FIN: FlowEnd.FIN,
    lib.NR_END_RST: FlowEnd.RST,
    lib.NR_END_IDLE: FlowEnd.IDLE,
    lib.NR_END_ACTIVE: FlowEnd.ACTIVE,
    lib.NR_END_REUSED: FlowEnd.REUSED,
    lib.NR_END_EVICTED: FlowEnd.EVICTED,
    lib.NR_END_SHUTDOWN: FlowEnd.SHUTDOWN,
}
_TUNNELS = {
    lib.NR_TUNNEL_IP: TunnelKind.IP,
    lib.NR_TUNNEL_GRE: TunnelKind.GRE,
    lib.NR_TUNNEL_ERSPAN: TunnelKind.ERSPAN,
    lib.NR_TUNNEL_VXLAN: TunnelKind.VXLAN,
    lib.NR_TUNNEL_GENEVE: TunnelKind.GENEVE,
    lib.NR_TUNNEL_GTPU: TunnelKind.GTPU,
    lib.NR_TUNNEL_TEREDO: TunnelKind.TEREDO,
    lib.NR_TUNNEL_AYIYA: TunnelKind.AYIYA,
}
_ADDRESS_SIZE = {4: 4, 6: 16, 0: 6}


@dataclass(frozen=True, slots=True)
class Layout:
    """Of the events of one reader: their size, and what follows each ``nr_event``."""

    size: int
    statistics: bool
    first_packets: int


def decode(raw: bytes, at: int, layout: Layout) -> FlowEvent:
    """Return the event that begins at this byte."""
    values = _EVENT.unpack_from(raw, at)
    ts, flow_id, start, parent_id = values[:4]
    orig, resp = Counters._make(values[4:18]), Counters._make(values[18:32])
    orig_h, resp_h, tunnel_orig_h, tunnel_resp_h = values[32:36]
    tunnel_orig_p, tunnel_resp_p, tunnel_id = values[36:39]
    orig_p, resp_p, outer, inner, icmp_id = values[39:44]
    family, proto, kind, end, tunnel_kind, tunnel_family = values[44:50]
    network, icmp_errors, error_type, error_code, first_packets, history = values[50:56]
    size = _ADDRESS_SIZE[family]
    tunnel = None
    if tunnel_kind:
        tunnel_size = _ADDRESS_SIZE[tunnel_family]
        tunnel = Tunnel(
            _TUNNELS[tunnel_kind],
            tunnel_id,
            Endpoint(tunnel_orig_h[:tunnel_size], tunnel_orig_p),
            Endpoint(tunnel_resp_h[:tunnel_size], tunnel_resp_p),
            parent_id,
        )
    behind = at + _EVENT.size
    statistics = None
    if layout.statistics:
        statistics = (
            _packet_statistics(raw, behind, orig.packets),
            _packet_statistics(raw, behind + _STATISTICS.size, resp.packets),
        )
        behind += 2 * _STATISTICS.size
    flow = Flow(
        flow_id,
        FiveTuple(
            proto,
            Endpoint(orig_h[:size], orig_p),
            Endpoint(resp_h[:size], resp_p),
            tuple(vlan for vlan in (outer, inner) if vlan != lib.NR_NO_VLAN),
            icmp_id,
            network - 1 if network else None,
        ),
        start,
        max(start, orig.last, resp.last),
        orig,
        resp,
        history.rstrip(b"\0").decode("ascii"),
        tunnel,
        icmp_errors,
        (error_type, error_code) if icmp_errors else None,
        statistics,
        tuple(
            FirstPacket(length, gap)
            for gap, length in _FIRST_PACKET.iter_unpack(
                raw[behind : behind + first_packets * _FIRST_PACKET.size]
            )
        ),
    )
    if kind == lib.NR_EVENT_ENDED:
        return FlowEnded(ts, flow, ENDS[end])
    return _UNENDED[kind](ts, flow)


def _packet_statistics(raw: bytes, at: int, packets: int) -> PacketStatistics:
    size_mean, size_m2, gap_mean, gap_m2, gap_min, gap_max, size_min, size_max = (
        _STATISTICS.unpack_from(raw, at)
    )
    return PacketStatistics(
        Spread(size_min, size_mean, size_max, math.sqrt(size_m2 / packets) if packets else 0.0),
        Spread(gap_min, gap_mean, gap_max, math.sqrt(gap_m2 / (packets - 1)) if packets > 1 else 0),
    )
