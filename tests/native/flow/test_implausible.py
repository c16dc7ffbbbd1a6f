"""Numbers of TCP that cannot be right: they are counted, and make no payload that never was."""

from __future__ import annotations

import random

import pytest

from netring_bpf import Flow, FlowEnd
from tests.native.flow.test_tcp_life import Talk, talk, told

GIGABYTE = 10**9


def said(flow: Flow) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Of each side: payload, missing bytes, implausible segments."""
    orig, resp = (
        (side.payload, side.missing_bytes, side.implausible) for side in (flow.orig, flow.resp)
    )
    return orig, resp


def before() -> Talk:
    """A connection that has sent 100 and 200 bytes, and is silent for five seconds."""
    return talk().open().c("PA", 1, 1, b"x" * 100).s("PA", 1, 101, b"y" * 200).wait(5)


def test_a_connection_on_the_same_ports_whose_syn_was_lost() -> None:
    c, s = 1_500_000_000, 1_700_000_000
    flow = (
        before().c("A", c, s).c("PA", c, s, b"x" * 100).s("PA", s, c + 100, b"y" * 200)
        .c("FA", c + 100, s + 200).s("FA", s + 200, c + 101).c("A", c + 101, s + 201).flow()
    )  # fmt: skip
    assert said(flow) == ((200, 0, 0), (400, 0, 0))
    assert (flow.conn_state, flow.history) == ("SF", "ShADdFf")


@pytest.mark.parametrize("numbers", range(40))
def test_a_connection_on_the_same_ports_wherever_its_numbers_are(numbers: int) -> None:
    chance = random.Random(numbers)
    c, s = (chance.randrange(2 << 20, 2**32 - (2 << 20)) for _ in range(2))
    talked = before()
    if chance.random() < 0.5:
        talked.s("SA", s - 1, c)
    for n in range(3):
        talked.c("PA", c + 100 * n, s + 50 * n, b"x" * 100)
        talked.s("PA", s + 50 * n, c + 100 * n + 100, b"y" * 50)
    flow = talked.c("A", c + 300, s + 150).flow()
    assert said(flow) == ((400, 0, 0), (350, 0, 0))


def test_a_connection_on_the_same_ports_of_which_one_side_is_seen() -> None:
    c, s = 3_000_000_000, 700_000_000
    talked = before()
    for n in range(5):
        talked.c("PA", c + 10 * n, s + 100 * n, b"x" * 10).wait(0.5)
    assert said(talked.flow()) == ((150, 0, 0), (500, 300, 0))  # acknowledged from then on


@pytest.mark.parametrize("seq", [GIGABYTE, 2 * GIGABYTE, 3 * GIGABYTE, 4 * GIGABYTE])
@pytest.mark.parametrize("ack", [101, GIGABYTE, 3 * GIGABYTE])
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "SA"])
def test_a_stray_segment_of_the_responder(seq: int, ack: int, flags: str) -> None:
    data = b"stray" if flags == "PA" else b""
    flow = before().s(flags, seq, ack, data).c("PA", 101, 201, b"x").s("PA", 201, 102, b"y").flow()
    assert said(flow) == ((101, 0, 0), (201, 0, 1))
    assert flow.conn_state == "S1"


@pytest.mark.parametrize("ack", [GIGABYTE, 2 * GIGABYTE, 3 * GIGABYTE])
def test_a_stray_acknowledgement(ack: int) -> None:
    flow = before().c("A", 101, ack).s("PA", 201, 101, b"y").c("A", 101, 202).flow()
    assert said(flow) == ((100, 0, 1), (201, 0, 0))


def test_stray_segments_at_the_end_add_nothing() -> None:
    flow = before().s("PA", GIGABYTE, 101, b"y" * 50).s("PA", 3 * GIGABYTE, 101, b"y").flow()
    assert said(flow) == ((100, 0, 0), (200, 0, 2))


def test_random_forged_segments_add_nothing() -> None:
    chance = random.Random(1)
    talked = before()
    for n in range(200):
        talked.wait(1).c("PA", chance.randrange(2 << 20, 2**32 - (2 << 20)), 201, b"forged")
        if n % 2 == 0:
            talked.s("A", 201, 101)
    assert said(talked.flow()) == ((100, 0, 200), (200, 0, 0))


def test_a_syn_ack_of_another_connection() -> None:
    other = 3 * GIGABYTE
    flow = (
        talk().c("S", 0).wait(1).c("S", 0).s("SA", 0).s("SA", other).c("A", 1, 1)
        .c("PA", 1, 1, b"x" * 100).s("PA", 1, 101, b"y" * 200).wait(1).s("SA", other)
        .c("PA", 101, 201, b"x" * 10).s("PA", 201, 111, b"y" * 20).flow()
    )  # fmt: skip
    assert said(flow) == ((110, 0, 0), (220, 0, 2))
    assert flow.conn_state == "S1"


def test_the_syn_ack_that_is_acknowledged_counts() -> None:
    other = 3 * GIGABYTE
    flow = (
        talk().c("S", 0).s("SA", 0).wait(1).s("SA", other).c("A", 1, other + 1)
        .s("PA", other + 1, 1, b"y" * 20).c("A", 1, other + 21).flow()
    )  # fmt: skip
    assert said(flow) == ((0, 0, 0), (20, 0, 0))


def rewritten(both: bool, order: str) -> Talk:
    """Twice each packet, of the client's side of a firewall (c) and of the server's (s)."""
    sides = {"c": (0, 0), "s": (2_000_000_000, 1_200_000_000 if both else 0)}
    talked = Talk()
    for side in order:
        talked.c("S", sides[side][0])
    talked.frames = talked.frames[-1:]  # the first is a flow of its own, as its number is another
    c, s = 1, 1
    for side in reversed(order):
        talked.s("SA", sides[side][1], sides[side][0] + 1)
    for side in order:
        talked.c("A", sides[side][0] + 1, sides[side][1] + 1)
    for n in range(30):
        for side in order:
            talked.c("PA", sides[side][0] + c, sides[side][1] + s, b"x" * 10)
        for side in reversed(order):
            talked.s("PA", sides[side][1] + s, sides[side][0] + c + 10, b"y" * 20)
        c, s = c + 10, s + 20
        if n % 10 == 0:
            talked.wait(2)
    return talked


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("order", ["cs", "sc"])
def test_a_firewall_that_rewrites_numbers_seen_on_both_sides(both: bool, order: str) -> None:
    flow = rewritten(both, order).flow()
    assert 300 <= flow.orig.payload <= 330
    assert 600 <= flow.resp.payload <= 660
    assert (flow.orig.missing_bytes, flow.resp.missing_bytes) == (0, 0)
    assert flow.orig.implausible >= 28


def test_megabytes_that_the_capture_missed_are_missing() -> None:
    flow = (
        before().s("A", 5_000_201, 101, b"y" * 1000).c("A", 101, 5_001_201)
        .s("A", 5_001_201, 101, b"y" * 1000).c("A", 101, 5_002_201).flow()
    )  # fmt: skip
    assert said(flow) == ((100, 0, 0), (5_002_200, 5_000_000, 0))
    assert flow.resp.gaps == 1


def test_missed_megabytes_are_borne_out_by_acknowledgements_on_the_way() -> None:
    talked = before()
    for n in range(10):
        talked.s("A", 50_000_201 + 1000 * n, 101, b"y" * 1000)
    talked.c("A", 101, 30_000_201).s("A", 50_010_201, 101, b"y" * 1000).c("A", 101, 50_011_201)
    assert said(talked.flow()) == ((100, 0, 0), (50_011_200, 50_000_000, 0))


def test_more_than_the_time_allows_was_not_missed() -> None:
    talked = talk().open().c("PA", 1, 1, b"x" * 100).s("PA", 1, 101, b"y" * 200)
    flow = talked.s("A", GIGABYTE, 101, b"y" * 10).c("A", 101, GIGABYTE + 10).flow()
    assert said(flow) == ((100, 0, 0), (210, 0, 0))


def test_an_implausible_fin_closes_nothing() -> None:
    flow = before().c("FA", GIGABYTE, 201).s("A", 201, 101).c("PA", 101, 201, b"x").flow()
    assert (flow.conn_state, said(flow)[0]) == ("S1", (101, 0, 1))


def test_a_forged_reset_is_implausible() -> None:
    flow = before().c("R", GIGABYTE).c("PA", 101, 201, b"x").flow()
    assert (flow.conn_state, said(flow)[0]) == ("S1", (101, 0, 1))


def test_a_flow_that_is_renewed_counts_anew() -> None:
    talked = before().c("PA", GIGABYTE, 201, b"x").wait(6).c("PA", 101, 201, b"x" * 7)
    first, second = talked.flows(active_timeout=10.0)
    assert first.reason is FlowEnd.ACTIVE
    assert (said(first.flow)[0], said(second.flow)[0]) == ((100, 0, 1), (7, 0, 0))


def test_a_stray_segment_begins_no_payload() -> None:
    flow = (
        talk().c("PA", GIGABYTE, 1, b"stray").wait(5).c("PA", 5, 5, b"x" * 10)
        .s("PA", 5, 15, b"y" * 20).c("PA", 15, 25, b"x" * 10).flow()
    )  # fmt: skip
    assert flow.orig.payload == 25
    assert flow.resp.payload == 20


def test_each_implausible_segment_is_counted() -> None:
    talked = before().c("PA", GIGABYTE, 201, b"x").c("PA", 101, 201, b"x")
    for frame in talked.frames[-2:] * 2000:
        talked.frames.append(frame)
    flow = talked.flow()
    assert flow.orig.implausible == 2001
    assert told(flow)[2:] == (101, 200)
