"""Flow events as C writes them (``nr_event`` of ``api.h``) made into records."""

from __future__ import annotations

import math
import struct

from netring_bpf._core import ffi, lib
from netring_bpf.events.event import (
    Counters,
    Endpoint,
    FirstPacket,
    FiveTuple,
    Flow,
    FlowEnded,
    FlowEvent,
    PacketStatistics,
    Spread,
    Tunnel,
)
from netring_bpf.events.layout import ENDS, KINDS, NO_VLAN, TUNNELS, Layout

__all__ = ["decode"]


def _event_of(addresses: str) -> struct.Struct:
    """``nr_event`` of ``api.h`` without its tunnel, whose values are read where there is one."""
    return struct.Struct(f"=3Q 8x 8Q6I 8Q6I {addresses} 40x HHHHH xBBBBx II BBB5x 40s")


# By nr_event.family: as long as addresses of that family are.
_EVENTS = {4: _event_of("4s12x4s12x"), 6: _event_of("16s16s"), 0: _event_of("6s10x6s10x")}
_PARENT = struct.Struct("=Q")
_TUNNEL = struct.Struct("=16s16sHHI")
_STATISTICS = struct.Struct("=4d2Q2I")
_FIRST_PACKET = struct.Struct("=Qi4x")
_SIZE = _EVENTS[4].size
if ffi.sizeof("nr_event") != _SIZE:
    raise ImportError("netring_bpf._core is of another version than the package; build it again")
_FAMILY_AT = ffi.offsetof("nr_event", "family")
_TUNNEL_FAMILY_AT = ffi.offsetof("nr_event", "tunnel_family")
_TUNNEL_AT = ffi.offsetof("nr_event", "tunnel_orig_h")
_PARENT_AT = ffi.offsetof("nr_event", "parent_id")
_ADDRESS_SIZE = {4: 4, 6: 16, 0: 6}
_ENDED = int(lib.NR_EVENT_ENDED)
_make = tuple.__new__  # of a named tuple: half the time of its own class called


def decode(raw: bytes, at: int, layout: Layout) -> FlowEvent:
    """Return the event that begins at this byte: 1.4 µs, of which 0.3 are ``unpack_from``."""
    values = _EVENTS[raw[at + _FAMILY_AT]].unpack_from(raw, at)
    ts, flow_id, start = values[:3]
    orig, resp = _make(Counters, values[3:17]), _make(Counters, values[17:31])
    orig_h, resp_h, orig_p, resp_p, outer, inner, icmp_id = values[31:38]
    proto, kind, end, tunnel_kind, network, icmp_errors, error_type, error_code = values[38:46]
    vlans: tuple[int, ...] = ()
    if not outer == inner == NO_VLAN:
        vlans = tuple(vlan for vlan in (outer, inner) if vlan != NO_VLAN)
    last = max(resp.last, orig.last)
    key = (
        proto,
        _make(Endpoint, (orig_h, orig_p)),
        _make(Endpoint, (resp_h, resp_p)),
        vlans,
        icmp_id,
        network - 1 if network else None,
    )
    flow = (
        flow_id,
        _make(FiveTuple, key),
        start,
        max(start, last),
        orig,
        resp,
        values[47].rstrip(b"\0").decode("ascii"),
        _tunnel(raw, at, tunnel_kind) if tunnel_kind else None,
        icmp_errors,
        (error_type, error_code) if icmp_errors else None,
        _both_statistics(raw, at, orig, resp) if layout.statistics else None,
        _first_packets(raw, at, layout, values[46]) if values[46] else (),
    )
    if kind == _ENDED:
        return _make(FlowEnded, (ts, _make(Flow, flow), ENDS[end]))
    return _make(KINDS[kind], (ts, _make(Flow, flow)))


def _tunnel(raw: bytes, at: int, kind: int) -> Tunnel:
    orig_h, resp_h, orig_p, resp_p, ident = _TUNNEL.unpack_from(raw, at + _TUNNEL_AT)
    size = _ADDRESS_SIZE[raw[at + _TUNNEL_FAMILY_AT]]
    return Tunnel(
        TUNNELS[kind],
        ident,
        Endpoint(orig_h[:size], orig_p),
        Endpoint(resp_h[:size], resp_p),
        *_PARENT.unpack_from(raw, at + _PARENT_AT),
    )


def _both_statistics(
    raw: bytes, at: int, orig: Counters, resp: Counters
) -> tuple[PacketStatistics, PacketStatistics]:
    behind = at + _SIZE
    return (
        _packet_statistics(raw, behind, orig.packets),
        _packet_statistics(raw, behind + _STATISTICS.size, resp.packets),
    )


def _first_packets(raw: bytes, at: int, layout: Layout, count: int) -> tuple[FirstPacket, ...]:
    behind = at + _SIZE + 2 * layout.statistics * _STATISTICS.size
    return tuple(
        FirstPacket(length, gap)
        for gap, length in _FIRST_PACKET.iter_unpack(
            raw[behind : behind + count * _FIRST_PACKET.size]
        )
    )


def _packet_statistics(raw: bytes, at: int, packets: int) -> PacketStatistics:
    size_mean, size_m2, gap_mean, gap_m2, gap_min, gap_max, size_min, size_max = (
        _STATISTICS.unpack_from(raw, at)
    )
    return PacketStatistics(
        Spread(size_min, size_mean, size_max, math.sqrt(size_m2 / packets) if packets else 0.0),
        Spread(gap_min, gap_mean, gap_max, math.sqrt(gap_m2 / (packets - 1)) if packets > 1 else 0),
    )
