"""Zeek's conn.log: its fields, its header, and the key from which its ``uid`` follows.

Source: Zeek's documentation of ``Conn::Info`` and of the ASCII log writer. The header leaves out
the time of writing, so that a file gives the same bytes each time.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["FIELDS", "HEADER", "uid_key"]

FIELDS: Final = {
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
HEADER: Final = "".join(
    line + "\n"
    for line in (
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        "#path\tconn",
        "\t".join(("#fields", *FIELDS)),
        "\t".join(("#types", *FIELDS.values())),
    )
).encode()


def uid_key(salt: str) -> tuple[int, int]:
    """Return the key for a salt, which may be any text.

    Captures with different salts have no ``uid`` in common.
    """
    digest = hashlib.sha256(salt.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
