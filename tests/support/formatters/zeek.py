"""Zeek's conn.log: the same fields, with the same names and meanings.

Source: Zeek's documentation of ``Conn::Info`` and of the ASCII log writer. ``local_orig`` is
unset, as in a Zeek that was not told. ``uid`` and ``tunnel_parents`` follow
from the flow's number, so that a file gives the same each time.
"""

from __future__ import annotations

import json
from typing import Final

from netring_bpf.events.community_id import icmp_counterpart
from netring_bpf.events.event import Counters, Flow
from netring_bpf.formats.zeek import FIELDS
from tests.support.formatters.uid import uid

__all__ = ["zeek_json_line", "zeek_line"]

_PROTOCOLS: Final = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_ICMP: Final = (1, 58)
_SERVICES: Final = {
    "tls": "ssl", "mdns": "dns", "llmnr": "dns", "netbios": "dns",
    **{name: name for name in (
        "dtls", "quic", "http", "dns", "dhcp", "ssh", "mqtt", "ntp", "rdp", "smb", "smtp",
        "bittorrent", "imap", "pop3", "ftp", "xmpp", "mysql", "postgresql",
    )},
}  # fmt: skip


def _record(flow: Flow, key: tuple[int, int]) -> dict[str, object]:
    """The flow in Zeek's names and order, without the fields that are unset; times in seconds.

    As in Zeek, packets with wrong checksums do not count. ``key``: of ``uid``.
    """
    ends = flow.key
    proto = _PROTOCOLS.get(ends.proto, "unknown_transport")
    orig_p, resp_p = _ports(flow, proto)
    record: dict[str, object] = {
        "ts": flow.start / 1e9,
        "uid": uid(flow.id, key),
        "id.orig_h": ends.orig.text,
        "id.orig_p": orig_p,
        "id.resp_h": ends.resp.text,
        "id.resp_p": resp_p,
        "proto": proto,
    }
    if service := _service(flow):
        record["service"] = service
    if flow.duration > 0:
        record["duration"] = flow.duration / 1e9
        # Zeek counts no payload of protocols that it does not parse.
        parsed = proto != "unknown_transport"
        record["orig_bytes"] = flow.orig.payload if parsed else 0
        record["resp_bytes"] = flow.resp.payload if parsed else 0
    record["conn_state"] = flow.conn_state
    record["missed_bytes"] = flow.orig.missing_bytes + flow.resp.missing_bytes
    if flow.history:
        record["history"] = flow.history
    for side, counters in (("orig", flow.orig), ("resp", flow.resp)):
        record[f"{side}_pkts"] = _believed(counters)
        record[f"{side}_ip_bytes"] = counters.ip_bytes
    if flow.tunnel is not None and flow.tunnel.flow_id:
        record["tunnel_parents"] = [uid(flow.tunnel.flow_id, key)]
    record["ip_proto"] = ends.proto
    record.update(zip(("vlan", "inner_vlan"), ends.vlans, strict=False))
    if len(ends.orig.packed) != 6:
        record["community_id"] = ends.community_id()
    return record


def _service(flow: Flow) -> str:
    """The protocols inside, by Zeek's names; the one that handed over first."""
    app = flow.app
    if app is None:
        return ""
    names = dict(_SERVICES, ldap="ldap_udp" if flow.key.proto == 17 else "ldap_tcp")
    return ",".join(names[name] for name in (app.carrier, app.protocol) if name in names)


def _believed(counters: Counters) -> int:
    return counters.packets - counters.bad_checksums - counters.fragments


def _ports(flow: Flow, proto: str) -> tuple[int, int]:
    """The ports; of ICMP the type, and its answer's type or else the code; else 0."""
    key = flow.key
    if proto == "icmp":
        answer = icmp_counterpart(key.proto, key.orig.port) if key.proto in _ICMP else None
        return key.orig.port, key.resp.port if answer is None else answer
    return (0, 0) if proto == "unknown_transport" else (key.orig.port, key.resp.port)


def zeek_line(flow: Flow, key: tuple[int, int]) -> bytes:
    """The flow as Zeek's ASCII writer has it."""
    record = _record(flow, key)
    # From the nanoseconds: a float has not enough digits.
    record["ts"] = f"{flow.start // 1_000_000_000}.{flow.start // 1000 % 1_000_000:06d}"
    if "duration" in record:
        record["duration"] = f"{flow.duration / 1e9:.6f}"
    return ("\t".join(_text(record.get(name)) for name in FIELDS) + "\n").encode()


def zeek_json_line(flow: Flow, key: tuple[int, int]) -> bytes:
    """The flow as Zeek's JSON writer has it: an object a line, times as numbers."""
    return json.dumps(_record(flow, key), separators=(",", ":")).encode() + b"\n"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ",".join(value) if isinstance(value, list) else str(value)
