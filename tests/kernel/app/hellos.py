"""The hellos of TLS clients in a capture file, read once more, and their JA4."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Padding

from netring_bpf.filter.libpcap import Savefile

_Key: TypeAlias = tuple[str, str, int, int]
_PADDING, _PING, _CRYPTO = 0, 1, 6
_SERVER_NAME, _SIGNATURES, _ALPN, _VERSIONS = 0, 13, 16, 43
_NAMED = {0x0301: "10", 0x0302: "11", 0x0303: "12", 0x0304: "13"}


def fingerprints(file: Path) -> Mapping[str, set[str]]:
    """The JA4s of the clients that asked for each name, by QUIC or from a stream's first byte."""
    found: dict[str, set[str]] = defaultdict(set)
    for transport, hello in (*_streams(file), *_quic(file)):
        name, ja4 = _ja4(hello, transport)
        found[name].add(ja4)
    return found


# -- where hellos are --


def _packets(file: Path, layer: type[Packet]) -> Iterator[tuple[_Key, bytes]]:
    with Savefile(file) as frames:
        for frame in frames:
            packet = Ether(frame.data)
            if layer in packet:
                inside = packet[layer]
                ip = inside.underlayer
                yield (ip.src, ip.dst, inside.sport, inside.dport), _payload(inside)


def _payload(packet: Packet) -> bytes:
    """Without the padding of short frames."""
    return b"" if isinstance(packet.payload, Padding) else bytes(packet.payload.original)


def _streams(file: Path) -> Iterator[tuple[str, bytes]]:
    streams: dict[_Key, bytes] = defaultdict(bytes)
    for key, payload in _packets(file, TCP):
        streams[key] += payload
    for data in streams.values():
        if data[:1] == b"\x16" and data[5:6] == b"\x01":
            yield "t", data[5:]  # in one record, as everybody's


def _quic(file: Path) -> Iterator[tuple[str, bytes]]:
    """The hellos of clients whose first datagram is in the file."""
    pairs: dict[_Key, CryptoPair] = {}
    pieces: dict[_Key, dict[int, bytes]] = defaultdict(dict)
    for key, data in _packets(file, UDP):
        if key[3] != 443 or not data or not data[0] & 0x80:
            continue
        buffer = Buffer(data=data)
        header = pull_quic_header(buffer, host_cid_length=8)
        if header.packet_type != QuicPacketType.INITIAL:
            continue
        if key not in pairs:
            pairs[key] = CryptoPair()
            pairs[key].setup_initial(header.destination_cid, False, header.version)
        whole = data[: header.packet_length]
        plain = pairs[key].decrypt_packet(whole, buffer.tell(), 0)[1]
        pieces[key].update(_crypto_frames(plain))
    for parts in pieces.values():
        hello = b""
        for offset in sorted(parts):
            hello = hello[:offset] + parts[offset]
        yield "q", hello


def _crypto_frames(plain: bytes) -> Iterator[tuple[int, bytes]]:
    frames = Buffer(data=plain)
    while not frames.eof():
        kind = frames.pull_uint_var()
        if kind == _CRYPTO:
            offset = frames.pull_uint_var()
            yield offset, frames.pull_bytes(frames.pull_uint_var())
        elif kind not in {_PADDING, _PING}:
            return


# -- JA4 --


def _ja4(hello: bytes, transport: str) -> tuple[str, str]:
    """The server's name, and JA4 as FoxIO describes it."""
    body = Buffer(data=hello)
    assert body.pull_uint8() == 1
    end = int.from_bytes(body.pull_bytes(3)) + 4
    legacy = body.pull_uint16()
    body.pull_bytes(32)
    body.pull_bytes(body.pull_uint8())
    ciphers = _plain(_numbers(body.pull_bytes(body.pull_uint16())))
    body.pull_bytes(body.pull_uint8())
    assert body.pull_uint16() == end - body.tell()
    extensions = {}
    while body.tell() < end:
        number = body.pull_uint16()
        extensions[number] = body.pull_bytes(body.pull_uint16())
    versions = _plain(_numbers(extensions.get(_VERSIONS, b" ")[1:])) or [legacy]
    protocols = extensions.get(_ALPN, b"\0\0\x0200")
    first = protocols[3 : 3 + protocols[2]].decode()
    numbers = _plain(list(extensions))
    shown = sorted(f"{n:04x}" for n in numbers if n not in {_SERVER_NAME, _ALPN})
    signatures = _plain(_numbers(extensions.get(_SIGNATURES, b"")[2:]))
    behind = ",".join(shown) + "".join(
        ("_" if i == 0 else ",") + f"{n:04x}" for i, n in enumerate(signatures)
    )
    ja4 = (
        f"{transport}{_NAMED[max(versions)]}{'d' if _SERVER_NAME in extensions else 'i'}"
        f"{len(ciphers):02}{len(numbers):02}{first[0]}{first[-1]}"
        f"_{_digest(','.join(sorted(f'{n:04x}' for n in ciphers)))}_{_digest(behind)}"
    )
    return extensions.get(_SERVER_NAME, b"")[5:].decode(), ja4


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]


def _plain(numbers: list[int]) -> list[int]:
    """Those that are no GREASE."""
    return [n for n in numbers if n & 0x0F0F != 0x0A0A or n >> 8 != n & 0xFF]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
