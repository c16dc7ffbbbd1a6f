"""Keys, VLANs and lengths beside scapy's reading of the same frames, good and mutated."""

from __future__ import annotations

import itertools
import random
import struct
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

from netring_bpf import FlowEnded, FlowOptions
from netring_bpf.filter.libpcap import Savefile
from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp
from tests.support.paths import ORACLES
from tests.support.replay import SECOND, START, Frame, replay
from tests.support.sizes import size

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what scapy's ciphers will become
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        IPv6ExtHdrSegmentRouting,
    )
    from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
    from scapy.packet import Packet

FRAMES = size(2_000, 100_000)
# Each frame is a flow of its own, which ends before the next; no first fragment is remembered.
ALONE = FlowOptions(
    idle_tcp=0.001, idle_udp=0.001, idle_icmp=0.001, idle_other=0.001, half_open=0.001,
    close_delay=0.0, port_timeouts=(), update_interval=None, directional=True, tunnel_depth=0,
    fragment_timeout=0.001,
)  # fmt: skip
V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")
TAGS = ((), (7,), (7, 8))
PORTS = struct.pack("!HH", 1, 2)
DATAGRAM = PORTS + struct.pack("!HH", 11, 0) + b"abc"
# TCP with a maximum segment size, SACK permitted, no operation and a window scale.
SEGMENT = PORTS + struct.pack("!IIBBHHH", 3, 4, 8 << 4, 2, 5, 0, 0) + bytes.fromhex(
    "020405b4 0402 01 030307 0000"
)  # fmt: skip
SRC, DST, NO_OPERATION, ROUTER_ALERT = b"\x0a\0\0\x01", b"\x0a\0\0\x02", b"\1", b"\x94\4\0\0"
HOP = ip_address("fd00::9").packed
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def ipv4(proto: int, body: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    words, length = 5 + len(options) // 4, 20 + len(options) + len(body)
    front = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 6, fragment, 64, proto, 0)
    return ethernet(0x0800, front + SRC + DST + options + body)


def ipv6(*chain: int, body: bytes, fragment: int = 0, segments_left: int = 0) -> bytes:
    """A packet whose headers follow the chain of protocols; the last is the transport."""
    headers = b""
    for kind, following in itertools.pairwise(chain):
        headers += {
            HOP_BY_HOP: bytes((following, 0, 5, 2, 0, 0, 1, 0)),  # a router alert
            ROUTING: bytes((following, 2, 0, segments_left)) + bytes(4) + HOP,
            FRAGMENT: struct.pack("!BBHI", following, 0, fragment, 6),
            DESTINATION: bytes((following, 1, 1, 12)) + bytes(12),  # padding
        }[kind]
    return ip(*V6, chain[0], headers + body)


def segments(count: int, *, left: int) -> bytes:
    """A packet by way of segments (RFC 8754)."""
    head = struct.pack("!BBBBBBH", 17, 2 * count, 4, left, count - 1, 0, 0)
    return ip(*V6, ROUTING, head + HOP * count + DATAGRAM)


def icmp(kind: int, code: int = 0, rest: bytes = bytes(4)) -> bytes:
    return bytes((kind, code, 0, 0)) + rest


