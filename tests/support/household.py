"""Frames of a home: who asks for which name, and how much comes back."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.support.frames import tcp, udp

__all__ = ["DEVICES", "ROUTER", "client_hello", "dhcp", "download", "lookup"]

ROUTER = ("3c:a6:2f:00:00:01", "192.168.7.1")
#: Name, MAC address, and IP address; the phone made its MAC address up.
DEVICES = (
    ("television", "8c:71:f8:00:00:21", "192.168.7.38"),
    ("phone", "da:a1:19:00:00:23", "192.168.7.37"),
    ("raspberrypi", "b8:27:eb:00:00:22", "192.168.7.29"),
    ("nas", "00:11:32:00:00:44", "192.168.7.12"),
    ("printer", "3c:2a:f4:00:00:51", "192.168.7.50"),
)


def _sized(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


def client_hello(name: bytes) -> bytes:
    """A TLS record with a ClientHello that asks for this name, whatever its bytes are."""
    server_name = struct.pack("!HH", 0, len(name) + 5) + _sized(b"\x00" + _sized(name, 2), 2)
    versions = struct.pack("!HH", 43, 3) + b"\x02\x03\x04"
    body = b"\x03\x03" + bytes(32) + _sized(b"", 1) + _sized(b"\x13\x01\x13\x02", 2)
    body += _sized(b"\x00", 1) + _sized(server_name + versions, 2)
    return b"\x16\x03\x01" + _sized(b"\x01" + _sized(body, 3), 2)


def download(
    station: tuple[str, str],
    server: str,
    port: int,
    request: bytes,
    size: int,
    *,
    server_port: int = 443,
    gateway: tuple[str, str] = ROUTER,
    upload: int = 0,
) -> Iterator[bytes]:
    """A connection by TCP, from its first packet to its last: a request, and ``size`` bytes.

    ``upload``: as many bytes go the other way before them.
    """
    mac, address = station
    there = {"smac": mac, "dmac": gateway[0]}
    back = {"smac": gateway[0], "dmac": mac}

    def up(flags: str, seq: int, ack: int, data: bytes = b"") -> bytes:
        return tcp(address, server, port, server_port, data, flags=flags, seq=seq, ack=ack, **there)

    def down(flags: str, seq: int, ack: int, data: bytes = b"") -> bytes:
        return tcp(server, address, server_port, port, data, flags=flags, seq=seq, ack=ack, **back)

    asked = 1001 + len(request)
    yield up("S", 1000, 0)
    yield down("SA", 5000, 1001)
    yield up("A", 1001, 5001)
    yield up("PA", 1001, 5001, request)
    while upload > 0:
        part = min(upload, 1400)
        yield up("PA", asked, 5001, bytes(part))
        asked += part
        upload -= part
    at = 5001
    while size > 0:
        part = min(size, 1400)
        yield down("PA", at, asked, bytes(part))
        at += part
        size -= part
        if (at - 5001) // 1400 % 4 == 0:
            yield up("A", asked, at)
    yield down("FA", at, asked)
    yield up("FA", asked, at + 1)
    yield down("A", at + 1, asked + 1)


def _labels(name: bytes) -> bytes:
    return b"".join(_sized(part, 1) for part in name.split(b".")) + b"\0"


def lookup(station: tuple[str, str], name: bytes, address: str, port: int) -> Iterator[bytes]:
    """A question to the router, and its answer."""
    mac, own = station
    asked = _labels(name) + struct.pack("!HH", 1, 1)
    head = struct.pack("!HHHHHH", port, 0x0100, 1, 0, 0, 0)
    yield udp(own, ROUTER[1], port, 53, head + asked, smac=mac, dmac=ROUTER[0])
    head = struct.pack("!HHHHHH", port, 0x8180, 1, 1, 0, 0)
    data = bytes(map(int, address.split(".")))
    answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 300, 4) + data
    yield udp(ROUTER[1], own, 53, port, head + asked + answer, smac=ROUTER[0], dmac=mac)


def dhcp(station: tuple[str, str], name: bytes) -> Iterator[bytes]:
    """The station asks the router for its address once more, tells its name, and gets it."""
    mac, address = station
    own = bytes.fromhex(mac.replace(":", ""))
    transaction = int.from_bytes(own[2:], "big")

    def packed(text: str) -> bytes:
        return bytes(map(int, text.split(".")))

    def message(op: int, given: bytes, options: bytes) -> bytes:
        head = struct.pack("!BBBBIHH", op, 1, 6, 0, transaction, 0, 0) + bytes(4) + given + bytes(8)
        return head + own + bytes(10 + 64 + 128) + b"\x63\x82\x53\x63" + options + b"\xff"

    wants = b"\x35\x01\x03" + b"\x0c" + _sized(name, 1)
    yield udp(address, ROUTER[1], 68, 67, message(1, bytes(4), wants), smac=mac, dmac=ROUTER[0])
    router = packed(ROUTER[1])
    gives = b"\x35\x01\x05\x36\x04" + router + b"\x01\x04\xff\xff\xff\x00\x03\x04" + router
    yield udp(
        ROUTER[1], address, 67, 68, message(2, packed(address), gives), smac=ROUTER[0], dmac=mac
    )
