"""Suricata's EVE: flow events, with its field names.

Sources: Suricata's documentation of the EVE JSON format, event type ``flow``; its schema; and the
states of its TCP engine, which follow those of the server (RFC 9293, 3.3.2).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
from typing import Final

from netring_bpf.events.community_id import icmp_counterpart
from netring_bpf.events.event import Endpoint, Flow, FlowEnd, FlowEnded, TcpState

__all__ = ["PROTOCOLS", "eve_line"]

# By their numbers, which are IANA's.
_NAMES: Final = """
    HOPOPT ICMP IGMP GGP IP-in-IP ST TCP CBT EGP IGP BBN-RCC-MON NVP-II PUP ARGUS EMCON XNET CHAOS
    UDP MUX DCN-MEAS HMP PRM XNS-IDP TRUNK-1 TRUNK-2 LEAF-1 LEAF-2 RDP IRTP ISO-TP4 NETBLT MFE-NSP
    MERIT-INP DCCP 3PC IDPR XTP DDP IDPR-CMTP TP++ IL IPv6 SDRP IPv6-Route IPv6-Frag IDRP RSVP GRE
    DSR BNA ESP AH I-NLSP SwIPe NARP MOBILE TLSP SKIP IPv6-ICMP IPv6-NoNxt IPv6-Opts Any CFTP Any
    SAT-EXPAK KRYPTOLAN RVD IPPC Any SAT-MON VISA IPCU CPNX CPHB WSN PVP BR-SAT-MON SUN-ND WB-MON
    WB-EXPAK ISO-IP VMTP SECURE-VMTP VINES TTP NSFNET-IGP DGP TCF EIGRP OSPF Sprite-RPC LARP MTP
    AX.25 OS MICP SCC-SP ETHERIP ENCAP Any GMTP IFMP PNNI PIM ARIS SCPS QNX A/N IPComp SNP
    Compaq-Peer IPX-in-IP VRRP PGM Any L2TP DDX IATP STP SRP UTI SMP SM PTP IS-IS FIRE CRTP CRUDP
    SSCOPMCE IPLT SPS PIPE SCTP FC RSVP-E2E-IGNORE Mobility UDPLite MPLS-in-IP manet HIP Shim6
    WESP ROHC Ethernet
