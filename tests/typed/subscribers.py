"""The classes of events that each way to subscribe gives, exactly.

``tests/unit/test_typing.py`` has mypy and pyright read this file. Each ``type: ignore`` marks an
error that both must report, as they report those that are not needed as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal, assert_never, assert_type

import netring_bpf as nr

Ended = nr.FlowEnded | nr.SinkFailed | nr.Lagged
EndedOrError = nr.FlowEnded | nr.CaptureError | nr.SinkFailed | nr.Lagged
Two = nr.FlowStarted | nr.FlowEnded | nr.SinkFailed | nr.Lagged
Unlike = nr.FlowEnded | nr.LinkDown | nr.DeviceSeen | nr.StatsUpdated | nr.SinkFailed | nr.Lagged


async def one_class(ring: nr.Netring) -> None:
    async for event in ring.subscribe(kinds=nr.FlowEnded):
        assert_type(event, Ended)
        print(event.reason)  # type: ignore[union-attr]
        match event:
            case nr.FlowEnded(flow=flow, reason=reason):
                assert_type(flow, nr.Flow)
                assert_type(reason, nr.FlowEnd)
            case nr.Lagged(missed=missed):
                assert_type(missed, int)
            case nr.SinkFailed(error=error):
                assert_type(error, nr.NetringError)
            case _:
                assert_never(event)


async def the_error_as_an_event(ring: nr.Netring, errors: Literal["raise", "event"]) -> None:
    assert_type(ring.subscribe(kinds=nr.FlowEnded, errors="event"), nr.FlowSubscriber[EndedOrError])
    assert_type(ring.subscribe(kinds=nr.FlowEnded, errors=errors), nr.FlowSubscriber[EndedOrError])
    assert_type(ring.subscribe(kinds=nr.FlowEnded, errors="raise"), nr.FlowSubscriber[Ended])
    assert_type(
        ring.subscribe(kinds=(nr.FlowEnded, nr.CaptureError)), nr.FlowSubscriber[EndedOrError]
    )
    ring.subscribe(errors="event ")  # type: ignore[call-overload]


async def several_classes(ring: nr.Netring, some: tuple[type[nr.FlowEvent], ...]) -> None:
    assert_type(ring.subscribe(kinds=(nr.FlowEnded,)), nr.FlowSubscriber[Ended])
    assert_type(ring.subscribe(kinds=(nr.FlowStarted, nr.FlowEnded)), nr.FlowSubscriber[Two])
    assert_type(
        ring.subscribe(kinds=(nr.FlowEnded, nr.LinkDown, nr.DeviceSeen, nr.StatsUpdated)),
        nr.FlowSubscriber[Unlike],
    )
    assert_type(ring.subscribe(kinds=some), nr.FlowSubscriber[nr.FlowEvent | nr.NeverHidden])
    ring.subscribe(kinds="ended")  # type: ignore[call-overload]
    ring.subscribe(kinds=int)  # type: ignore[type-var]
    ring.subscribe(kinds=(nr.FlowEnded, str))  # type: ignore[type-var]


async def every_class(ring: nr.Netring) -> None:
    events = ring.subscribe()
    assert_type(events, nr.FlowSubscriber[nr.SelectableEvent | nr.NeverHidden])
    assert_type(ring.subscribe(kinds=None), nr.FlowSubscriber[nr.SelectableEvent | nr.NeverHidden])
    assert_type(ring.subscribe(errors="event"), nr.FlowSubscriber[nr.Event])
    async for event in events:
        match event:
            case (
                nr.FlowStarted() | nr.FlowEstablished() | nr.FlowUpdated() | nr.FlowEnded()
                | nr.AppEvent()
            ):  # fmt: skip
                assert_type(event.flow, nr.Flow)
            case nr.NeighbourSeen():
                assert_type(event.mac, str)
            case nr.DeviceSeen() | nr.DeviceChanged() | nr.DeviceGone():
                assert_type(event.device, nr.Device)
            case nr.StatsUpdated():
                assert_type(event.top, nr.Top)
            case nr.LinkDown() | nr.LinkUp() | nr.BackendChanged():
                assert_type(event.interface, str)
            case nr.SinkFailed():
                assert_type(event.sink, str)
            case nr.Lagged():
                assert_type(event.missed, int)
            case _:
                assert_never(event)


async def ways_to_read(ring: nr.Netring) -> None:
    async with ring.subscribe(kinds=nr.FlowEnded) as events:
        assert_type(events, nr.FlowSubscriber[Ended])
        assert_type(await anext(events), Ended)
        assert_type(await events.next_batch(), Sequence[Ended])
        assert_type(events.next_nowait(), Ended | None)
    async with aclosing(ring.subscribe(kinds=nr.FlowEnded)) as events:
        assert_type([event async for event in events], list[Ended])


def long(event: nr.FlowEnded) -> bool:
    return event.flow.duration > 1e9


def any_event(event: nr.Event) -> bool:
    return event.ts > 0


async def chosen_by_a_function(ring: nr.Netring) -> None:
    assert_type(ring.subscribe(kinds=nr.FlowEnded, where=long), nr.FlowSubscriber[Ended])
    assert_type(ring.subscribe(kinds=nr.FlowEnded, where=any_event), nr.FlowSubscriber[Ended])
    ring.subscribe(kinds=nr.FlowEnded, where=lambda event: event.reason is nr.FlowEnd.FIN)
    ring.subscribe(where=any_event)
    ring.subscribe(where=long)  # type: ignore[arg-type]


async def batches(ring: nr.Netring) -> None:
    subscriber = ring.subscribe_batches(kinds=nr.FlowEnded)
    assert_type(subscriber, nr.BatchSubscriber[Ended])
    assert_type(await subscriber.next_batch(10), Sequence[Ended])
    assert_type(subscriber.next_nowait(), Sequence[Ended] | None)
    async for batch in subscriber:
        assert_type(batch, Sequence[Ended])
        assert_type(batch[0], Ended)
        if isinstance(batch, nr.EventBatch):
            print(len(batch.raw), batch.columns()["orig_bytes"].sum())
        else:
            assert_type(batch, Sequence[Ended])
    assert_type(ring.subscribe_batches(), nr.BatchSubscriber[nr.SelectableEvent | nr.NeverHidden])
    assert_type(ring.subscribe_batches(errors="event"), nr.BatchSubscriber[nr.Event])
    assert_type(
        ring.subscribe_batches(kinds=(nr.FlowStarted, nr.FlowEnded)), nr.BatchSubscriber[Two]
    )
    assert_type(
        ring.subscribe_batches(kinds=nr.FlowEnded, errors="event"),
        nr.BatchSubscriber[EndedOrError],
    )


def a_batch(batch: nr.EventBatch) -> None:
    ends = batch.of_kinds(nr.FlowEnded)
    assert_type(ends, nr.EventBatch[nr.FlowEnded])
    assert_type(ends[0].reason, nr.FlowEnd)
    assert_type(ends[1:], nr.EventBatch[nr.FlowEnded])
    assert_type(list(ends), list[nr.FlowEnded])


def a_broadcast(broadcast: nr.FlowBroadcast) -> None:
    assert_type(broadcast.subscribe(kinds=nr.FlowEnded), nr.FlowSubscriber[Ended])
    assert_type(
        broadcast.subscribe(kinds=nr.FlowEnded, errors="event"), nr.FlowSubscriber[EndedOrError]
    )
    assert_type(broadcast.subscribe(), nr.FlowSubscriber[nr.SelectableEvent | nr.NeverHidden])
    assert_type(broadcast.subscribe_batches(kinds=nr.FlowEnded), nr.BatchSubscriber[Ended])


async def print_all(events: nr.FlowSubscriber) -> None:
    async for event in events:
        assert_type(event, nr.Event)


async def a_subscriber_of_some_events_serves_where_any_may_come(ring: nr.Netring) -> None:
    await print_all(ring.subscribe(kinds=nr.FlowEnded))
    several: list[nr.FlowSubscriber] = [ring.subscribe(), ring.subscribe(kinds=nr.AppEvent)]
    for events in several:
        await print_all(events)


class CountingSink:
    """A sink as a user writes one."""

    name = "counter"
    kinds = (nr.FlowEnded,)

    def __init__(self) -> None:
        self.count = 0

    async def run(self, events: nr.FlowSubscriber) -> None:
        async for event in events:
            self.count += isinstance(event, nr.FlowEnded)

    def statistics(self) -> nr.SinkStatistics:
        return nr.SinkStatistics(self.name, accepted=self.count, acknowledged=self.count)


def a_sink_of_one_s_own() -> nr.Netring:
    return nr.Netring("eth1", sinks=[CountingSink()])


def errors_stand_beside_the_rest() -> None:
    try:
        nr.Capture("eth1")
    except nr.PermissionDeniedError as error:
        assert_type(error.capability, str)
    except (nr.InterfaceNotFoundError, nr.InterfaceDownError) as error:
        assert_type(error.interface, str)
    except nr.NetringError as error:
        print(error)
