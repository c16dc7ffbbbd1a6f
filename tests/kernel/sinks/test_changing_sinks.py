"""Sinks that come and go, and intervals that change, while a capture runs."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import (
    Event,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    Netring,
    StatsOptions,
    StatsUpdated,
)
from netring_bpf.broadcast import FlowSubscriber
from netring_bpf.errors import ClosedError, OptionError
from netring_bpf.sinks.base import SinkStatistics
from tests.support.frames import udp
from tests.support.patience import until
from tests.support.rig import PORT, SENDER, assert_balanced, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns")


class Kept:
    """Keeps the events of its kinds."""

    def __init__(self, *kinds: type[Event], fails: bool = False) -> None:
        self.name = "kept"
        self.kinds = kinds
        self.events: list[Event] = []
        self.has_ended = False
        self._fails = fails

    async def run(self, events: FlowSubscriber) -> None:
        if self._fails:
            raise ValueError("no")
        async for event in events:
            self.events.append(event)
        await asyncio.sleep(0.01)  # what a sink does to deliver the last of them
        self.has_ended = True

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(self.name, len(self.events), len(self.events))


def test_a_sink_gets_the_events_between_its_coming_and_its_going() -> None:
    async def run() -> None:
        with wire() as namespace:
            ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3")
            first, second = Kept(FlowStarted), Kept(FlowStarted)

            async def send(port: int, sinks: list[Kept]) -> None:
                wanted = [len(sink.events) + 1 for sink in sinks]
                await asyncio.to_thread(
                    send_frames, namespace, SENDER, [udp("10.0.0.1", "10.0.0.2", port, 53)]
                )
                await until(lambda: [len(sink.events) for sink in sinks] == wanted)

            async with ring:
                ring.add_sink(first)
                await send(1, [first])
                ring.add_sink(second)
                await send(2, [first, second])
                books = await ring.remove_sink(first)
                assert first.has_ended
                assert (books.accepted, [s.name for s in ring.statistics().sinks]) == (2, ["kept"])
                await send(3, [second])
                with pytest.raises(OptionError):
                    await ring.remove_sink(first)
            assert second.has_ended
            assert [e.flow.key.orig.port for e in first.events] == [1, 2]
            assert [e.flow.key.orig.port for e in second.events] == [2, 3]
            assert_balanced(ring.statistics())
            with pytest.raises(ClosedError):
                ring.add_sink(first)

    asyncio.run(run())


def test_a_sink_that_is_added_has_to_fit() -> None:
    async def run() -> None:
        with wire() as namespace:
            ring = Netring(
                PORT,
                netns=namespace.path,
                backend="tpacket_v3",
                flow=FlowOptions(events=(FlowEnded,)),
            )
            with pytest.raises(ClosedError):
                ring.add_sink(Kept(FlowEnded))
            with pytest.raises(ClosedError):
                await ring.wait_end()
            async with ring:
                for kind in (FlowStarted, StatsUpdated):
                    with pytest.raises(OptionError):
                        ring.add_sink(Kept(kind))
                bad = Kept(FlowEnded, fails=True)
                ring.add_sink(bad)
                await until(lambda: ring.statistics().failed_sinks)
                await ring.remove_sink(bad)
                assert ring.error is None
                waiting = asyncio.create_task(ring.wait_end())
                await asyncio.sleep(0)
                assert not waiting.done()
            await waiting

    asyncio.run(run())


def test_the_interval_of_aggregates_changes() -> None:
    async def run() -> None:
        with wire() as namespace:
            ring = Netring(
                PORT,
                netns=namespace.path,
                backend="tpacket_v3",
                stats=StatsOptions(interval=0.5),
                flow=FlowOptions(events=(FlowEnded,)),
            )
            async with ring, ring.subscribe(kinds=StatsUpdated) as events:
                await anext(events)
                ring.set_stats_interval(0.1)
                with pytest.raises(OptionError):
                    ring.set_stats_interval(0)
                spans = []
                async with asyncio.timeout(60):
                    async for event in events:
                        assert isinstance(event, StatsUpdated)
                        spans.append(round((event.ts - event.start) / 1e9, 1))
                        if spans.count(0.1) == 3:
                            break
            assert set(spans[:-3]) <= {0.5, 0.1, 0.2, 0.3, 0.4}

    asyncio.run(run())