"""
PROTOCOLS: Final = tuple(_NAMES.split())
_ICMP: Final = (1, 58)
_TCP: Final = 6
_PORTS: Final = (6, 17, 132)
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_FLAGS: Final = {
    "syn": _SYN, "fin": _FIN, "rst": _RST, "psh": 8, "ack": _ACK, "urg": 32, "ecn": 64, "cwr": 128,
}  # fmt: skip
_REASONS: Final = {
    FlowEnd.FIN: "timeout",
    FlowEnd.RST: "timeout",
    FlowEnd.IDLE: "timeout",
    FlowEnd.ACTIVE: "forced",
    FlowEnd.REUSED: "tcp_reuse",
    FlowEnd.EVICTED: "forced",
    FlowEnd.SHUTDOWN: "shutdown",
}
_APPS: Final = {
    **{name: name for name in (
        "tls", "quic", "http", "http2", "dns", "mdns", "dhcp", "ssh", "mqtt", "ntp", "rdp", "smb",
        "smtp", "imap", "pop3", "ftp", "ldap",
    )},
    "postgresql": "pgsql",
}  # fmt: skip
_MOST: Final = 2**53 - 1


def eve_line(
    event: FlowEnded, *, interface: str | None = None, compress_ipv6: bool = False
) -> bytes:
    """The flow as one line."""
    record = _record(event, interface, compress_ipv6)
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _record(event: FlowEnded, interface: str | None, compress_ipv6: bool) -> dict[str, object]:
    """The flow as Suricata has it. Times are UTC, with microseconds."""
    flow = event.flow
    key = flow.key
    is_ip = len(key.orig.packed) != 6
    record: dict[str, object] = {
        "timestamp": _time(event.ts),
        "flow_id": min(flow.id, _MOST),
    }
    if flow.tunnel is not None and flow.tunnel.flow_id:
        record["parent_id"] = min(flow.tunnel.flow_id, _MOST)
    if interface is not None:
        record["in_iface"] = interface
    record["event_type"] = "flow"
    if key.vlans:
        record["vlan"] = list(key.vlans)
    if is_ip:
        for name, end in (("src", key.orig), ("dest", key.resp)):
            record[f"{name}_ip"] = _address(end, compress_ipv6)
            if key.proto in _PORTS:
                record[f"{name}_port"] = end.port
        record["ip_v"] = 4 if len(key.orig.packed) == 4 else 6
        named = key.proto < len(PROTOCOLS)
        record["proto"] = PROTOCOLS[key.proto] if named else str(key.proto)
        if key.proto in _ICMP:
            record.update(_icmp(flow))
    else:
        record["ether"] = {"src_mac": key.orig.text, "dest_mac": key.resp.text}
    record.update(_app_proto(flow))
    record["flow"] = {
        "pkts_toserver": min(flow.orig.packets, _MOST),
        "pkts_toclient": min(flow.resp.packets, _MOST),
        "bytes_toserver": min(flow.orig.bytes, _MOST),
        "bytes_toclient": min(flow.resp.bytes, _MOST),
        "start": _time(flow.start),
        "end": _time(flow.last),
        "age": flow.last // 1_000_000_000 - flow.start // 1_000_000_000,
        "state": _state(flow),
        "reason": _REASONS[event.reason],
        "alerted": False,
    }
    if flow.one_sided:
        record["metadata"] = {"flowbits": ["one_sided"]}
    if is_ip:
        record["community_id"] = key.community_id()
    if key.proto == _TCP and is_ip:
        record["tcp"] = _tcp(flow)
    return record


def _app_proto(flow: Flow) -> dict[str, str]:
    app = flow.app
    if app is None or app.protocol not in _APPS:
        return {}
    names = {"app_proto": _APPS[app.protocol]}
    if app.carrier in _APPS:
        names["app_proto_orig"] = _APPS[app.carrier]
    return names


def _time(ns: int) -> str:
    moment = dt.datetime.fromtimestamp(ns // 1_000_000_000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000 % 1_000_000:06d}+0000"


def _address(end: Endpoint, compress_ipv6: bool) -> str:
    if len(end.packed) == 16 and not compress_ipv6:
        return ipaddress.IPv6Address(end.packed).exploded
    return end.text


def _icmp(flow: Flow) -> dict[str, object]:
    key = flow.key
    fields = {"icmp_type": key.orig.port, "icmp_code": key.resp.port}
    if flow.resp.packets:
        answer = icmp_counterpart(key.proto, key.orig.port)
        fields |= {"response_icmp_type": answer or 0, "response_icmp_code": 0}
    return dict(fields)


def _tcp(flow: Flow) -> dict[str, object]:
    orig, resp = flow.orig.tcp_flags, flow.resp.tcp_flags
    fields: dict[str, object] = {
        "tcp_flags": f"{orig | resp:02x}",
        "tcp_flags_ts": f"{orig:02x}",
        "tcp_flags_tc": f"{resp:02x}",
    }
    fields |= {name: True for name, flag in _FLAGS.items() if (orig | resp) & flag}
    fields["state"] = _tcp_state(flow)
    if flow.resp.gaps:
        fields["tc_gap"] = True
    if flow.orig.gaps:
        fields["ts_gap"] = True
    return fields


def _state(flow: Flow) -> str:
    if flow.key.proto == _TCP:
        state = _tcp_state(flow)
        if state in {"none", "syn_sent", "syn_recv"}:
            return "new"
        return "closed" if state in {"time_wait", "last_ack", "closed"} else "established"
    return "established" if flow.resp.packets else "new"


def _tcp_state(flow: Flow) -> str:
    orig, resp = flow.orig, flow.resp
    states = {orig.tcp_state, resp.tcp_state}
    if TcpState.RESET in states:
        return "closed"
    if states == {TcpState.INACTIVE}:
        return "none"
    if TcpState.SYN_ACK_SENT in states:
        return "syn_recv"
    if resp.tcp_state == TcpState.INACTIVE and orig.tcp_flags & _SYN:
        return "syn_sent"
    if TcpState.CLOSED in states:
        return _closing_state(flow)
    if orig.tcp_state == TcpState.SYN_SENT:
        return "syn_sent"
    answered = resp.tcp_flags & _SYN
    return "syn_recv" if answered and not orig.tcp_flags & _ACK else "established"


def _closing_state(flow: Flow) -> str:
    orig, resp = flow.orig, flow.resp
    if resp.tcp_state != TcpState.CLOSED:
        return "close_wait"
    if orig.tcp_state != TcpState.CLOSED:
        return "fin_wait2" if resp.fin_acked else "fin_wait1"
    if (orig.tcp_flags | resp.tcp_flags) & _RST:
        return "closed"
    if not _responder_closed_first(flow.history):
        return "closed" if resp.fin_acked else "last_ack"
    acked = bool(orig.fin_acked) + bool(resp.fin_acked)
    return ("closing", "time_wait", "closed")[acked]


def _responder_closed_first(history: str) -> bool:
    ends = [place for place, letter in enumerate(history) if letter in "Ff"]
    if not ends:
        return False
    flips = history[ends[0] :].count("^")
    return (history[ends[0]] == "f") ^ bool(flips % 2)
