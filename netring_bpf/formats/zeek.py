"""Zeek's logs: their fields, their headers, and the key from which their ``uid`` follows.

Source: Zeek's documentation of the ``Info`` record of each log, and of the ASCII log writer. A
header leaves out the time of writing, so that a file gives the same bytes each time; ``opened``
adds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["FIELDS", "HEADER", "LOGS", "header", "uid_key"]

_HEAD: Final = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
}
FIELDS: Final = {
    **_HEAD,
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
_APPS: Final[dict[str, dict[str, str]]] = {
    "ssl": {
        **_HEAD,
        "version": "string",
        "cipher": "string",
        "curve": "string",
        "server_name": "string",
        "resumed": "bool",
        "next_protocol": "string",
        "ja3": "string",  # of a package for Zeek, as the next one
        "ja4": "string",
    },
    "http": {
        **_HEAD,
        "trans_depth": "count",
        "method": "string",
        "host": "string",
        "uri": "string",
        "version": "string",
        "user_agent": "string",
        "status_code": "count",
        "status_msg": "string",
    },
    "dns": {
        **_HEAD,
        "proto": "enum",
        "trans_id": "count",
        "rtt": "interval",
        "query": "string",
        "qclass": "count",
        "qclass_name": "string",
        "qtype": "count",
        "qtype_name": "string",
        "rcode": "count",
        "rcode_name": "string",
        "AA": "bool",
        "TC": "bool",
        "RD": "bool",
        "RA": "bool",
        "Z": "count",
        "answers": "vector[string]",
        "TTLs": "vector[interval]",
        "opcode": "count",
        "opcode_name": "string",
    },
    "quic": {
        **_HEAD,
        "version": "string",
        "server_name": "string",
        "client_protocol": "string",
    },
    "dhcp": {
        "ts": "time",
        "uids": "set[string]",
        "client_addr": "addr",
        "server_addr": "addr",
        "mac": "string",
        "host_name": "string",
        "client_fqdn": "string",
        "domain": "string",
        "requested_addr": "addr",
        "assigned_addr": "addr",
        "lease_time": "interval",
        "msg_types": "vector[string]",
        "duration": "interval",
        "trans_id": "count",  # not in Zeek: it tells which lines belong together
    },
    "ssh": {**_HEAD, "version": "count", "client": "string", "server": "string"},
}
#: Zeek's name of each log, and its fields with their types.
LOGS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType({"conn": FIELDS, **_APPS})


def header(log: str, *, opened: str | None = None) -> bytes:
    """Return the lines before the first record of a log. ``opened``: when, in Zeek's form."""
    fields = LOGS[log]
    lines = [
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        f"#path\t{log}",
        *([] if opened is None else [f"#open\t{opened}"]),
        "\t".join(("#fields", *fields)),
        "\t".join(("#types", *fields.values())),
    ]
    return "".join(line + "\n" for line in lines).encode()


HEADER: Final = header("conn")


def uid_key(salt: str) -> tuple[int, int]:
    """Return the key for a salt, which may be any text.

    Captures with different salts have no ``uid`` in common.
    """
    import hashlib  # noqa: PLC0415 - other formats need none

    digest = hashlib.sha256(salt.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
