"""Frames for the benchmarks: each everyday filter matches one of them."""

from __future__ import annotations

import ipaddress
import struct

__all__ = ["SAMPLES"]

_MACS = bytes.fromhex("02000000000b02000000000a")
_GROUP = bytes.fromhex("01005e00000102000000000a")


def _ip(src: str, dst: str, proto: int, body: bytes) -> bytes:
    source, target = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    if len(source) == 16:
        return (
            b"\x86\xdd"
            + struct.pack("!IHBB", 6 << 28, len(body), proto, 64)
            + (source + target + body)
        )
    head = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(body), 0, 64, proto, 0)
    return b"\x08\x00" + head + source + target + body


def _udp(sport: int, dport: int) -> bytes:
    return struct.pack("!HHHH", sport, dport, 108, 0) + bytes(100)


def _tcp(dport: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 4000, dport, 1, 0, 0x50, 2, 1000, 0, 0) + bytes(100)


SAMPLES = (
    _MACS + _ip("10.0.0.1", "10.0.0.2", 17, _udp(4000, 53)),
    _MACS + _ip("10.0.0.1", "10.0.0.2", 6, _tcp(80)),
    _MACS + _ip("10.0.0.1", "10.0.0.2", 6, _tcp(443)),
    _MACS + b"\x81\x00\x00\x64" + _ip("10.0.0.1", "10.0.0.2", 6, _tcp(80)),
    _MACS + _ip("2001:db8::1", "2001:db8::2", 17, _udp(4000, 53)),
    _MACS + _ip("10.0.0.1", "10.0.0.2", 1, bytes([8]) + bytes(107)),
    _MACS + _ip("2001:db8::1", "2001:db8::2", 58, bytes([128]) + bytes(107)),
    _MACS + b"\x08\x06" + bytes(46),
    _GROUP + _ip("10.0.0.1", "224.0.0.1", 17, _udp(4000, 53)),
    _MACS + _ip("192.168.0.1", "10.0.1.50", 17, _udp(4000, 53)),
)
