"""Live subscribers: the slow one is told exactly what it missed, the others miss nothing."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import Event, FlowSubscriber, Lagged, Netring
from tests.support.frames import udp
from tests.support.rig import PORT, SENDER, WAYS, assert_balanced, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FLOWS = 20_000
BUFFER = 256


async def collect(subscriber: FlowSubscriber, into: list[Event]) -> None:
    async for event in subscriber:
        into.append(event)


@pytest.mark.parametrize("way", WAYS)
def test_two_get_every_event_and_the_slow_one_gets_lagged(way: str) -> None:
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", "10.1.0.1", 7, 53) for n in range(FLOWS)]
    fast: tuple[list[Event], list[Event]] = ([], [])
    slow: list[Event] = []

    async def run() -> None:
        ring = Netring(PORT, netns=namespace.path, buffer=BUFFER, **WAYS[way].options())
        async with ring:
            subscribers = [ring.subscribe(), ring.subscribe()]
            sleeper = ring.subscribe()
            reading = [
                asyncio.create_task(collect(s, into))
                for s, into in zip(subscribers, fast, strict=True)
            ]
            assert await asyncio.to_thread(send_frames, namespace, SENDER, frames) == FLOWS
        await asyncio.gather(*reading)
        # Only now does the slow one look: all but the latest BUFFER events are gone.
        await collect(sleeper, slow)
        statistics = ring.statistics()
        published = statistics.broadcast.published
        assert published == 2 * FLOWS
        for subscriber, events in zip(subscribers, fast, strict=True):
            books = subscriber.statistics()
            assert (books.delivered, books.lagged, len(events)) == (published, 0, published)
        assert fast[0] == fast[1]
        assert isinstance(slow[0], Lagged)
        assert slow[0].missed == published - BUFFER
        assert slow[1:] == fast[0][-BUFFER:]
        books = sleeper.statistics()
        assert books.delivered + books.lagged == published
        assert_balanced(statistics)

    with wire() as namespace:
        asyncio.run(run())
