"""The flow table: TCP's life, timeouts, updates, the cap, and a model that agrees."""

from __future__ import annotations

import pytest

from netring_bpf import (
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowOptions,
    FlowStarted,
    FlowUpdated,
)
from tests.support.frames import tcp, udp
from tests.support.replay import SECOND, START, Frame, replay

A, B = "10.0.0.1", "10.0.0.2"
NO_UPDATES = FlowOptions(update_interval=None)


def at(seconds: float, data: bytes) -> Frame:
    return Frame(data, ts=START + int(seconds * SECOND))


def c2s(flags: str, payload: bytes = b"", seq: int = 1, ack: int = 1) -> bytes:
    return tcp(A, B, 4000, 80, payload, flags=flags, seq=seq, ack=ack)


def s2c(flags: str, payload: bytes = b"", seq: int = 1, ack: int = 1) -> bytes:
    return tcp(B, A, 80, 4000, payload, flags=flags, seq=seq, ack=ack)


HANDSHAKE = [c2s("S", seq=0, ack=0), s2c("SA", seq=0), c2s("A")]
CLOSE = [c2s("FA"), s2c("FA"), c2s("A")]


def story(events: list[FlowEvent]) -> list[str]:
    names = {FlowStarted: "started", FlowEstablished: "established", FlowUpdated: "updated"}
    return [
        f"{event.flow.id} {event.reason.value}"
        if isinstance(event, FlowEnded)
        else f"{event.flow.id} {names[type(event)]}"
        for event in events
    ]


@pytest.mark.parametrize("kinds", [(FlowEnded,), (FlowStarted, FlowEnded), (FlowUpdated,)])
def test_only_the_events_that_are_asked_for_are_made(kinds: tuple[type[FlowEvent], ...]) -> None:
    frames = [at(n * 20.0, frame) for n, frame in enumerate([*HANDSHAKE, *CLOSE])]
    every, _ = replay(frames, FlowOptions(update_interval=30.0, half_open=60.0))
    some, books = replay(frames, FlowOptions(update_interval=30.0, half_open=60.0, events=kinds))
    assert some == [event for event in every if isinstance(event, kinds)]
    assert books.events_produced == len(some)
    assert books.balanced


def test_a_connection_from_syn_to_fin() -> None:
    frames = [*HANDSHAKE, c2s("PA", b"get"), s2c("PA", b"answer"), *CLOSE]
    events, books = replay(frames)
    assert story(events) == ["1 started", "1 established", "1 fin"]
    ended = events[-1].flow
    assert str(ended.key) == f"tcp {A}:4000 > {B}:80"
    assert (ended.orig.packets, ended.resp.packets) == (5, 3)
    assert ended.orig.bytes == sum(len(f) for f in frames if f[26:30] == bytes([10, 0, 0, 1]))
    assert ended.history == "ShADdFf"
    assert books.balanced


@pytest.mark.parametrize("side", ["originator", "responder"])
def test_a_reset_ends_the_flow(side: str) -> None:
    reset = c2s("R") if side == "originator" else s2c("RA")
    events, _ = replay([*HANDSHAKE, reset])
    assert story(events) == ["1 started", "1 established", "1 rst"]
    assert events[-1].flow.history == ("ShAR" if side == "originator" else "ShAr")


def test_a_refused_connection() -> None:
    events, _ = replay([c2s("S", ack=0), s2c("RA")])
    assert story(events) == ["1 started", "1 rst"]
    assert events[-1].flow.history == "Sr"


def test_a_retransmitted_fin_does_not_close_the_other_side() -> None:
    events, _ = replay([*HANDSHAKE, c2s("FA"), c2s("FA"), at(0, s2c("A"))])
    assert story(events) == ["1 started", "1 established", "1 shutdown"]


def test_an_ack_of_something_else_does_not_establish() -> None:
    events, _ = replay([c2s("S", seq=0, ack=0), s2c("SA", seq=1000), c2s("A", ack=5)])
    assert story(events) == ["1 started", "1 shutdown"]


def test_stragglers_after_the_close_belong_to_the_flow() -> None:
    closed = [at(0, f) for f in [*HANDSHAKE, *CLOSE]]
    events, _ = replay([*closed, at(0.5, s2c("FA")), at(0.9, c2s("A"))])
    assert story(events) == ["1 started", "1 established", "1 fin"]
    assert events[-1].flow.packets == 8


