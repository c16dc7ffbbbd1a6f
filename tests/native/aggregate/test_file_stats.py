"""Aggregates of capture files: the sums of the flows, by intervals that are always the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import captures
from netring_bpf import (
    AppEvent,
    Event,
    FlowEnded,
    FlowKey,
    FlowOptions,
    Netring,
    NetringStatistics,
    StatsOptions,
    StatsUpdated,
    Sums,
    TunnelKind,
)
from tests.native.app.hellos import client_hello, record, server_name
from tests.support.frames import ethernet, icmp_echo, tcp, udp
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap
from tests.support.sizes import soak
from tests.support.stats import flow_rows, flow_traffic, rows_of, stats_of, sum_of_tops, traffic_of

A, B, FAR = "10.0.0.1", "10.0.0.2", "203.0.113.9"
EVERY_SECOND = StatsOptions(interval=1.0, top=1000, capacity=2000)


async def _read(
    path: Path, stats: StatsOptions, seen: Callable[[Event], Any], **options: Any
) -> NetringStatistics:
    ring = Netring.replay(path, stats=stats, **options)
    async with ring:
        async for event in ring.subscribe():
            seen(event)
    return ring.statistics()


def read(path: Path, stats: StatsOptions = EVERY_SECOND, **options: Any) -> list[Event]:
    """All events of a file, whose books balance."""
    events: list[Event] = []
    books = asyncio.run(_read(path, stats, events.append, **options))
    assert [str(law) for law in books.equations() if not law.holds] == []
    found = [event for event in events if isinstance(event, StatsUpdated)]
    assert sum(event.health.received for event in found) == books.capture.received
    assert all(event.health.balanced for event in found)
    return events


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Sequence[Frame]], Path]:
    def write(frames: Sequence[Frame]) -> Path:
        path = tmp_path / "frames.pcap"
        path.write_bytes(pcap(frames))
        return path

    return write


Write = Callable[[Sequence[Frame]], Path]


def at(seconds: float, data: bytes) -> Frame:
    return Frame(data, ts=START + round(seconds * SECOND))


def assert_sums_are_those_of_the_flows(events: Sequence[Event]) -> list[StatsUpdated]:
    stats = stats_of(events)
    assert traffic_of(stats) == stats[-1].since_start == flow_traffic(events)
    rows = flow_rows(events)
    assert sum_of_tops(stats) == rows
    assert rows_of(stats[-1].top_since_start) == rows
    return stats


def without_health(stats: Sequence[StatsUpdated]) -> list[tuple[object, ...]]:
    return [event[:-1] for event in stats]


@pytest.mark.parametrize("interval", [0.25, 3.0, 3600.0])
def test_sums_of_a_large_capture_are_those_of_its_flows(interval: float) -> None:
    capture = captures.make(soak(50_000, 200_000, 1_000_000))
    options = StatsOptions(interval=interval, top=1000, capacity=65_536)
    events = read(capture.path, options)
    stats = stats_of(events)
    assert traffic_of(stats) == stats[-1].since_start == flow_traffic(events)
    assert stats[-1].since_start.total.packets == capture.packets
    assert stats[-1].since_start.total.flows == capture.flows
    # More hosts than a ``Top`` has rows: those that are there are exact.
    rows = flow_rows(events)
    for key, row in rows_of(stats[-1].top_since_start).items():
        assert row == rows[key]


def test_a_file_gives_the_same_aggregates_in_the_same_places(tmp_path: Path) -> None:
    capture = captures.make(20_000)
    reads = [read(capture.path, StatsOptions(interval=0.1), buffer=n) for n in (4096, 64, 1)]
    stats = [without_health(stats_of(events)) for events in reads]
    assert stats[0] == stats[1] == stats[2]
    places = [
        [n for n, event in enumerate(events) if isinstance(event, StatsUpdated)] for events in reads
    ]
    assert places[0] == places[1] == places[2]
    assert len(places[0]) > 100


def test_events_before_the_end_of_an_interval_come_before_its_aggregates(file: Write) -> None:
    frames = [at(n / 10, udp(A, B, 1000 + n, 9)) for n in range(40)]
    events = read(file(frames), flow=FlowOptions(idle_udp=0.3, port_timeouts=()))
    now = 0
    for event in events:
        assert event.ts >= now
        now = event.ts
    ends = [event.ts for event in stats_of(events)]
    assert ends[:3] == [(START // SECOND + n) * SECOND for n in (1, 2, 3)]


@pytest.mark.parametrize("late", ["S", "A", "PA"])
@pytest.mark.parametrize("again", [{}, {"seq": 5000}, {"window": 0}, {"flags": "R", "seq": 101}])
def test_a_flow_whose_sides_are_exchanged_later_counts_with_the_sides_of_its_end(
    file: Write, late: str, again: dict[str, Any]
) -> None:
    answer: dict[str, Any] = {"flags": "SA", "seq": 100, "ack": 1, "window": again.get("window", 9)}
    first = tcp(FAR, A, 4000, 5000, **answer)
    other = udp(A, B, 1, 2)  # the end of an interval comes with a packet
    events = read(
        file(
            [
                at(0.1, first), at(0.2, tcp(FAR, A, 4000, 5000, **{**answer, **again})),
                at(1.5, other), at(2.2, other),
                at(2.5, tcp(A, FAR, 5000, 4000, flags=late, seq=late != "S", ack=101)),
                at(3.5, other),
            ]
        )
    )  # fmt: skip
    assert_sums_are_those_of_the_flows(events)


def test_a_flow_counts_in_each_interval_what_it_sent_there(file: Write) -> None:
    frame = udp(A, FAR, 1, 2, b"x" * 58)
    answer = udp(FAR, A, 2, 1, b"y" * 8)
    sent = [at(0.1, frame), at(0.2, answer), at(1.1, frame), at(1.2, frame), at(3.5, answer)]
    events = read(file(sent))
    stats = assert_sums_are_those_of_the_flows(events)
    assert [event.number for event in stats] == [1, 2, 3]
    assert [event.traffic.outbound for event in stats] == [
        Sums(1, 100, 1), Sums(2, 200, 0), Sums(0, 0, 0),
    ]  # fmt: skip
    assert [event.traffic.inbound for event in stats] == [
        Sums(1, len(answer), 0), Sums(0, 0, 0), Sums(1, len(answer), 0),
    ]  # fmt: skip
    base = START // SECOND * SECOND
    assert [(event.start - base, event.ts - base) for event in stats] == [
        (START - base + SECOND // 10, SECOND), (SECOND, 2 * SECOND),
        (3 * SECOND, START - base + 35 * SECOND // 10),
    ]  # fmt: skip


def test_an_hour_of_silence_has_no_aggregates(file: Write) -> None:
    frames = [at(t, udp(A, B, 1, 2)) for t in (0.1, 3600.1, 3600.2, 3601.3)]
    stats = assert_sums_are_those_of_the_flows(read(file(frames)))
    assert [event.traffic.total.packets for event in stats] == [1, 2, 1]
    assert stats[1].start - stats[0].ts == 3599 * SECOND
    assert all(event.ts - event.start <= SECOND for event in stats)


def test_time_that_steps_back_makes_no_interval_run_backwards(file: Write) -> None:
    times = [0.1, 0.5, 1.2, 2.3, -500.0, -499.5, -498.9, -498.2, -497.0]
    frames = [at(t, udp(A, B, 5000 + n, 2)) for n, t in enumerate(times)]
    stats = assert_sums_are_those_of_the_flows(read(file(frames)))
    assert sum(event.traffic.total.packets for event in stats) == len(times)


def hello(name: bytes) -> bytes:
    return record(client_hello(server_name(name)))


def segment(flags: str, payload: bytes = b"", *, up: bool = True, seq: int = 1) -> bytes:
    ends = (A, FAR, 4000, 443) if up else (FAR, A, 443, 4000)
    return tcp(*ends, payload, flags=flags, seq=seq, ack=0 if flags == "S" else 1)


def test_a_hello_in_the_next_interval_names_the_whole_flow(file: Write) -> None:
    frames = [
        at(0.7, segment("S", seq=0)), at(0.8, segment("SA", up=False, seq=0)),
        at(0.9, segment("A")), at(1.1, segment("PA", hello(b"Www.Example.org"))),
        at(2.2, segment("PA", b"x" * 99, up=False)), at(3.3, segment("R", up=False, seq=100)),
    ]  # fmt: skip
    events = read(file(frames))
    stats = assert_sums_are_those_of_the_flows(events)
    assert {row.key for event in stats for row in event.top.services} == {"tls"}
    assert {row.key for event in stats for row in event.top.names} == {"www.example.org"}
    assert [event.traffic.total.packets for event in stats] == [3, 1, 1, 1]


def test_a_large_flow_that_says_nothing_is_counted_while_it_goes_on(file: Write) -> None:
    frames = [at(n / 20, segment("A", bytes(1400), seq=1 + 1400 * n)) for n in range(60)]
    stats = assert_sums_are_those_of_the_flows(read(file(frames)))
    assert [len(event.top.services) for event in stats] == [1] * len(stats)


def test_an_originator_that_shows_late_is_the_originator_of_all(file: Write) -> None:
    frames = [
        at(0.9, segment("SA", up=False, seq=0)), at(1.1, segment("A")),
        at(2.1, segment("PA", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")),
    ]  # fmt: skip
    [first, *_] = assert_sums_are_those_of_the_flows(read(file(frames)))
    frames[0] = at(0.9, tcp(FAR, A, 50_000, 4000, flags="SA", seq=0))
    frames[1:] = [
        at(1.5, tcp(A, FAR, 4000, 50_000, flags="S", seq=5)),
        at(2.5, tcp(A, FAR, 4000, 50_000, flags="A", seq=6)),
    ]
    assert_sums_are_those_of_the_flows(read(file(frames)))
    assert first.number == 1


MANY = [
    at(n / 50, frame)
    for n in range(400)
    for frame in (
        udp(A, FAR, 1000 + n % 90, 53, b"q"),
        udp(FAR, A, 53, 1000 + n % 90, b"answer"),
        icmp_echo(B, FAR, n % 7, n),
        tcp(A, B, 2000 + n % 30, 80, flags="S", seq=n * 100_000),
        tcp("2001:db8::1", "2001:db8:0:1::2", 3000 + n % 11, 443, b"x" * n, flags="PA", seq=n),
        udp("127.0.0.1", "127.0.0.1", 7, 7),
        udp("0.0.0.0", "255.255.255.255", 68, 67),
    )
]


@pytest.mark.parametrize(
    "flow",
    [
        FlowOptions(),
        FlowOptions(max_flows=8),
        FlowOptions(active_timeout=0.7),
        FlowOptions(half_open=0.2, close_delay=0.0, idle_udp=0.3, port_timeouts=()),
        FlowOptions(directional=True),
        FlowOptions(key=FlowKey.HOST_PAIR),
        FlowOptions(key=FlowKey.MAC_PAIR),
        FlowOptions(names="off"),
        FlowOptions(names="service", packet_statistics=True, first_packets=3),
        FlowOptions(events=(FlowEnded, AppEvent)),
    ],
)
@pytest.mark.parametrize("interval", [0.1, 100.0])
def test_every_kind_of_flow_and_every_end_counts(
    file: Write, flow: FlowOptions, interval: float
) -> None:
    events = read(file(MANY), StatsOptions(interval=interval, top=1000, capacity=2000), flow=flow)
    assert_sums_are_those_of_the_flows(events)


def test_the_flow_around_a_tunnel_and_the_one_inside_both_count(file: Write) -> None:
    inside = udp(A, FAR, 1000, 53, b"q" * 30)
    frames = [
        at(
            n / 2,
            udp("192.0.2.1", "192.0.2.2", 9000, 4789, bytes([8, 0, 0, 0, 0, 0, 7, 0]) + inside),
        )
        for n in range(5)
    ]
    events = read(file(frames))
    [*_, last] = assert_sums_are_those_of_the_flows(events)
    kinds = {e.flow.tunnel and e.flow.tunnel.kind for e in events if isinstance(e, FlowEnded)}
    assert kinds == {None, TunnelKind.VXLAN}
    assert last.since_start.total.packets == 2 * len(frames)


def test_a_frame_without_a_flow_counts_in_no_sum(file: Write) -> None:
    frames = [at(0.1, ethernet(0x88CC, b"lldp")), at(1.5, ethernet(0x88CC, b"lldp"))]
    [only] = stats_of(read(file(frames)))
    assert only.since_start.total == Sums()
    assert only.health.received == 2
    assert only.health.not_keyed["not_ip"] == 2


def test_a_file_without_a_frame_has_no_aggregates(file: Write) -> None:
    assert read(file([])) == []


def test_more_keys_than_fit_keep_the_sums_exact_and_the_rows_within_their_errors(
    file: Write,
) -> None:
    frames = [
        at(n / 100, udp(f"10.0.{n % 5}.{n * 7 % 90}", FAR, 1000 + n, 9, b"x" * (n % 13)))
        for n in range(900)
    ]
    events = read(file(frames), StatsOptions(interval=1.0, top=20, capacity=20))
    stats = stats_of(events)
    assert traffic_of(stats) == stats[-1].since_start == flow_traffic(events)
    true = {key: row[1] + row[3] for key, row in flow_rows(events).items()}
    errors = 0
    for kind, rows in stats[-1].top_since_start._asdict().items():
        for row in rows:
            assert row.bytes <= true[kind, row.key] <= row.bytes + row.error
            errors += row.error
    assert errors > 0


def test_a_subscriber_of_aggregates_alone_gets_all_of_them(file: Write) -> None:
    async def run() -> list[StatsUpdated]:
        ring = Netring.replay(file(MANY), stats=EVERY_SECOND, buffer=2)
        subscriber = ring.subscribe(kinds=StatsUpdated)
        async with ring:
            assert ring.stats is None
            assert ring.top.hosts == ()
            found = [event async for event in subscriber if isinstance(event, StatsUpdated)]
            assert ring.stats == found[-1]
            assert ring.top == found[-1].top
        return found

    found = asyncio.run(run())
    assert len(found) == 8
    assert found[-1].since_start.total.packets == len(MANY)


def test_a_ring_that_is_left_early_still_balances(file: Write) -> None:
    async def run() -> tuple[list[Event], NetringStatistics]:
        ring = Netring.replay(file(MANY), stats=StatsOptions(interval=0.1, top=1000), buffer=64)
        events: list[Event] = []
        subscriber = ring.subscribe()
        async with ring:
            async for event in subscriber:
                events.append(event)
                if len(events) == 100:
                    break
        events += [event async for event in subscriber]
        return events, ring.statistics()

    events, books = asyncio.run(run())
    assert books.balanced
    last = stats_of_any(events)[-1]
    flows = books.capture.flows
    assert last.since_start.total == Sums(
        flows.ended_packets, flows.ended_bytes, sum(flows.ended.values())
    )


def stats_of_any(events: Sequence[Event]) -> list[StatsUpdated]:
    return [event for event in events if isinstance(event, StatsUpdated)]