# Each is compared as it is, whatever the version of scapy.
MADE = [
    *(tcp(*ends, 1, 2, b"abc", vlans=tags) for ends in (V4, V6) for tags in TAGS),
    *(udp(*ends, 1, 2, b"abc", vlans=tags) for ends in (V4, V6) for tags in TAGS),
    *(icmp_echo(*ends, 3, 4, vlans=tags) for ends in (V4, V6) for tags in TAGS),
    *(ip(*ends, 6, SEGMENT, vlans=tags) for ends in (V4, V6) for tags in TAGS),
    udp(*V4, 1, 2, b"x" * 1400),
    udp(*V6, 1, 2, b"x" * 1400, vlans=(1, 2, 3)),
    # IPv4: options, fragments, short transports.
    ipv4(17, DATAGRAM, options=ROUTER_ALERT),
    ipv4(6, SEGMENT, options=NO_OPERATION * 40),
    ipv4(17, DATAGRAM, fragment=0x2000),  # the first
    ipv4(17, DATAGRAM, fragment=0x2001),
    ipv4(6, SEGMENT, fragment=0x00B9),  # the last
    ipv4(6, SEGMENT[:8]),
    ipv4(17, DATAGRAM[:4]),
    ipv4(1, b"\x08\0"),
    # IPv6: chains of extension headers, fragments, short transports.
    ipv6(HOP_BY_HOP, 58, body=icmp(143)),
    ipv6(HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION, 6, body=SEGMENT),
    ipv6(ROUTING, 17, body=DATAGRAM),
    ipv6(ROUTING, 17, body=DATAGRAM, segments_left=1),
    segments(2, left=1),
    segments(2, left=0),
    segments(2, left=9),
    ipv6(DESTINATION, 132, body=PORTS + bytes(12)),
    ipv6(FRAGMENT, 17, body=DATAGRAM, fragment=1),  # the first
    ipv6(FRAGMENT, DESTINATION, 17, body=DATAGRAM),  # the only
    ipv6(HOP_BY_HOP, FRAGMENT, 6, body=SEGMENT, fragment=0x00B8),  # the last
    ipv6(6, body=SEGMENT[:8]),
    ipv6(DESTINATION, 17, body=DATAGRAM[:4]),
    # ICMP: answered, not answered, with the head of another packet.
    *(ipv4(1, icmp(kind, rest=bytes(16))) for kind in (0, 10, 13, 14)),
    ipv4(1, icmp(3, 1, bytes(4) + ipv4(17, DATAGRAM)[14:42])),
    ipv4(1, icmp(11, 0, bytes(4) + ipv4(6, SEGMENT)[14:42])),
    *(ipv6(58, body=icmp(kind, rest=bytes(20))) for kind in (129, 133, 134, 135, 136)),
    ipv6(58, body=icmp(1, 4, bytes(4) + ipv6(17, body=DATAGRAM)[14:65])),
    # Other transports, with ports and without.
    *(ipv4(proto, PORTS + bytes(12)) for proto in (132, 33, 136, 2, 47, 50, 89, 103)),
    *(ipv6(proto, body=PORTS + bytes(12)) for proto in (33, 136, 50, 89, 59)),
    # No IP.
    ethernet(0x0806, bytes.fromhex("0001080006040001") + bytes(20)),
    ethernet(0x88CC, bytes.fromhex("020704") + bytes(20)),
]
AUTHENTICATION = 51
MAX_EXTENSIONS = 16  # scapy follows any number
Told = tuple[object, ...]


def good_frames() -> list[bytes]:
    found = list(MADE)
    for path in sorted(p for p in ORACLES.rglob("*.pcap*") if p.suffix in {".pcap", ".pcapng"}):
        with Savefile(path) as file:
            if file.linktype == 1:
                frames = [f.data for f in file if 14 <= len(f.data) <= 1514]
                found += frames[: size(20, 200)]
    return found


def frames() -> Iterator[bytes]:
    """The good ones, then mutations of them: bytes of the headers changed, ends cut off."""
    source = random.Random(20_261_124)
    good = good_frames()
    yield from good
    for _ in range(FRAMES - len(good)):
        frame = bytearray(source.choice(good))
        for _ in range(source.choice((1, 1, 2, 4))):
            at = source.randrange(12, min(len(frame), 80))
            frame[at] = source.choice((source.randrange(256), frame[at] ^ 1 << source.randrange(8)))
        if source.random() < 0.2:
            del frame[source.randrange(14, len(frame) + 1) :]
        yield bytes(frame)


