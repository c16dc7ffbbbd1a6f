"""Community ID, version 1: a name for a flow that every tool computes alike, in each direction.

Source: the specification, github.com/corelight/community-id-spec.
"""

from __future__ import annotations

import struct

__all__ = ["community_id", "icmp_counterpart"]

_ICMP, _TCP, _UDP, _ICMP6, _SCTP = 1, 6, 17, 58, 132
_PORTS = {_TCP, _UDP, _SCTP}

# Each ICMP type that has an answer, with the type of the answer.
_COUNTERPARTS = {
    _ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    _ICMP6: {
        128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135,
        130: 131, 131: 130, 139: 140, 140: 139, 144: 145, 145: 144,
    },
}  # fmt: skip


def icmp_counterpart(proto: int, icmp_type: int) -> int | None:
    """Return the type that answers ``icmp_type``; None if there is no answer."""
    return _COUNTERPARTS[proto].get(icmp_type)


def community_id(
    proto: int, src: bytes, src_port: int, dst: bytes, dst_port: int, *, seed: int = 0
) -> str:
    """Return the identifier as ``"1:…"``. Addresses are 4 or 16 bytes, in network order.

    For ICMP the source port is the type, the destination port the code. Raises ``ValueError`` for
    addresses of another length and a seed outside 0 to 65535.
    """
    import base64  # noqa: PLC0415 - C makes most of them
    import hashlib  # noqa: PLC0415

    if len(src) not in {4, 16} or len(src) != len(dst):
        raise ValueError("community_id: addresses must both be of 4 or both of 16 bytes")
    if not 0 <= seed <= 0xFFFF:
        raise ValueError(f"community_id: seed={seed!r}: must be from 0 to 65535")
    one_way = False
    if proto in _COUNTERPARTS:
        answer = icmp_counterpart(proto, src_port)
        one_way = answer is None
        dst_port = dst_port if answer is None else answer
    if not one_way and (src, src_port) > (dst, dst_port):
        src, dst, src_port, dst_port = dst, src, dst_port, src_port
    data = struct.pack("!H", seed) + src + dst + bytes((proto, 0))
    if proto in _PORTS or proto in _COUNTERPARTS:
        data += struct.pack("!HH", src_port, dst_port)
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
