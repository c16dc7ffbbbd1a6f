"""Protocols that are recognised by their first bytes alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.ntp import NTPControl, NTPHeader
from scapy.layers.rtp import RTP

from tests.native.app.sides_program import Exchange, Over, Piece, Sides, build


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    program = Sides(build())
    yield program
    program.close()


# The first sample of RFC 5769.
STUN = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001"
    "ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3"
    "f249c1b571a280280004e57a3bcf"
)
BEGIN, ANSWER = b"\1\0\0\0" + b"k" * 144, b"\2\0\0\0" + b"k" * 88
PING = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"  # of BEP 5
PONG = b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re"
UTP = bytes.fromhex("4100 1234 00000001 00000000 00100000 0001 0000")
TRACKER = bytes.fromhex("0000041727101980 00000000 12345678")
RTCP = bytes.fromhex(
    "80c80006 00000001 0000000000000000 00000000 00000000 00000000"
) + bytes.fromhex("81ca0002 00000001 01016100")
PCMU = bytes(RTP(version=2, payload_type=0, marker=1, sequence=1)) + b"a" * 160
NTP = bytes(NTPHeader(orig=3_900_000_000, sent=3_900_000_001))
CONTROL = bytes(NTPControl(op_code=2))

DATAGRAMS = [
    ("wireguard", BEGIN, 51820),
    ("wireguard", ANSWER, 7),
    ("stun", STUN, 3478),
    ("stun", STUN, 19302),
    ("ntp", NTP, 123),
    ("ntp", CONTROL, 123),
    ("ntp", b"\x17\0\3\x2a" + bytes(4), 123),
    ("bittorrent", PING, 6881),
    ("bittorrent", PONG, 51413),
    ("bittorrent", UTP, 51413),
    ("bittorrent", b"\x41\x02" + UTP[2:] + b"\0\x08" + bytes(8), 51413),
    ("bittorrent", TRACKER, 80),
    ("bittorrent", b"BT-SEARCH * HTTP/1.1\r\nHost: x\r\n\r\n", 6771),
    ("rtp", RTCP, 5005),
    ("rtp", PCMU, 5004),
]
OTHERS = [
    (BEGIN + b"k", 51820),
    (BEGIN[:1] + b"\1" + BEGIN[2:], 51820),
    (STUN[:-4], 3478),
    (STUN[:4] + bytes(4) + STUN[8:], 3478),
    (NTP, 1234),
    (NTP[:40], 123),
    (b"\xff" + NTP[1:], 123),
    (PING[:-1] + b"x", 6881),
    (UTP[:-1] + b"\1", 51413),
    (RTCP[:-1], 5005),
    (RTCP + b"\x81\xca\0\0" * 20, 5005),
    (PCMU, 5005),
    (PCMU + b"a", 5004),
    (b"\x90" + PCMU[1:], 5004),
    (b"\x80\x60" + PCMU[2:], 5004),
]


@pytest.mark.parametrize(("label", "data", "port"), DATAGRAMS)
def test_a_datagram_gets_its_label(sides: Sides, label: str, data: bytes, port: int) -> None:
    assert sides.datagram(data, (40000, port)) == label
    assert sides.datagram(data, (40000, port), by="R") == label


@pytest.mark.parametrize(("data", "port"), OTHERS)
def test_a_similar_datagram_gets_none(sides: Sides, data: bytes, port: int) -> None:
    assert sides.datagram(data, (40000, port)) is None


@given(st.binary(max_size=300), st.integers(1, 65535))
def test_random_datagrams_get_none(sides: Sides, data: bytes, port: int) -> None:
    if port != 123:
        assert sides.datagram(data, (40001, port)) is None


SMB = b"\0\0\0\x54\xfeSMB" + bytes(80)
SESSION = b"\x81\0\0\x44 CKFDENECFDEFFCFGEFFCCACACACACACA\0 EMFPEPEMFPCACACACACACACACACACACA\0"
HELLO = b"\x13BitTorrent protocol" + bytes(48)
STREAMS = [
    ("smb", SMB),
    ("smb", SMB.replace(b"\xfe", b"\xff")),
    ("smb", SESSION),
    ("bittorrent", HELLO),
    ("stun", STUN),
]


@pytest.mark.parametrize(("label", "data"), STREAMS)
@pytest.mark.parametrize("size", [5, 20, 1000])
@pytest.mark.parametrize("by", "OR")
def test_a_stream_gets_its_label(sides: Sides, label: str, data: bytes, size: int, by: str) -> None:
    size = max(size, 24) if label == "stun" else size
    pieces = [Piece(by, data[at : at + size]) for at in range(0, len(data), size)]
    assert sides.flow(pieces) == [Exchange(label, {})]


REQUEST = (
    bytes.fromhex("0300002f2ae00000000000") + b"Cookie: mstshash=someone\r\n\1\0\x08\0\3\0\0\0"
)
REQUEST = REQUEST[:3] + bytes((len(REQUEST), len(REQUEST) - 5)) + REQUEST[5:]
TAKES_TLS = bytes.fromhex("030000130ed000001234000200080001000000")
TAKES_RDP = bytes.fromhex("030000130ed000001234000200080000000000")
REFUSES = bytes.fromhex("030000130ed000001234000300080005000000")
PLAIN = bytes.fromhex("0300000b06e00000000000")


@pytest.mark.parametrize("size", [1, 6, 100])
@pytest.mark.parametrize(("answer", "goes"), [(TAKES_TLS, 1), (TAKES_RDP, 0), (REFUSES, 0)])
def test_rdp_may_hand_over_to_tls(sides: Sides, size: int, answer: bytes, goes: int) -> None:
    pieces = [
        Piece(by, data[at : at + size])
        for by, data in (("O", REQUEST), ("R", answer))
        for at in range(0, len(data), size)
    ]
    assert sides.flow(pieces) == [Exchange("rdp", {}), *[Over("rdp")] * goes]


def test_an_answer_of_rdp_alone_is_a_label(sides: Sides) -> None:
    assert sides.flow([Piece("R", REFUSES)]) == [Exchange("rdp", {})]


@pytest.mark.parametrize(("port", "said"), [(3389, [Exchange("rdp", {})]), (102, [])])
def test_a_bare_request_of_x224_is_rdp_on_its_port(
    sides: Sides, port: int, said: list[object]
) -> None:
    assert sides.flow([Piece("O", PLAIN)], ports=(40000, port)) == said


@pytest.mark.parametrize(
    "data",
    [
        SMB.replace(b"SMB", b"SMA"),
        SESSION.replace(b"CKFD", b"CKFZ"),
        HELLO.replace(b"protocol", b"protocox"),
        REQUEST.replace(b"mst", b"abc").replace(b"\1\0\x08", b"\1\0\x09"),
        b"\3\0\0\x0b\x06\xf0" + bytes(5),
    ],
)
def test_a_similar_stream_gets_none(sides: Sides, data: bytes) -> None:
    assert sides.flow([Piece("O", data)]) == []
