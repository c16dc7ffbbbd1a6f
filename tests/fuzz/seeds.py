"""The fuzzers' first corpus: ``python -m tests.fuzz.seeds TARGET FOLDER``."""

from __future__ import annotations

import hashlib
import re
import struct
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from netring_bpf._core import lib
from netring_bpf.filter.libpcap import Savefile
from tests.fuzz import text_seeds
from tests.native.app.hellos import (
    alpn,
    client_hello,
    datagram_record,
    extension,
    fragment,
    key_share,
    record,
    server_hello,
    server_name,
    versions,
)
from tests.native.app.test_dhcp import discover, reply
from tests.native.app.test_dns import mdns, query
from tests.native.app.test_neighbours import MESSAGES
from tests.native.app.test_ssdp import ANSWER, NOTICE, SEARCH
from tests.native.source.test_savefile import FORMS
from tests.support.app_records import answer
from tests.support.app_records import record as fields
from tests.support.apps import EXAMPLES
from tests.support.encapsulations import LINKS, MACS, TAGS, TUNNELS
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.paths import ORACLES, ROOT

MAX_FILE = 16_384
MAX_FRAMES = 40  # of one capture
RING = ROOT / "netring_bpf" / "ring"


def link_numbers() -> dict[int, int]:
    """The links of link_types.h by their LINKTYPE_."""
    names = re.findall(r"^    (NR_LINK_\w+)", (RING / "link_types.h").read_text(), re.MULTILINE)
    rows = re.findall(r"\{(\d+), (NR_LINK_\w+)\}", (RING / "link_types.c").read_text())
    return {int(linktype): names.index(name) for linktype, name in rows}


def captures() -> list[Path]:
    """The captures that are here; may be none."""
    return sorted(p for p in ORACLES.rglob("*.pcap*") if p.suffix in {".pcap", ".pcapng"})


def frames() -> Iterator[tuple[int, bytes]]:
    """Link, as the C core numbers it, and frame."""
    numbers = link_numbers()
    yield 0, tcp("10.0.0.1", "10.0.0.2", 1, 80, flags="S")
    yield 0, udp("fd00::1", "fd00::2", 1, 53, b"x" * 20, vlans=(5, 6))
    yield 0, icmp_echo("10.0.0.1", "10.0.0.2", 1, 1)
    yield from ((numbers[linktype], frame) for linktype, frame in LINKS.values())
    yield from ((0, MACS + tail) for tail in TAGS.values())
    yield from ((0, row.frame) for row in TUNNELS.values())
    for path in captures():
        with Savefile(path) as file:
            for _, frame in zip(range(MAX_FRAMES), file, strict=False):
                if file.linktype in numbers:
                    yield numbers[file.linktype], frame.data[:1500]


def hellos() -> Iterator[bytes]:
    """Hellos, behind the byte that chooses their parser."""
    client = client_hello(server_name(b"a.example") + alpn(b"h2") + versions(0x0304, 0x0303))
    server = server_hello(key_share(29) + extension(43, b"\x03\x04"))
    datagram = client_hello(versions(0xFEFC, 0xFEFD), version=0xFEFD, cookie=b"")
    question = b"\x09\0\0\0\x03\x01\0\0"  # a record: a ticket without an ID
    yield from (b"\0" + record(hello) for hello in (client, server))
    yield from (b"\x08" + record(hello)[:60] for hello in (client, server))
    yield b"\0" + record(client[:20]) + record(client[20:])
    yield b"\x10" + question + record(server_hello()) + record(b"\x01", kind=20)
    yield from (b"\x01" + client, b"\x03" + client, b"\x01" + server, b"\x02" + datagram)
    yield b"\x04" + datagram_record(fragment(datagram, 0, 0, 20) + fragment(datagram, 0, 20))
    yield b"\x04" + datagram_record(b"\x02\x28", kind=21)


