"""No choice of events hides that the capture failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    BatchSubscriber,
    CaptureError,
    Event,
    FlowBroadcast,
    FlowEnded,
    FlowEvent,
    FlowOptions,
    FlowStarted,
    FlowSubscriber,
    Lagged,
    LinkDown,
    Netring,
    NetringError,
    SinkFailed,
    SinkStatistics,
)
from netring_bpf.errors import CaptureFileError, ClosedError, OptionError, SinkError
from tests.support.events import ended, started
from tests.support.frames import udp
from tests.support.replay import Frame, one_batch
from tests.support.savefiles import pcap

BOOM = NetringError("boom")
ERROR = CaptureError(5, BOOM)
SINK_FAILED = SinkFailed(4, "sink", SinkError("no"))
STREAM: list[Event] = [started(1), LinkDown(2, "eth0"), SINK_FAILED, ERROR, ended(1), ended(2)]
FRAMES = [Frame(udp("10.0.0.1", "10.0.0.2", 1000 + n, 53)) for n in range(3)]


def never(_: Event) -> bool:
    return False


async def rest(subscriber: FlowSubscriber | BatchSubscriber) -> list[Event]:
    """Every event that is left, one by one."""
    found: list[Event] = []
    async for got in subscriber:
        found += (got,) if isinstance(got, tuple) and hasattr(got, "ts") else got
    return found


async def by_next_batch(subscriber: FlowSubscriber | BatchSubscriber) -> list[Event]:
    found: list[Event] = []
    while batch := await subscriber.next_batch():
        found += batch
    return found


async def hear(
    subscriber: FlowSubscriber | BatchSubscriber, read: Callable[[Any], Any]
) -> tuple[list[Event], list[NetringError]]:
    """The events and what was raised after them; then nothing comes, and nothing is raised."""
    events: list[Event] = []
    errors: list[NetringError] = []
    for _ in range(2):
        try:
            while got := await read(subscriber):
                events += got
        except NetringError as error:
            errors.append(error)
    assert await read(subscriber) == []
    return events, errors


async def one(subscriber: FlowSubscriber) -> list[Event]:
    event = await anext(subscriber, None)
    return [] if event is None else [event]


async def batch_by_batch(subscriber: BatchSubscriber) -> list[Event]:
    return list(await anext(subscriber, []))


async def next_batch(subscriber: FlowSubscriber | BatchSubscriber) -> list[Event]:
    return list(await subscriber.next_batch(2))


CHOICES: list[tuple[dict[str, Any], list[Event]]] = [
    ({}, [started(1), LinkDown(2, "eth0"), SINK_FAILED, ended(1), ended(2)]),
    ({"kinds": FlowEnded}, [SINK_FAILED, ended(1), ended(2)]),
    ({"kinds": FlowEnded | FlowStarted}, [started(1), SINK_FAILED, ended(1), ended(2)]),
    ({"kinds": (FlowEnded,), "where": never}, [SINK_FAILED]),
    ({"where": never}, [SINK_FAILED]),
]


def told(events: list[Event]) -> list[Event]:
    """With the error in its place."""
    at = events.index(SINK_FAILED) + 1
    return [*events[:at], ERROR, *events[at:]]


@pytest.mark.parametrize("as_one", [True, False], ids=["in one batch", "one by one"])
@pytest.mark.parametrize("read", [one, next_batch])
@pytest.mark.parametrize(("choice", "expected"), CHOICES)
def test_the_error_is_raised_after_the_last_event_or_comes_in_its_place(
    choice: dict[str, Any], expected: list[Event], read: Any, as_one: bool
) -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        raising = broadcast.subscribe(**choice)
        telling = broadcast.subscribe(**choice, errors="event")
        for batch in [STREAM] if as_one else [[event] for event in STREAM]:
            broadcast.publish(batch)
        broadcast.close()
        assert await hear(raising, read) == (expected, [BOOM])
        assert await hear(telling, read) == (told(expected), [])
        for subscriber in (raising, telling):
            books = subscriber.statistics()
            assert (books.delivered, books.filtered, books.pending) == (
                len(told(expected)),
                len(STREAM) - len(told(expected)),
                0,
            )

    asyncio.run(run())


@pytest.mark.parametrize("read", [batch_by_batch, next_batch])
def test_batches_tell_the_error_too(read: Any) -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        raising = broadcast.subscribe_batches(kinds=FlowEnded)
        telling = broadcast.subscribe_batches(kinds=FlowEnded, errors="event")
        broadcast.publish(STREAM)
        broadcast.close()
        assert await hear(raising, read) == ([SINK_FAILED, ended(1), ended(2)], [BOOM])
        assert await hear(telling, read) == ([SINK_FAILED, ERROR, ended(1), ended(2)], [])

    asyncio.run(run())


def test_who_names_the_error_among_the_kinds_gets_it_as_an_event() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe(kinds=(CaptureError,))
        broadcast.publish(STREAM)
        broadcast.close()
        assert await hear(subscriber, one) == ([SINK_FAILED, ERROR], [])

    asyncio.run(run())


def test_a_subscriber_too_slow_for_the_error_is_told_all_the_same() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast(buffer=2)
        raising, telling = broadcast.subscribe(), broadcast.subscribe(errors="event")
        batches = broadcast.subscribe_batches(kinds=FlowStarted)
        broadcast.publish(STREAM)
        broadcast.publish([ended(3)])
        broadcast.close()
        last: list[Event] = [ended(2), ended(3)]
        assert await hear(raising, one) == ([Lagged(0, 4), *last], [BOOM])
        assert await hear(telling, one) == ([Lagged(0, 3), ERROR, Lagged(0, 1), *last], [])
        assert await hear(batches, batch_by_batch) == ([Lagged(0, 4)], [BOOM])
        assert [s.lagged for s in broadcast.statistics().subscribers] == [4, 4, 4]

    asyncio.run(run())


def test_a_subscriber_that_came_after_the_error_or_left_before_the_end() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        gone = broadcast.subscribe()
        broadcast.publish(STREAM)
        late = broadcast.subscribe(kinds=FlowEnded)
        gone.close()
        broadcast.close()
        assert await hear(late, one) == ([], [BOOM])
        assert await hear(gone, one) == ([], [])

    asyncio.run(run())


@pytest.mark.parametrize("kinds", ["ended", ("ended",), [FlowEnded, 3], int, FlowEvent | int])
def test_kinds_that_are_no_events_are_refused_and_the_classes_named(kinds: Any) -> None:
    broadcast = FlowBroadcast()
    for subscribe in (broadcast.subscribe, broadcast.subscribe_batches):
        with pytest.raises(OptionError) as caught:
            subscribe(kinds=kinds)
        assert caught.value.option == "kinds"
        assert str(caught.value).endswith(
            "the classes are FlowStarted, FlowEstablished, FlowUpdated, FlowEnded, AppEvent, "
            "NeighbourSeen, DeviceSeen, DeviceChanged, DeviceGone, StatsUpdated, LinkDown, LinkUp, "
            "BackendChanged, CaptureError, SinkFailed, Lagged"
        )


def test_a_batch_is_asked_for_classes_of_events_too() -> None:
    with pytest.raises(OptionError, match="the classes are FlowStarted"):
        one_batch([udp("10.0.0.1", "10.0.0.2", 1, 53)]).of_kinds("ended")  # type: ignore[arg-type]


def test_errors_are_raised_or_events_and_nothing_else() -> None:
    with pytest.raises(OptionError, match="must be one of raise, event"):
        FlowBroadcast().subscribe(errors="log")  # type: ignore[arg-type]


# -- a Netring --


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(FRAMES)[:-3])
    return path


def test_a_broken_file_never_ends_like_a_good_one(cut: Path) -> None:
    async def run() -> None:
        ring = Netring.replay(cut)
        one_by_one = ring.subscribe(kinds=FlowEnded, where=lambda event: event.ts < 0)
        in_batches = ring.subscribe_batches(kinds=FlowEnded)
        async with ring:
            for read in (rest(one_by_one), rest(in_batches)):
                with pytest.raises(CaptureFileError) as caught:
                    await read
                assert caught.value is ring.error

    asyncio.run(run())


class Sink:
    """Takes flows until it fails, before or after the end of the stream."""

    name = "test://sink"
    kinds = (FlowEnded,)

    def __init__(self, error: Exception | None = None, *, at_end: bool = False) -> None:
        self.error, self.at_end = error, at_end
        self.taken: list[Event] = []

    async def run(self, events: FlowSubscriber) -> None:
        if self.at_end or self.error is None:
            async for event in events:
                self.taken.append(event)
        if self.error is not None:
            raise self.error

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(self.name, len(self.taken), len(self.taken))


async def finished(ring: Netring) -> AsyncIterator[Event]:
    async with ring:
        async for event in ring.subscribe(kinds=FlowEnded):
            yield event


async def heard(ring: Netring) -> list[Event]:
    return [event async for event in finished(ring)]


def test_a_sink_drains_when_the_capture_fails(cut: Path) -> None:
    sink = Sink()
    with pytest.raises(CaptureFileError):
        asyncio.run(heard(Netring.replay(cut, sinks=[sink])))
    assert [type(event) for event in sink.taken] == [CaptureError, FlowEnded, FlowEnded]


def test_a_sink_that_fails_is_told_in_the_stream_and_nothing_else_ends(tmp_path: Path) -> None:
    path = tmp_path / "good.pcap"
    path.write_bytes(pcap(FRAMES))
    cause = KeyError("gone")
    good = Sink()
    ring = Netring.replay(path, sinks=[Sink(cause), good], flow=FlowOptions(events=(FlowEnded,)))
    events = asyncio.run(heard(ring))
    [failed] = [event for event in events if isinstance(event, SinkFailed)]
    assert (failed.sink, type(failed.error), failed.error.__cause__) == (
        "test://sink",
        SinkError,
        cause,
    )
    assert ring.error is failed.error
    assert [type(event) for event in events if event is not failed] == [FlowEnded] * 3
    assert [event for event in good.taken if event != failed] == [e for e in events if e != failed]
    books = ring.statistics()
    assert books.failed_sinks == {"test://sink": str(failed.error)}
    assert books.balanced


def test_a_sink_that_fails_after_the_end_is_the_error_of_the_ring(tmp_path: Path) -> None:
    path = tmp_path / "good.pcap"
    path.write_bytes(pcap(FRAMES))
    error = SinkError("not delivered")
    ring = Netring.replay(path, sinks=[Sink(error, at_end=True)])
    assert [type(event) for event in asyncio.run(heard(ring))] == [FlowEnded] * 3
    assert ring.error is error
    assert ring.statistics().failed_sinks == {"test://sink": "not delivered"}


def test_the_error_of_the_capture_goes_before_that_of_a_sink(cut: Path) -> None:
    ring = Netring.replay(cut, sinks=[Sink(SinkError("first"))])
    with pytest.raises(CaptureFileError) as caught:
        asyncio.run(heard(ring))
    assert ring.error is caught.value


@pytest.mark.parametrize("sinks", [Sink(), "mqtt://broker", {"a": 1}, [Sink, 3], ["mqtt://b"]])
def test_sinks_that_are_no_list_of_sinks_are_refused(tmp_path: Path, sinks: Any) -> None:
    with pytest.raises(OptionError) as caught:
        Netring.replay(tmp_path / "any", sinks=sinks)
    assert caught.value.option == "sinks"


@pytest.mark.parametrize("subscribe", ["subscribe", "subscribe_batches"])
def test_a_ring_that_was_never_entered_does_not_hang(tmp_path: Path, subscribe: str) -> None:
    async def run() -> None:
        ring = Netring.replay(tmp_path / "any")
        with pytest.raises(ClosedError, match=r"is not open.*inside of `async with`"):
            await asyncio.wait_for(anext(getattr(ring, subscribe)()), 10)
        with pytest.raises(ClosedError, match="is not open"):
            await asyncio.wait_for(getattr(ring, subscribe)().next_batch(), 10)

    asyncio.run(run())


def test_a_task_may_begin_to_iterate_just_before_the_ring_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "good.pcap"
    path.write_bytes(pcap(FRAMES))

    async def run() -> list[Event]:
        ring = Netring.replay(path, flow=FlowOptions(events=(FlowEnded,)))

        async def use() -> None:
            async with ring:
                await asyncio.sleep(0)

        events, _ = await asyncio.gather(rest(ring.subscribe()), use())
        return events

    assert [type(event) for event in asyncio.run(run())] == [FlowEnded] * 3