def test_ports_used_again_make_a_new_flow() -> None:
    first = [at(0, f) for f in [*HANDSHAKE, *CLOSE]]
    second = [at(0.1, f) for f in HANDSHAKE]
    events, books = replay([*first, *second])
    assert story(events) == [
        "1 started", "1 established", "1 fin", "2 started", "2 established", "2 shutdown",
    ]  # fmt: skip
    assert books.balanced


def test_a_closed_flow_ends_when_its_delay_is_over() -> None:
    other = udp(A, B, 1, 2)
    events, _ = replay([*(at(0, f) for f in [*HANDSHAKE, *CLOSE]), at(5.0, other)])
    assert story(events) == ["1 started", "1 established", "1 fin", "2 started", "2 shutdown"]
    assert events[2].ts == START + 5 * SECOND


@pytest.mark.parametrize(
    ("frame", "timeout"),
    [
        (tcp(A, B, 1, 2, flags="A"), 300.0),
        (udp(A, B, 1, 2), 60.0),
        (udp(A, B, 1, 2)[:23] + b"\x59" + udp(A, B, 1, 2)[24:], 60.0),
    ],
    ids=["tcp", "udp", "ospf"],
)
def test_idle_timeouts_by_protocol(frame: bytes, timeout: float) -> None:
    clock = udp("10.9.9.9", B, 9, 9)
    before, _ = replay([at(0, frame), at(timeout - 0.001, clock)])
    assert "1 idle" not in story(before)
    after, _ = replay([at(0, frame), at(timeout, clock)])
    assert story(after) == ["1 started", "1 idle", "2 started", "2 shutdown"]


def test_a_packet_after_the_timeout_starts_a_new_flow() -> None:
    events, books = replay([at(0, udp(A, B, 1, 2)), at(61, udp(A, B, 1, 2))])
    assert story(events) == ["1 started", "1 idle", "2 started", "2 shutdown"]
    assert books.balanced


def test_silent_flows_are_reported_by_the_timer() -> None:
    options = FlowOptions(update_interval=10.0)
    frames = [at(0, udp(A, B, 1, 2)), *(at(t, udp(B, A, 5, 6)) for t in (3, 10, 13, 20))]
    events, _ = replay(frames, options)
    assert story(events) == [
        "1 started", "2 started", "1 updated", "2 updated", "1 updated", "1 shutdown", "2 shutdown",
    ]  # fmt: skip
    assert events[2].flow.packets == 1


def test_time_never_runs_backwards() -> None:
    events, _ = replay([at(5, udp(A, B, 1, 2)), at(0, udp(A, B, 1, 2)), at(2, udp(A, B, 3, 4))])
    times = [event.ts for event in events]
    assert times == [START + 5 * SECOND] + [START + 7 * SECOND] * 3  # the clock was stepped back
    ended = next(e for e in events if isinstance(e, FlowEnded) and e.flow.id == 1)
    assert ended.flow.duration == 0


def test_the_cap_evicts_the_least_recently_used_flow() -> None:
    options = FlowOptions(max_flows=3, update_interval=None)
    order = [1, 2, 3, 1, 4, 5]  # 2 and then 3 are the oldest when room is needed
    events, books = replay([at(i, udp(A, B, port, 53)) for i, port in enumerate(order)], options)
    assert story(events)[:7] == [
        "1 started", "2 started", "3 started", "2 evicted", "4 started", "3 evicted", "5 started",
    ]  # fmt: skip
    assert books.flows.peak == 3
    assert books.flows.ended["evicted"] == 2
    assert books.balanced


def test_a_table_of_many_flows_keeps_its_books_at_the_cap() -> None:
    options = FlowOptions(max_flows=1000, update_interval=None)
    frames = [udp(f"10.{n % 7}.{n >> 8 & 255}.{n & 255}", B, n % 50_000, 53) for n in range(30_000)]
    events, books = replay(frames, options)
    assert books.flows.started == 30_000
    assert books.flows.ended["evicted"] == 29_000
    assert books.flows.ended["shutdown"] == 1000
    assert len(events) == 60_000
    assert books.balanced


def test_reasons_are_the_public_ones() -> None:
    _, books = replay([udp(A, B, 1, 2)])
    assert set(books.flows.ended) == {end.value for end in FlowEnd}
