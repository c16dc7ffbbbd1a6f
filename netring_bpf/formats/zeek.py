"""Zeek's conn.log: the same fields, with the same names and meanings.

Source: Zeek's documentation of ``Conn::Info`` and of the ASCII log writer. What cannot be known
here (``service``, ``local_orig``) is unset, as in a Zeek that was not told. ``uid`` and
``tunnel_parents`` follow from the flow's number, so that a file gives the same each time.
"""

from __future__ import annotations

import json
from typing import Final

from netring_bpf.events.community_id import icmp_counterpart
from netring_bpf.events.event import Counters, Flow, FlowEnded
from netring_bpf.formats.uid import uid, uid_key

__all__ = ["ZeekJson", "ZeekTsv", "zeek_record"]

_FIELDS: Final = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "service": "string",
    "duration": "interval",
    "orig_bytes": "count",
    "resp_bytes": "count",
    "conn_state": "string",
    "local_orig": "bool",
    "local_resp": "bool",
    "missed_bytes": "count",
    "history": "string",
    "orig_pkts": "count",
    "orig_ip_bytes": "count",
    "resp_pkts": "count",
    "resp_ip_bytes": "count",
    "tunnel_parents": "set[string]",
    "ip_proto": "count",
    "vlan": "int",
    "inner_vlan": "int",
    "community_id": "string",
}
_PROTOCOLS: Final = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
_ICMP: Final = (1, 58)


def zeek_record(flow: Flow, uids: tuple[int, int]) -> dict[str, object]:
    """Return the flow as conn.log has it: Zeek's names, in Zeek's order; unset fields are left out.

    Times are in seconds. Packets with wrong checksums are not counted, as Zeek does not.
    ``uids``: the key of ``uid_key``.
    """
    key = flow.key
    proto = _PROTOCOLS.get(key.proto, "unknown_transport")
    orig_p, resp_p = _ports(flow, proto)
    record: dict[str, object] = {
        "ts": flow.start / 1e9,
        "uid": uid(flow.id, uids),
        "id.orig_h": key.orig.text,
        "id.orig_p": orig_p,
        "id.resp_h": key.resp.text,
        "id.resp_p": resp_p,
        "proto": proto,
    }
    if flow.duration > 0:
        record["duration"] = flow.duration / 1e9
        # What Zeek does not parse has no payload there.
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
        record["tunnel_parents"] = [uid(flow.tunnel.flow_id, uids)]
    record["ip_proto"] = key.proto
    record.update(zip(("vlan", "inner_vlan"), key.vlans, strict=False))
    if len(key.orig.packed) != 6:
        record["community_id"] = key.community_id()
    return record


def _believed(counters: Counters) -> int:
    return counters.packets - counters.bad_checksums


def _ports(flow: Flow, proto: str) -> tuple[int, int]:
    """ICMP: the type, and the type that answers it or else the code. Of unknown protocols: 0."""
    key = flow.key
    if proto == "icmp":
        answer = icmp_counterpart(key.proto, key.orig.port) if key.proto in _ICMP else None
        return key.orig.port, key.resp.port if answer is None else answer
    return (0, 0) if proto == "unknown_transport" else (key.orig.port, key.resp.port)


class ZeekTsv:
    """conn.log as Zeek's ASCII writer makes it, without the times of writing."""

    def __init__(self, salt: str = "") -> None:
        self._uids = uid_key(salt)

    def header(self) -> bytes:
        """The lines that name the fields and their types."""
        lines = (
            "#separator \\x09",
            "#set_separator\t,",
            "#empty_field\t(empty)",
            "#unset_field\t-",
            "#path\tconn",
            "\t".join(("#fields", *_FIELDS)),
            "\t".join(("#types", *_FIELDS.values())),
        )
        return "".join(line + "\n" for line in lines).encode()

    def line(self, event: FlowEnded) -> bytes:
        """The flow as one line."""
        record = zeek_record(event.flow, self._uids)
        start, duration = event.flow.start, event.flow.duration
        # From the nanoseconds: a float has not enough digits.
        record["ts"] = f"{start // 1_000_000_000}.{start // 1000 % 1_000_000:06d}"
        if "duration" in record:
            record["duration"] = f"{duration / 1e9:.6f}"
        return ("\t".join(_text(record.get(name)) for name in _FIELDS) + "\n").encode()


class ZeekJson:
    """conn.log as Zeek's JSON writer makes it: an object a line, times as numbers."""

    def __init__(self, salt: str = "") -> None:
        self._uids = uid_key(salt)

    def header(self) -> bytes:
        """Nothing."""
        return b""

    def line(self, event: FlowEnded) -> bytes:
        """The flow as one line."""
        record = zeek_record(event.flow, self._uids)
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ",".join(value) if isinstance(value, list) else str(value)
