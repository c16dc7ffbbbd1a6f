"""Ethernet frames as bytes, with right lengths and checksums.

Addresses are text; whether a frame is IPv4 or IPv6 follows from them. ``vlans`` are VLAN ids,
outermost first: one is tagged 0x8100, of two the outer one 0x88a8. Frames shorter than 60 bytes
are padded, as a network card would.
"""

from __future__ import annotations

import functools
import ipaddress
import struct

SMAC = "02:00:00:00:00:0a"
DMAC = "02:00:00:00:00:0b"

_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_address = functools.lru_cache(maxsize=1024)(ipaddress.ip_address)
_TCP_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}


def udp(
    src: str,
    dst: str,
    sport: int,
    dport: int,
    payload: bytes = b"",
    *,
    vlans: tuple[int, ...] = (),
    smac: str = SMAC,
    dmac: str = DMAC,
) -> bytes:
    """Build a UDP datagram's frame."""
    length = 8 + len(payload)
    header = struct.pack("!HHH", sport, dport, length)
    # A sum of zero is sent as all ones: zero would mean that there is none.
    sum_ = checksum(_pseudo(src, dst, _UDP, length) + header + payload) or 0xFFFF
    return ip(src, dst, _UDP, header + struct.pack("!H", sum_) + payload, vlans, smac, dmac)


def tcp(
    src: str,
    dst: str,
    sport: int,
    dport: int,
    payload: bytes = b"",
    *,
    flags: str = "S",
    seq: int = 0,
    ack: int = 0,
    window: int = 65_535,
    vlans: tuple[int, ...] = (),
    smac: str = SMAC,
    dmac: str = DMAC,
) -> bytes:
    """Build a TCP segment's frame; ``flags`` are letters of ``FSRPAUEC``."""
    bits = sum(_TCP_FLAGS[letter] for letter in set(flags))
    fixed = struct.pack("!HHIIBBH", sport, dport, seq, ack, 5 << 4, bits, window)
    pseudo = _pseudo(src, dst, _TCP, 20 + len(payload))
    sum_ = checksum(pseudo + fixed + b"\0\0\0\0" + payload)
    return ip(src, dst, _TCP, fixed + struct.pack("!HH", sum_, 0) + payload, vlans, smac, dmac)


def icmp_echo(
    src: str,
    dst: str,
    ident: int,
    seq: int,
    payload: bytes = b"",
    *,
    reply: bool = False,
    vlans: tuple[int, ...] = (),
    smac: str = SMAC,
    dmac: str = DMAC,
) -> bytes:
    """Build an echo request's frame, or a reply's; ICMPv6 between IPv6 addresses."""
    if _address(src).version == 4:
        proto, kind, pseudo = _ICMP, 0 if reply else 8, b""
    else:
        proto, kind = _ICMP6, 129 if reply else 128
        pseudo = _pseudo(src, dst, proto, 8 + len(payload))
    rest = struct.pack("!HH", ident, seq) + payload
    head = struct.pack("!BB", kind, 0)
    sum_ = checksum(pseudo + head + b"\0\0" + rest)
    return ip(src, dst, proto, head + struct.pack("!H", sum_) + rest, vlans, smac, dmac)


def ip(
    src: str,
    dst: str,
    proto: int,
    body: bytes,
    vlans: tuple[int, ...] = (),
    smac: str = SMAC,
    dmac: str = DMAC,
) -> bytes:
    """Wrap ``body``, any IP protocol's message, into an IP packet and a frame."""
    source, target = _address(src), _address(dst)
    if source.version != target.version:
        raise ValueError(f"{src} and {dst} are of different IP versions")
    if source.version == 6:
        header = struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + source.packed + target.packed
        return ethernet(0x86DD, header + body, vlans, smac, dmac)
    front = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(body), 0, 0x4000, 64, proto)
    addresses = source.packed + target.packed
    sum_ = struct.pack("!H", checksum(front + b"\0\0" + addresses))
    return ethernet(0x0800, front + sum_ + addresses + body, vlans, smac, dmac)


def ethernet(
    ethertype: int,
    body: bytes,
    vlans: tuple[int, ...] = (),
    smac: str = SMAC,
    dmac: str = DMAC,
) -> bytes:
    """Put the link header and the VLAN tags in front, and the padding behind."""
    tags = b"".join(
        struct.pack("!HH", 0x8100 if depth == len(vlans) - 1 else 0x88A8, vlan)
        for depth, vlan in enumerate(vlans)
    )
    macs = bytes.fromhex(dmac.replace(":", "") + smac.replace(":", ""))
    return (macs + tags + struct.pack("!H", ethertype) + body).ljust(60, b"\0")


def checksum(data: bytes) -> int:
    """Compute the internet checksum (RFC 1071) of ``data``."""
    # The ones' complement sum is the whole number modulo 65535, because 2**16 is 1 modulo 65535;
    # only the two forms of zero need care.
    number = int.from_bytes(data + b"\0" * (len(data) % 2), "big")
    folded = number % 0xFFFF
    return 0xFFFF - (folded or (0xFFFF if number else 0))


def _pseudo(src: str, dst: str, proto: int, length: int) -> bytes:
    source, target = _address(src), _address(dst)
    tail = "!BBH" if source.version == 4 else "!I3xB"
    fields = (0, proto, length) if source.version == 4 else (length, proto)
    return source.packed + target.packed + struct.pack(tail, *fields)
