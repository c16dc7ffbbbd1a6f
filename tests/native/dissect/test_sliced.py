"""Frames that a mirror or a broker has sliced: shorter on the wire than their IP length says."""

from __future__ import annotations

import pytest

from netring_bpf import FlowOptions
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.replay import START, Frame, replay

A, B = "10.0.0.1", "10.0.0.2"
C, D = "2001:db8::1", "2001:db8::2"
TRUST = FlowOptions(update_interval=None, sliced="trust")
REFUSE = FlowOptions(update_interval=None)


def connection(src: str, dst: str) -> list[Frame]:
    """Two of its eight frames carry more than their 80 bytes on the wire."""
    sent = [
        tcp(src, dst, 40_000, 80, flags="S", seq=1000),
        tcp(dst, src, 80, 40_000, flags="SA", seq=5000, ack=1001),
        tcp(src, dst, 40_000, 80, flags="A", seq=1001, ack=5001),
        tcp(src, dst, 40_000, 80, b"x" * 500, flags="PA", seq=1001, ack=5001)[:80],
        tcp(dst, src, 80, 40_000, b"y" * 900, flags="PA", seq=5001, ack=1501)[:80],
        tcp(src, dst, 40_000, 80, flags="FA", seq=1501, ack=5901),
        tcp(dst, src, 80, 40_000, flags="FA", seq=5901, ack=1502),
        tcp(src, dst, 40_000, 80, flags="A", seq=1502, ack=5902),
    ]
    return [Frame(data, START + n * 10_000_000) for n, data in enumerate(sent)]


@pytest.mark.parametrize(("src", "dst", "header"), [(A, B, 40), (C, D, 60)], ids=["ipv4", "ipv6"])
def test_the_length_of_the_ip_header_is_believed_if_asked_for(
    src: str, dst: str, header: int
) -> None:
    events, books = replay(connection(src, dst), TRUST)
    flow = events[-1].flow
    assert (flow.history, flow.conn_state) == ("ShADdFf", "SF")
    assert (flow.orig.packets, flow.resp.packets) == (5, 3)
    assert (flow.orig.payload, flow.resp.payload) == (500, 900)
    assert flow.orig.ip_bytes == 5 * header + 500
    assert flow.orig.missing_bytes == flow.resp.missing_bytes == 0
    assert (books.keyed, books.not_keyed["sliced"]) == (8, 0)


@pytest.mark.parametrize(("src", "dst"), [(A, B), (C, D)], ids=["ipv4", "ipv6"])
def test_sliced_frames_are_counted_by_themselves(src: str, dst: str) -> None:
    events, books = replay(connection(src, dst), REFUSE)
    assert {name: n for name, n in books.not_keyed.items() if n} == {"sliced": 2}
    assert books.keyed == 6
    assert (events[-1].flow.orig.missing_bytes, events[-1].flow.resp.missing_bytes) == (500, 900)


@pytest.mark.parametrize("data", [udp(A, B, 1, 2, b"z" * 700), udp(C, D, 1, 2, b"z" * 700),
                                  icmp_echo(A, B, 1, 1, b"z" * 700)])  # fmt: skip
def test_other_protocols_are_sliced_too(data: bytes) -> None:
    for options, keyed in ((TRUST, 1), (REFUSE, 0)):
        _, books = replay([Frame(data[:96])], options)
        assert (books.keyed, books.not_keyed["sliced"]) == (keyed, 1 - keyed)
    events, _ = replay([Frame(data[:96])], TRUST)
    assert (events[-1].flow.orig.payload, events[-1].flow.orig.bytes) == (700, 96)


def changed(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize(
    "data",
    [
        changed(tcp(A, B, 1, 2, b"x" * 500), 22, 7),  # the checksum of the IP header is wrong
        changed(tcp(C, D, 1, 2, b"x" * 500), 14 + 40 + 12, 0x40),  # a data offset of 16 bytes
        changed(udp(C, D, 1, 2, b"x" * 500), 14 + 40 + 5, 7),  # another length in UDP's header
    ],
    ids=["checksum", "data offset", "UDP length"],
)
@pytest.mark.parametrize("options", [TRUST, REFUSE], ids=["trust", "refuse"])
def test_a_length_that_the_rest_contradicts_is_never_believed(
    data: bytes, options: FlowOptions
) -> None:
    _, books = replay([Frame(data[:96])], options)
    assert {name: n for name, n in books.not_keyed.items() if n} == {"bad_network": 1}


def test_a_frame_that_the_capture_has_cut_is_not_sliced() -> None:
    data = tcp(A, B, 1, 2, b"x" * 500)
    events, books = replay([Frame(data[:96], len=len(data))], REFUSE)
    assert books.keyed == 1
    assert events[-1].flow.orig.payload == 500
