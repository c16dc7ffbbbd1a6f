"""Suricata's EVE: flow events, with its field names.

Source: Suricata's documentation of the EVE JSON format, event type ``flow``.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Final

from netring_bpf.events.event import Flow, FlowEnd, FlowEnded, TcpState

__all__ = ["eve_line"]

_PROTOCOLS: Final = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "IPv6-ICMP", 132: "SCTP", 47: "GRE"}
_ICMP: Final = (1, 58)
_TCP: Final = 6
_REASONS: Final = {
    FlowEnd.FIN: "timeout",
    FlowEnd.RST: "timeout",
    FlowEnd.IDLE: "timeout",
    FlowEnd.ACTIVE: "forced",
    FlowEnd.REUSED: "tcp_reuse",
    FlowEnd.EVICTED: "forced",
    FlowEnd.SHUTDOWN: "shutdown",
}


def eve_line(event: FlowEnded) -> bytes:
    """The flow as one line."""
    return json.dumps(_record(event), separators=(",", ":")).encode() + b"\n"


def _record(event: FlowEnded) -> dict[str, object]:
    """The flow as Suricata has it. Times are UTC, with microseconds."""
    flow = event.flow
    key = flow.key
    record: dict[str, object] = {
        "timestamp": _time(event.ts),
        "flow_id": flow.id,
        "event_type": "flow",
        "src_ip": key.orig.text,
        "dest_ip": key.resp.text,
        "proto": _PROTOCOLS.get(key.proto, str(key.proto)),
    }
    if key.vlans:
        record["vlan"] = list(key.vlans)
    if key.proto in _ICMP:
        record["icmp_type"], record["icmp_code"] = key.orig.port, key.resp.port
    else:
        record["src_port"], record["dest_port"] = key.orig.port, key.resp.port
    if len(key.orig.packed) != 6:
        record["community_id"] = key.community_id()
    record["flow"] = {
        "pkts_toserver": flow.orig.packets,
        "pkts_toclient": flow.resp.packets,
        "bytes_toserver": flow.orig.bytes,
        "bytes_toclient": flow.resp.bytes,
        "start": _time(flow.start),
        "end": _time(flow.last),
        "age": flow.last // 1_000_000_000 - flow.start // 1_000_000_000,
        "state": _state(flow),
        "reason": _REASONS[event.reason],
        "alerted": False,
    }
    if key.proto == _TCP:
        record["tcp"] = {"state": _tcp_state(flow)}
    if flow.one_sided:
        record["one_sided"] = True  # Suricata has no such field
    return record


def _time(ns: int) -> str:
    moment = dt.datetime.fromtimestamp(ns // 1_000_000_000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000 % 1_000_000:06d}+0000"


def _state(flow: Flow) -> str:
    if flow.key.proto == _TCP:
        ends = {flow.orig.tcp_state, flow.resp.tcp_state}
        if TcpState.RESET in ends or ends == {TcpState.CLOSED}:
            return "closed"
        return "established" if ends & {TcpState.ESTABLISHED, TcpState.CLOSED} else "new"
    return "established" if flow.resp.packets else "new"


def _tcp_state(flow: Flow) -> str:
    orig, resp = flow.orig.tcp_state, flow.resp.tcp_state
    if TcpState.RESET in {orig, resp} or orig == resp == TcpState.CLOSED:
        return "closed"
    if TcpState.CLOSED in {orig, resp}:
        return "fin_wait1"
    if orig == resp == TcpState.ESTABLISHED:
        return "established"
    return "syn_sent" if orig == TcpState.SYN_SENT else "none"