def datagrams() -> Iterator[bytes]:
    """Datagrams of one flow, each behind its kind and its length, as quic.c of this folder says."""

    def flow(*rows: tuple[int, bytes]) -> bytes:
        even = [(kind, data + bytes(-len(data) % 8)) for kind, data in rows]
        return b"".join(bytes((kind, len(data) // 8)) + data for kind, data in even)

    ack, close = b"\x02\x05\x00\x02\x01" + b"\x00\x01" * 2, b"\x1c\x00\x06\x03bye"
    with_ecn = b"\x03\x05\x00\x00\x01\x01\x02\x03"
    hello = bytes.fromhex("010000ed0303") + bytes(range(235))
    crypto = b"\x06\x00\x40" + bytes((len(hello),)) + hello
    server_id = b"\x09server id"
    yield flow((1, crypto), (3, ack + crypto + close), (1, with_ecn))
    yield flow((1, crypto), (2, b"\xff\0\0\0\x01\0" + server_id + bytes(40)), (1, crypto))
    yield flow((2, b"\x80\0\0\0\0\0" + server_id + b"\0\0\0\x01k3C\xcf"), (1, crypto))
    yield flow((0, b"\xd0k3C\xcf\x09server id\0\0\x40\x40" + bytes(64)))


def messages() -> Iterator[bytes]:
    """Ports, as dns.c numbers them, and a message of DNS, NetBIOS, DHCP or SSDP."""
    question = query("www.example.org")
    tail = b"\x20" + b"CA" * 16 + b"\0" + bytes((0, 32, 0, 1))
    netbios = bytes((0, 9, 1, 16, 0, 1)) + bytes(6) + tail
    yield bytes((1, 0)) + question
    yield bytes((0, 0)) + len(question).to_bytes(2, "big") + question
    yield bytes((1, 0o11)) + mdns()
    yield bytes((1, 0o33)) + netbios
    yield bytes((1, 0o44)) + discover()
    yield bytes((1, 0o55)) + reply()
    yield from (bytes((1, 0o66)) + data for data in (NOTICE, SEARCH, ANSWER))


def neighbours() -> Iterator[bytes]:
    """ARP and NDP, each behind what neighbours.c of this folder makes of them."""
    packets = [bytes(frame)[14:] for frame, _ in MESSAGES.values()]
    return (bytes([how]) + packet for packet in packets for how in range(8))


def files() -> Iterator[bytes]:
    """Capture files."""
    yield from FORMS.values()
    yield from (p.read_bytes() for p in captures() if p.stat().st_size <= MAX_FILE)


def packets() -> Iterator[bytes]:
    """Frames, each behind the options that dissect.c of this folder reads."""
    return (bytes((4, 0, link, 1, 0, 0, 0, 0)) + data for link, data in frames())


def records() -> Iterator[bytes]:
    """Application records, each behind what records.c of this folder makes its event of."""
    for native, sent in EXAMPLES.values():
        for kind in (0, 1):
            yield bytes([native["app_protocol"], 0, 0, kind, 1, 3, 2, 0]) + sent


def taught() -> Iterator[bytes]:
    """Exchanges that tell names, each behind what names.c of this folder reads."""

    def exchange(protocol: int, sent: bytes, step: int = 0, flags: int = 0) -> bytes:
        return struct.pack("<4B2H", protocol, flags, 1, 2, step, len(sent)) + sent

    asked = fields(
        ("QUERY", "A.Example."),
        ("ANSWER", answer(1, bytes([192, 0, 2, 2]), ttl=3600)),
        ("ANSWER", answer(28, bytes([192, 0, 2, 2]) + bytes(12))),
        ("ASKED_TS", bytes(8)),
    )
    told = fields(("ANSWER", answer(1, bytes([192, 0, 2, 2]), owner=b"lamp.local")))
    lease = fields(("HOST_NAME", "lamp"), ("ASSIGNED", bytes([192, 0, 2, 2])), ("LEASE", 60))
    server = fields(("SERVER_NAME", "b.example"), ("CIPHER", 0x1301))
    request = fields(("HOST", "c.example:80"), ("PATH", "/"), ("STATUS", 200))
    yield exchange(lib.NR_APP_DNS, asked) + exchange(lib.NR_APP_DNS, asked, 7, 1)
    yield exchange(lib.NR_APP_MDNS, told) + exchange(lib.NR_APP_NETBIOS, told, 9000)
    yield exchange(lib.NR_APP_DHCP, lease) + exchange(lib.NR_APP_DHCPV6, lease, 1, 2)
    yield exchange(lib.NR_APP_TLS, server) + exchange(lib.NR_APP_HTTP, request, 1)
    yield from (exchange(native["app_protocol"], sent) for native, sent in EXAMPLES.values())


def conversations() -> Iterator[bytes]:
    """Packets of flows, each behind the four bytes that app.c of this folder reads."""

    def packet(kind: int, data: bytes, step: int = 0) -> bytes:
        even = data + bytes(-len(data) % 8)
        return bytes((kind, step, 1, len(even) // 8)) + even

    hello, answer = record(client_hello(server_name(b"a.example"))), record(server_hello())
    request = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: %s\r\n\r\n" % bytes([65] * 9)
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    yield packet(0, hello) + packet(4, answer)
    yield packet(0, hello[:40]) + packet(0, hello[40:]) + packet(4, answer[:16]) + packet(4, b"")
    yield packet(1, request) + packet(1, request) + packet(5, response) + packet(5, response)
    for message in messages():
        yield packet(10, message[:2000]) + packet(14, message[:2000])
    yield packet(7, b"220 here ESMTP\r\n") + packet(3, b"STARTTLS\r\n") + packet(3, hello, 1)


SEEDS = {
    "app": conversations,
    "dissect": packets,
    "dns": messages,
    "names": taught,
    "neighbours": neighbours,
    "quic": datagrams,
    "records": records,
    "savefile": files,
    "tls": hellos,
    **{name: partial(text_seeds.seeds, name) for name in text_seeds.MESSAGES},
}


def main(target: str, folder: Path) -> None:
    """Write each seed under its own digest."""
    for seed in SEEDS.get(target, packets)():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
