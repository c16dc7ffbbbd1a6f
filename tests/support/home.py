"""A home as a capture: a few devices, a router, and what they ask the world for. No randomness."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from scapy.layers.dhcp import BOOTP, DHCP

from tests.native.app.hellos import client_hello, record, server_hello, server_name
from tests.support.frames import ethernet, icmp_echo, tcp, udp
from tests.support.replay import SECOND, START, Frame

__all__ = ["DEVICES", "home_frames"]

ROUTER = "3c:a6:2f:00:00:01"
#: MAC address, last byte of the IPv4 address and name, as DHCP tells it.
DEVICES = (
    ("8c:71:f8:00:00:21", 38, "television"),
    ("da:a1:19:00:00:23", 37, "phone"),
    ("b8:27:eb:00:00:22", 29, "raspberrypi"),
    ("00:17:88:00:00:31", 41, "hue-bridge"),
    ("f4:8c:50:00:00:42", 52, "laptop"),
)
SITES = (
    ("cdn.video.example", "203.0.113.10", 40_000, 0),
    ("www.example.org", "198.51.100.7", 6_000, 1),
    ("updates.example.org", "198.51.100.8", 9_000, 2),
    ("bridge.lights.example", "198.51.100.9", 900, 3),
    ("mail.example.net", "192.0.2.25", 2_500, 4),
    ("photos.example.net", "192.0.2.26", 14_000, 1),
    ("code.example.com", "203.0.113.77", 8_000, 4),
)


def _arp(mac: str, address: str) -> bytes:
    packed, asked = bytes(map(int, address.split("."))), bytes([192, 168, 7, 1])
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body += bytes.fromhex(mac.replace(":", "")) + packed + bytes(6) + asked
    return ethernet(0x0806, body, smac=mac, dmac="ff:ff:ff:ff:ff:ff")


def _dhcp(mac: str, name: str) -> bytes:
    station = bytes.fromhex(mac.replace(":", ""))
    asked = BOOTP(chaddr=station, xid=int.from_bytes(station[2:], "big")) / DHCP(
        options=[("message-type", "request"), ("hostname", name.encode()), "end"]
    )
    return udp(
        "0.0.0.0", "255.255.255.255", 68, 67, bytes(asked), smac=mac, dmac="ff:ff:ff:ff:ff:ff"
    )


def _visit(
    at: int, mac: str, address: str, port: int, name: str, server: str, size: int
) -> Iterator[Frame]:
    """A connection by TLS that brings so many bytes within a second."""
    there = {"smac": mac, "dmac": ROUTER}
    back = {"smac": ROUTER, "dmac": mac}
    hello = record(client_hello(server_name(name.encode())))
    answer = record(server_hello())
    step = SECOND // 50

    def up(n: int, flags: str, seq: int, ack: int, data: bytes = b"") -> Frame:
        made = tcp(address, server, port, 443, data, flags=flags, seq=seq, ack=ack, **there)  # type: ignore[arg-type]
        return Frame(made, at + n * step)

    def down(n: int, flags: str, seq: int, ack: int, data: bytes = b"") -> Frame:
        made = tcp(server, address, 443, port, data, flags=flags, seq=seq, ack=ack, **back)  # type: ignore[arg-type]
        return Frame(made, at + n * step)

    yield up(0, "S", 100, 0)
    yield down(1, "SA", 500, 101)
    yield up(2, "A", 101, 501)
    yield up(3, "PA", 101, 501, hello)
    seq, asked = 501, 101 + len(hello)
    yield down(4, "PA", seq, asked, answer)
    seq += len(answer)
    n = 5
    while size > 0:
        data = bytes(min(size, 1400))
        yield down(n, "A", seq, asked, data)
        seq, size, n = seq + len(data), size - len(data), n + 1
    yield up(n, "A", asked, seq)
    yield up(n + 1, "FA", asked, seq)
    yield down(n + 2, "FA", seq, asked + 1)
    yield up(n + 3, "A", asked + 1, seq + 1)


def home_frames(seconds: int = 120, *, hostile: bytes | None = None) -> list[Frame]:
    """The frames of so many seconds, in order. ``hostile``: a name that somebody visits too."""
    frames = [
        Frame(make, START + n * SECOND // 10)
        for n, (mac, last, name) in enumerate(DEVICES)
        for make in (_arp(mac, f"192.168.7.{last}"), _dhcp(mac, name))
    ]
    frames.append(Frame(_arp(ROUTER, "192.168.7.1"), START))
    for second in range(seconds):
        at = START + (second + 1) * SECOND
        for n, (name, server, size, who) in enumerate(SITES):
            if second % (2 * n + 1):
                continue
            mac, last, _ = DEVICES[who]
            much = int(size * (1.2 + math.sin(second / 7 + n)))
            frames += _visit(
                at + n * 7_000_000, mac, f"192.168.7.{last}", 40_000 + second * 8 + n,
                name, server, much,
            )  # fmt: skip
        mac, last, _ = DEVICES[second % len(DEVICES)]
        echo = icmp_echo(f"192.168.7.{last}", "192.168.7.1", 9, second, bytes(48), smac=mac,
                         dmac=ROUTER)  # fmt: skip
        frames.append(Frame(echo, at + 500_000_000))
    if hostile is not None:
        mac, last, _ = DEVICES[4]
        frames += _visit(
            START + SECOND, mac, f"192.168.7.{last}", 39_999, hostile.decode("latin-1"),
            "192.0.2.99", 500,
        )  # fmt: skip
    return sorted(frames, key=lambda frame: frame.ts)