def by_us(all_frames: list[bytes]) -> list[Told | None]:
    # A fragment waits for the timeout, and is counted by the next frame.
    arp = ethernet(0x0806, bytes(28))
    at_its_time = [
        Frame(frame, START + n * SECOND + later)
        for n, data in enumerate(all_frames)
        for frame, later in ((data, 0), (arp, SECOND // 2))
    ]
    events, books = replay(at_its_time, ALONE)
    assert books.balanced
    told: list[Told | None] = [None] * len(all_frames)
    for event in events:
        if isinstance(event, FlowEnded):
            flow, key = event.flow, event.flow.key
            told[(flow.start - START) // SECOND] = (
                key.proto, key.orig.text, key.orig.port, key.resp.text, key.resp.port, key.vlans,
                flow.orig.ip_bytes,
            )  # fmt: skip
    return told


EXTENSIONS = (
    IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, IPv6ExtHdrSegmentRouting, IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)  # fmt: skip
# By type and length: to be sent on by each address in turn, and to a mobile node's home.
SOURCE_ROUTES = {(2, 2), *((0, length) for length in range(2, 256, 2))}
NOT_READ = {51, 60, 0, 43, 44, 135, 139, 140}  # extensions scapy has not stepped over


def by_scapy(frame: bytes) -> Told | str | None:
    """The key by scapy's layers, None for no flow, or the reason why scapy is not asked.

    scapy raises errors of any type on broken bytes, from layers and from fields read later.
    """
    try:
        return _by_layers(Ether(frame))
    except Exception as error:
        called = traceback.walk_tb(error.__traceback__)
        if any(f.f_globals["__name__"].startswith("scapy.") for f, _ in called):
            return "scapy raised"
        raise


def _by_layers(packet: Packet) -> Told | str | None:
    frame = bytes(packet.original)
    vlans: list[int] = []
    layer = packet.payload
    while isinstance(layer, Dot1Q | Dot1AD):
        if layer.vlan:  # 0 is a priority, and no VLAN
            vlans.append(layer.vlan)
        layer = layer.payload
    before = len(frame) - len(layer.original) if layer.original else len(frame)
    left = len(frame) - before
    kind = _ethertype(frame)
    if kind is None or kind not in {0x0800, 0x86DD}:
        return "not plain IP over Ethernet" if kind in _OTHERS or kind is None else None
    tags = tuple(vlans[:2])
    if kind == 0x0800:
        return _ipv4(layer, left, tags)
    return _ipv6(layer, left, tags)


# Ethertypes that we open and scapy reads in other ways, or not at all: labels, PPPoE, lengths.
_OTHERS = {0x8847, 0x8848, 0x8864, 0x9100, *range(0x600)}


def _ethertype(frame: bytes) -> int | None:
    """The ethertype behind at most eight tags, of those scapy knows."""
    at, tags = 12, 0
    while len(frame) >= at + 2:
        (kind,) = struct.unpack_from("!H", frame, at)
        if kind not in {0x8100, 0x88A8}:
            return int(kind)
        at, tags = at + 4, tags + 1
        if tags > 8:
            return None
    return None


def _ipv4(layer: Packet, left: int, tags: tuple[int, ...]) -> Told | str | None:
    if left < 20:
        return None
    if not isinstance(layer, IP):
        return "scapy chose another layer"
    header, total = (layer.ihl or 0) * 4, layer.len or left
    if layer.version != 4 or header < 20 or left < header or not header <= total <= left:
        return None
    if layer.proto == AUTHENTICATION and not layer.frag:
        return "an authentication header in IPv4, which scapy reads with its ciphers only"
    data = bytes(layer.original)[header:total]
    if layer.frag or layer.flags.MF:
        ports: tuple[int, int] | None = _fragment(layer.proto, data, 4, layer.frag)
    else:
        ports = _ports(layer.proto, data, 4)
    src, dst = ip_address(layer.src), ip_address(layer.dst)
    return None if ports is None else (
        layer.proto, str(src), ports[0], str(dst), ports[1], tags, total
    )  # fmt: skip


def _ipv6(layer: Packet, left: int, tags: tuple[int, ...]) -> Told | str | None:
    if left < 40:
        return None
    if not isinstance(layer, IPv6):
        return "scapy chose another layer"
    if layer.version != 6 or layer.plen > left - 40:
        return None
    if layer.plen == 0 and layer.nh == HOP_BY_HOP:
        return "a packet whose length may be in an option"
    unsized = left - 40 if left > 46 and layer.nh != 59 else 0  # else padding
    total = 40 + (layer.plen or unsized)
    proto, rest = layer.nh, bytes(layer.original)[40:total]
    src, dst = layer.src, layer.dst
    inner = layer.payload
    steps, fragment = 0, None
    while proto in NOT_READ:
        steps += 1
        if steps > MAX_EXTENSIONS:
            return "more extension headers than are followed"
        if not isinstance(inner, EXTENSIONS):
            return "an extension header that scapy does not step over"
        if isinstance(inner, IPv6ExtHdrFragment):
            if len(rest) < 8:
                return None
            if inner.offset:  # the rest is data
                return inner.nh, src, 0, str(ip_address(dst)), 0, tags, total
            fragment = inner if inner.m else None
            size = 8
        else:
            size = (rest[1] + 1) * 8 if len(rest) > 1 else 8
        if len(rest) < size:
            return None
        if isinstance(inner, IPv6ExtHdrRouting):
            if inner.len % 2:
                return "a routing header that scapy takes for shorter"
            if inner.segleft and inner.addresses and (inner.type, inner.len) in SOURCE_ROUTES:
                dst = inner.addresses[-1]  # where the packet goes in the end
        if isinstance(inner, IPv6ExtHdrSegmentRouting):
            if not inner.addresses:
                return "segments that scapy does not read"
            if 0 < inner.segleft <= inner.lastentry + 1 <= (size - 8) // 16:
                dst = inner.addresses[0]  # the list begins with the final one
        proto, rest, inner = inner.nh, rest[size:], inner.payload
    ports = _ports(proto, rest, 6) if fragment is None else _fragment(proto, rest, 6, 0)
    ends = str(ip_address(src)), str(ip_address(dst))
    return None if ports is None else (proto, ends[0], ports[0], ends[1], ports[1], tags, total)


def _fragment(proto: int, data: bytes, version: int, offset: int) -> tuple[int, int]:
    """Of a fragment: later ones have no ports, nor have first ones that end before them."""
    if offset:
        return 0, 0
    if proto in {6, 17, 132, 33, 136}:
        return struct.unpack("!HH", data[:4]) if len(data) >= 4 else (0, 0)
    return _ports(proto, data, version) or (0, 0)


def _ports(proto: int, data: bytes, version: int) -> tuple[int, int] | None:
    """By scapy's layers of the transport; None where it is too short or makes no sense."""
    if proto == 6:
        segment = TCP(data[:20]) if len(data) >= 20 else None  # without the options
        return None if segment is None else (segment.sport, segment.dport)
    if proto == 17:
        datagram = UDP(data) if len(data) >= 8 else None
        return None if datagram is None else (datagram.sport, datagram.dport)
    if (proto, version) in {(1, 4), (58, 6)}:
        if len(data) < 8:
            return None
        message = ICMP(data)  # both have type and code in front
        answered = (
            {8, 0, 13, 14, 15, 16, 17, 18, 9, 10} if version == 4
            else {*range(128, 132), *range(133, 137), 139, 140, 144, 145}
        )  # fmt: skip
        return message.type, 0 if message.type in answered else message.code
    if proto in {132, 33, 136}:
        header = 8 if proto == 136 else 12
        return None if len(data) < header else struct.unpack("!HH", data[:4])
    return 0, 0


def test_scapy_reads_the_same() -> None:
    all_frames = list(frames())
    ours = by_us(all_frames)
    differ = []
    not_compared: Counter[str] = Counter()
    for n, (frame, mine) in enumerate(zip(all_frames, ours, strict=True)):
        theirs = by_scapy(frame)
        if isinstance(theirs, str):
            assert n >= len(MADE), (frame.hex(), theirs)
            not_compared[theirs] += 1
        elif mine != theirs:
            differ.append((frame.hex(), mine, theirs))
    assert differ[:5] == []
    assert not_compared.total() < 0.2 * len(all_frames), not_compared
