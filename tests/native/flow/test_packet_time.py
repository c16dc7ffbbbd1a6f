"""Time stamps that jump: no single one moves the timeouts, and those go on all the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from netring_bpf import CaptureStatistics, FlowEnd, FlowEnded, FlowOptions, PortTimeout
from tests.native.flow.test_tcp_life import A, B, Talk, talk
from tests.support.frames import tcp, udp
from tests.support.replay import SECOND, START, Frame, replay, replay_file
from tests.support.savefiles import pcap

DAY = 24 * 3600 * SECOND
YEAR = 365 * DAY
HOUR = 3600 * SECOND


def ended(frames: Iterable[Frame], **options: object) -> tuple[list[FlowEnded], CaptureStatistics]:
    events, books = replay(frames, FlowOptions(update_interval=None, **options))  # type: ignore[arg-type]
    assert books.balanced
    return [event for event in events if isinstance(event, FlowEnded)], books


def counts(frames: Iterable[Frame], **options: object) -> list[int]:
    """The packets of each flow, in the order of their ends."""
    return [event.flow.packets for event in ended(frames, **options)[0]]


def moved(frames: Iterable[Frame], by: int) -> list[Frame]:
    return [Frame(frame.data, frame.ts + by) for frame in frames]


def apart(count: int, gap: int, start: int = START) -> list[Frame]:
    """UDP packets of one 5-tuple."""
    return [Frame(udp("10.7.7.7", "10.7.7.8", 1, 2, b"x"), start + n * gap) for n in range(count)]


def connection(client: int = 40_000) -> Talk:
    return Talk(client).open().c("PA", data=b"get").s("PA", 1, 4, b"answer").close(4, 7)


@pytest.mark.parametrize("gap", [100 * SECOND, HOUR, 3 * DAY, 300 * DAY])
@pytest.mark.parametrize("count", [3, 4, 10])
def test_packets_further_apart_than_the_timeout_are_flows_of_their_own(
    gap: int, count: int
) -> None:
    frames = apart(count, gap, SECOND)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [1] * count
    assert [event.flow.start for event in flows] == [frame.ts for frame in frames]
    assert (books.time_step, books.time_stray) == ((count - 1) * (gap > HOUR), 0)


def test_two_packets_far_apart() -> None:
    assert counts(apart(2, 100 * SECOND)) == [1, 1]
    assert counts(apart(2, 30 * SECOND)) == [2]


@pytest.mark.parametrize(
    "stamp", [0, 1, START - YEAR, START - HOUR, START + 90 * SECOND, START + DAY, 2**32 * SECOND]
)
@pytest.mark.parametrize("at", range(1, 7))
def test_one_wrong_time_stamp_ends_nothing(stamp: int, at: int) -> None:
    frames = connection().frames
    frames[at] = Frame(frames[at].data, stamp)
    frames += apart(3, 100 * SECOND, START + SECOND // 2)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8, 1, 1, 1]
    assert flows[0].flow.conn_state == "SF"
    assert (books.time_step, books.time_stray) == (0, 1)


def test_a_false_stamp_takes_the_time_of_the_packet_before() -> None:
    frames = connection().frames
    frames[3] = Frame(frames[3].data, 2**32 * SECOND)
    [event] = ended(frames)[0]
    assert event.flow.duration == frames[-1].ts - frames[0].ts
    assert event.flow.orig.rtt == frames[2].ts - frames[1].ts


@pytest.mark.parametrize("stamp", [START + YEAR, 2**32 * SECOND])
def test_a_false_stamp_of_the_first_frame(stamp: int) -> None:
    frames = connection().frames
    frames[0] = Frame(frames[0].data, stamp)
    frames += apart(3, 100 * SECOND)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8, 1, 1, 1]
    assert (flows[0].flow.start, flows[0].flow.duration) == (frames[1].ts, 6_000_000)
    assert (books.time_step, books.time_stray) == (0, 1)


def test_a_false_stamp_of_the_last_frame() -> None:
    frames = connection().frames
    frames[-1] = Frame(frames[-1].data, START + 30 * YEAR)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8]
    assert (books.time_step, books.time_stray) == (0, 1)


@pytest.mark.parametrize("by", [2 * SECOND, HOUR, DAY, 30 * YEAR])
def test_a_second_half_that_is_earlier(by: int) -> None:
    frames = connection(40_000).frames
    frames += moved(connection(40_001).frames + apart(5, 100 * SECOND), -by)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8, 8, 1, 1, 1, 1, 1]
    assert {event.flow.conn_state for event in flows} == {"SF", "S0"}
    assert flows[1].flow.start == START - by
    assert (books.time_step, books.time_stray) == (1, 0)


def test_a_second_half_that_is_earlier_and_sparse() -> None:
    frames = connection().frames + apart(5, 100 * SECOND, START - DAY)
    assert counts(frames) == [8, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("by", [-DAY, -HOUR, -60 * SECOND])
def test_a_step_back_ends_no_flow_and_delays_no_timeout(by: int) -> None:
    long = talk().open()
    for n in range(20):
        long.wait(4).c("PA", 1 + n, 1, b"x")
    quiet = Frame(udp(A, B, 1, 2), START + SECOND)
    frames = [long.frames[0], quiet, *long.frames[1:10], *moved(long.frames[10:], by)]
    flows, books = ended(frames, idle_udp=30.0)
    assert [(event.reason, event.flow.packets) for event in flows] == [
        (FlowEnd.IDLE, 1), (FlowEnd.SHUTDOWN, 23),
    ]  # fmt: skip
    assert books.time_step == 1


def test_a_step_back_by_a_little_is_waited_out() -> None:
    frames = connection().frames
    frames += moved(apart(3, 100 * SECOND, START + 8_000_000), -SECOND)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8, 1, 1, 1]
    assert (books.time_step, books.time_stray) == (0, 0)


def test_a_step_ahead_is_silence() -> None:
    frames = connection(40_000).frames + moved(connection(40_001).frames, DAY)
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [8, 8]
    assert flows[0].reason is FlowEnd.FIN
    assert (books.time_step, books.time_stray) == (1, 0)


def test_frames_of_two_clocks_that_take_turns_make_one_step() -> None:
    frames: list[Frame] = []
    for n in range(10):
        part = [Frame(udp(A, B, 1000 + m, 9), START + n * SECOND + m) for m in range(5)]
        frames += moved(part, -DAY * (n % 2))
    flows, books = ended(frames)
    assert [event.flow.packets for event in flows] == [10] * 5
    assert {event.reason for event in flows} == {FlowEnd.SHUTDOWN}
    assert (books.time_step, books.time_stray) == (1, 0)


def test_the_active_timeout_counts_from_the_start_across_a_step() -> None:
    frames = apart(12, SECOND)
    frames = frames[:6] + moved(frames[6:], -DAY)
    assert counts(frames, active_timeout=9.0) == [10, 2]
    assert counts(moved(frames[6:], 0), active_timeout=9.0) == [6]


def test_a_flow_goes_on_across_a_step_back() -> None:
    frames = apart(4, SECOND) + apart(3, SECOND, START - DAY)
    assert counts(frames) == [7]


def test_a_thousand_frames_a_day_apart_are_read_in_order(tmp_path: Path) -> None:
    frames = [
        Frame(udp(A, B, 10_000 + n, 20_000, bytes(1400)), SECOND + n * DAY + n % 3)
        for n in range(1000)
    ]
    path = tmp_path / "sparse.pcap"
    path.write_bytes(pcap(frames))
    story = replay_file(path)
    assert [event.flow.key.orig.port for event in story.ended] == list(range(10_000, 11_000))
    starts = [frame.ts // 1000 * 1000 for frame in frames]
    assert [event.flow.start for event in story.ended] == starts


def test_a_short_timeout_sees_short_silence() -> None:
    port = PortTimeout("udp", 2, 0.5)
    assert counts(apart(4, SECOND, START), port_timeouts=(port,)) == [1, 1, 1, 1]


def test_one_side_that_goes_on_with_acknowledgements_is_one_flow() -> None:
    """A tap that sees one direction only."""
    talked = talk().c("S", 0).c("A", 1, 1)
    for n in range(20):
        talked.wait(30).c("PA", 1 + 100 * n, 1 + 1000 * n, b"x" * 100)
    talked.wait(1).c("FA", 2001, 20_001)
    for n in range(5):
        talked.wait(4).c("A", 2002, 20_001 + 1000 * n)
    [event] = talked.flows()
    assert (event.flow.packets, event.flow.history) == (28, "SADF")
    assert (event.flow.orig.payload, event.flow.resp.payload) == (2000, 0)
    assert event.flow.conn_state == "SH"


def test_the_answering_side_alone_is_one_flow() -> None:
    talked = Talk(40_000, 80).s("SA", 0)
    for n in range(20):
        talked.wait(30).s("PA", 1 + 100 * n, 1, b"x" * 100)
    [event] = talked.flows()
    assert (event.flow.packets, event.flow.resp.payload) == (21, 2000)


def test_one_side_that_acknowledges_gigabytes_is_one_flow() -> None:
    talked = talk().c("S", 0).c("A", 1, 1)
    for n in range(1, 7):
        talked.wait(1).c("A", 1, 1 + (n << 30))
    [event] = talked.flows()
    assert (event.flow.packets, event.flow.resp.payload) == (8, 0)


def test_an_opening_that_is_only_repeated_is_cut_as_in_zeek() -> None:
    frames = [Frame(tcp(A, B, 40_000, 80), START + n * SECOND) for n in (0, 1, 3, 7, 15, 31)]
    assert counts(frames) == [3, 1, 1, 1]
    assert counts(frames, half_open=60.0) == [6]


def test_a_lone_fin_that_is_repeated_puts_off_the_end() -> None:
    at = (0, 300, 900, 2000, 4000, 8000, 16_000)
    frame = tcp(A, B, 40_000, 80, flags="FA", seq=1000, ack=50)
    frames = [Frame(frame, START + ms * 1_000_000) for ms in at]
    assert counts(frames) == [6, 1]
