"""Decodes flow events, which C writes as ``nr_event`` of ``api.h``, into records.

Each tuple of names below is the order in which a function here unpacks the values. ``format_of``
refuses every order but the one in memory.
"""

from __future__ import annotations

import ipaddress
import math
import struct
from functools import lru_cache
from typing import cast

from netring_bpf._core import ffi, lib
from netring_bpf.events.app import App
from netring_bpf.events.app_record import read_app
from netring_bpf.events.event import (
    AppEvent,
    Counters,
    Endpoint,
    FirstPacket,
    FiveTuple,
    Flow,
    FlowEnded,
    FlowEvent,
    NeighbourBy,
    NeighbourSeen,
    PacketStatistics,
    Spread,
    Tunnel,
)
from netring_bpf.events.layout import (
    COUNTERS,
    ENDS,
    FLOW_KINDS,
    NEIGHBOURS,
    NO_VLAN,
    TUNNELS,
    Layout,
    format_of,
)

__all__ = ["decode"]


_RESP = 3 + len(COUNTERS)  # where the values of the responder begin
_REST = _RESP + len(COUNTERS)
_SIDE = format_of("nr_event_side", tuple(COUNTERS.values())).format[1:]
_EVENT_FIELDS = (
    "ts", "flow_id", "start_ts", "orig", "resp", "orig_h", "resp_h", "orig_p", "resp_p", "vlan",
    "icmp_id", "proto", "kind", "end_reason", "tunnel_kind", "network", "icmp_errors",
    "icmp_error_type", "icmp_error_code", "first_packets", "one_sided", "app_protocol", "has_macs",
    "app_size", "mac_changes", "orig_mac", "resp_mac", "history",
)  # fmt: skip
_ADDRESS_SIZE = {4: 4, 6: 16, 0: 6}  # by nr_event.family


def _event_of(address_size: int) -> struct.Struct:
    """Return the reader of an event with addresses of this size, without its tunnel."""
    address = f"{address_size}s"
    codes = {"orig": _SIDE, "resp": _SIDE, "orig_h": address, "resp_h": address}
    return format_of("nr_event", _EVENT_FIELDS, codes)


_EVENTS = {family: _event_of(size) for family, size in _ADDRESS_SIZE.items()}
_TUNNEL = format_of(
    "nr_event",
    ("parent_id", "tunnel_orig_h", "tunnel_resp_h", "tunnel_orig_p", "tunnel_resp_p", "tunnel_id"),
)
_STATISTICS = format_of(
    "nr_packet_statistics",
    (
        "size_mean", "size_m2", "gap_mean_ns", "gap_m2", "gap_min_ns", "gap_max_ns", "size_min",
        "size_max",
    ),
)  # fmt: skip
_FIRST_PACKET = format_of("nr_first_packet", ("gap_ns", "size"))
_APP = format_of("nr_event", ("app_at", "app_size", "app_count"))
_SIZE = ffi.sizeof("nr_event")
_FAMILY_AT = ffi.offsetof("nr_event", "family")
_TUNNEL_FAMILY_AT = ffi.offsetof("nr_event", "tunnel_family")
_TOLD = format_of("nr_event", ("how", "prefix_length", "orig_mac"))
_ENDED = int(lib.NR_EVENT_ENDED)
_NEIGHBOUR = int(lib.NR_EVENT_NEIGHBOUR)
_APP_EVENT = int(lib.NR_EVENT_APP)
_NO_NAME = (None,)
_make = tuple.__new__  # faster than a call of the named tuple's class


@lru_cache(maxsize=1024)
def _history(letters: bytes) -> str:
    """Return the history as text; most flows have one of a few."""
    return letters.rstrip(b"\0").decode("ascii")


def decode(raw: bytes, at: int, layout: Layout) -> FlowEvent:
    """Return the event that begins at this byte."""
    values = _EVENTS[raw[at + _FAMILY_AT]].unpack_from(raw, at)
    ts, flow_id, start = values[:3]
    orig = _make(Counters, values[3:_RESP] + _NO_NAME)
    (
        orig_h, resp_h, orig_p, resp_p, outer, inner, icmp_id, proto, kind, end, tunnel_kind,
        network, icmp_errors, error_type, error_code, first_packets, one_sided, protocol, has_macs,
        app_size, mac_changes, orig_mac, resp_mac, history,
    ) = values[_REST:]  # fmt: skip
    app = resp_name = None
    if protocol or app_size:
        app, resp_name = _app(raw, at, protocol)
    resp = _make(Counters, values[_RESP:_REST] + (_NO_NAME if resp_name is None else (resp_name,)))
    vlans: tuple[int, ...] = ()
    if not outer == inner == NO_VLAN:
        vlans = tuple(vlan for vlan in (outer, inner) if vlan != NO_VLAN)
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
        max(start, orig.last, resp.last),
        orig,
        resp,
        _history(history),
        _tunnel(raw, at, tunnel_kind) if tunnel_kind else None,
        icmp_errors,
        (error_type, error_code) if icmp_errors else None,
        _both_statistics(raw, at, orig, resp) if layout.statistics else None,
        _first_packets(raw, at, layout, first_packets) if first_packets else (),
        one_sided != 0,
        (orig_mac, resp_mac) if has_macs else None,
        mac_changes,
        app,
        ENDS[end] if kind == _ENDED else None,
    )
    if kind == _ENDED:
        return _make(FlowEnded, (ts, _make(Flow, flow), flow[-1]))
    if kind == _APP_EVENT:
        return AppEvent(ts, _make(Flow, flow), app or App(""))
    if kind == _NEIGHBOUR:
        return cast("FlowEvent", _neighbour(raw, at, ts, orig_h, vlans))
    return _make(FLOW_KINDS[kind], (ts, _make(Flow, flow)))


def _neighbour(
    raw: bytes, at: int, ts: int, address: bytes, vlans: tuple[int, ...]
) -> NeighbourSeen:
    how, prefix_length, mac = _TOLD.unpack_from(raw, at)
    by = NEIGHBOURS[how]
    return NeighbourSeen(
        ts,
        ipaddress.ip_address(address),
        mac.hex(":"),
        by,
        vlans,
        prefix_length if by is NeighbourBy.PREFIX else None,
    )


def _app(raw: bytes, at: int, protocol: int) -> tuple[App | None, str | None]:
    """Return the protocol inside the flow, and the responder's name, from the record."""
    begin, size, count = _APP.unpack_from(raw, at)
    return read_app(protocol, count, raw[begin : begin + size] if size else b"")


def _tunnel(raw: bytes, at: int, kind: int) -> Tunnel:
    parent, orig_h, resp_h, orig_p, resp_p, ident = _TUNNEL.unpack_from(raw, at)
    size = _ADDRESS_SIZE[raw[at + _TUNNEL_FAMILY_AT]]
    return Tunnel(
        TUNNELS[kind],
        ident,
        Endpoint(orig_h[:size], orig_p),
        Endpoint(resp_h[:size], resp_p),
        parent,
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
