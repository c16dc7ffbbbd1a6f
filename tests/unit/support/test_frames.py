"""The frames the tests send are what they claim to be."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import frames

V4 = ("10.0.0.1", "10.0.0.2")
V6 = ("2001:db8::1", "2001:db8::2")
KINDS = {
    "udp": (17, 17, lambda src, dst, payload: frames.udp(src, dst, 1000, 53, payload)),
    "tcp": (6, 6, lambda src, dst, payload: frames.tcp(src, dst, 1000, 80, payload, flags="SA")),
    "icmp": (1, 58, lambda src, dst, payload: frames.icmp_echo(src, dst, 7, 1, payload)),
}


def plain_checksum(data: bytes) -> int:
    """RFC 1071 as it is written, to hold the quick one against."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + b"\0" * (len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@given(st.binary(max_size=200))
def test_checksum_is_rfc_1071(data: bytes) -> None:
    assert frames.checksum(data) == plain_checksum(data)


@pytest.mark.parametrize("payload", [b"", b"x", b"hello, world", bytes(range(256)) * 4])
@pytest.mark.parametrize("kind", KINDS)
def test_ipv4_lengths_and_checksums(kind: str, payload: bytes) -> None:
    proto, _, make = KINDS[kind]
    frame = make(*V4, payload)
    assert len(frame) >= 60
    assert frame[12:14] == b"\x08\x00"
    length = struct.unpack("!H", frame[16:18])[0]
    header, body = frame[14:34], frame[34 : 14 + length]
    assert frame[14 + length :].strip(b"\0") == b""
    assert header[9] == proto
    assert plain_checksum(header) == 0
    assert body.endswith(payload)
    pseudo = header[12:20] + struct.pack("!HH", proto, len(body)) if kind != "icmp" else b""
    assert plain_checksum(pseudo + body) == 0


@pytest.mark.parametrize("payload", [b"", b"x", b"hello, world"])
@pytest.mark.parametrize("kind", KINDS)
def test_ipv6_lengths_and_checksums(kind: str, payload: bytes) -> None:
    _, proto, make = KINDS[kind]
    frame = make(*V6, payload)
    assert frame[12:14] == b"\x86\xdd"
    header = frame[14:54]
    body = frame[54 : 54 + struct.unpack("!H", header[4:6])[0]]
    assert header[6] == proto
    assert header[8:] == b"".join(ipaddress.ip_address(text).packed for text in V6)
    assert body.endswith(payload)
    assert plain_checksum(header[8:] + struct.pack("!II", len(body), proto) + body) == 0


def test_vlan_tags() -> None:
    bare = frames.udp(*V4, 1, 2, b"x" * 40)
    assert frames.udp(*V4, 1, 2, b"x" * 40, vlans=(5,)) == (
        bare[:12] + bytes.fromhex("81000005") + bare[12:]
    )
    assert frames.udp(*V4, 1, 2, b"x" * 40, vlans=(7, 5)) == (
        bare[:12] + bytes.fromhex("88a80007 81000005") + bare[12:]
    )


def test_tcp_fields() -> None:
    frame = frames.tcp(*V4, 1, 2, flags="FA", seq=3, ack=4)
    assert struct.unpack("!HHIIBB", frame[34:48]) == (1, 2, 3, 4, 0x50, 0x11)


def test_mixed_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="different IP versions"):
        frames.udp(V4[0], V6[1], 1, 2)
