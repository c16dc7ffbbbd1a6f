"""The interface goes down, comes back and is deleted: subscribers hear of each, nobody spins."""

from __future__ import annotations

import asyncio
import os

import pytest

from netring_bpf import (
    CaptureError,
    Event,
    FlowEnd,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    FlowSubscriber,
    LinkDown,
    LinkUp,
    Netring,
)
from netring_bpf.errors import InterfaceGoneError
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, assert_balanced, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

QUIET = 0.5


async def expect(events: FlowSubscriber, kind: type[Event]) -> Event:
    event = await asyncio.wait_for(anext(events), PATIENCE)
    assert isinstance(event, kind), event
    return event


async def send_one(namespace: Namespace, port: int) -> None:
    frame = udp("10.0.0.1", "10.0.0.2", port, 53, b"one")
    assert await asyncio.to_thread(send_frames, namespace, SENDER, [frame]) == 1


async def share_of_a_cpu(events: FlowSubscriber) -> float:
    """Return the share of one CPU used while nothing is to come: a spinning thread takes it all."""
    before = os.times()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), QUIET)
    after = os.times()
    used = after.user + after.system - before.user - before.system
    return used / (after.elapsed - before.elapsed)


@pytest.mark.parametrize("way", WAYS)
def test_down_up_and_deletion_reach_every_subscriber(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        # No flow times out, however slow the machine is.
        flow = FlowOptions(idle_udp=3600, port_timeouts=())
        ring = Netring(PORT, netns=namespace.path, flow=flow, **WAYS[way].options())
        events, other = ring.subscribe(errors="event"), ring.subscribe(errors="event")
        async with ring, events, other:
            await send_one(namespace, 1)
            first = await expect(events, FlowStarted)
            await asyncio.to_thread(namespace.ip, f"link set {PORT} down")
            assert (await expect(events, LinkDown)).interface == PORT
            assert await share_of_a_cpu(events) < 0.5
            await asyncio.to_thread(namespace.ip, f"link set {PORT} up")
            await expect(events, LinkUp)
            await send_one(namespace, 2)
            second = await expect(events, FlowStarted)
            await asyncio.to_thread(namespace.ip, f"link del {PORT}")
            await expect(events, LinkDown)
            error = (await expect(events, CaptureError)).error
            assert isinstance(error, InterfaceGoneError)
            assert error.interface == PORT
            ended = [await expect(events, FlowEnded) for _ in range(2)]
            assert [(e.flow.id, e.reason) for e in ended] == [
                (first.flow.id, FlowEnd.SHUTDOWN),
                (second.flow.id, FlowEnd.SHUTDOWN),
            ]
            assert await asyncio.wait_for(anext(events, None), PATIENCE) is None
            # The other subscriber finds the same story, told later.
            assert [type(event) async for event in other] == [
                FlowStarted, LinkDown, LinkUp, FlowStarted, LinkDown, CaptureError,
                FlowEnded, FlowEnded,
            ]  # fmt: skip
            assert ring.error is error
        assert_balanced(ring.statistics())

    with wire() as namespace:
        asyncio.run(run(namespace))


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_is_down_at_the_start_is_told(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        await asyncio.to_thread(namespace.ip, f"link set {SENDER} down")  # takes PORT's carrier
        ring = Netring(PORT, netns=namespace.path, **WAYS[way].options())
        async with ring, ring.subscribe() as events:
            assert [notice for notice in ring.notices if "the link is down" in notice]
            assert events.info is not None
            assert not events.info.link_up
            await asyncio.to_thread(namespace.ip, f"link set {SENDER} up")
            await expect(events, LinkUp)
        assert_balanced(ring.statistics())

    with wire() as namespace:
        asyncio.run(run(namespace))


@pytest.mark.parametrize("way", WAYS)
def test_deletion_is_raised_whatever_a_subscriber_asks_for(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        ring = Netring(PORT, netns=namespace.path, **WAYS[way].options())
        async with ring:
            events = ring.subscribe(kinds=FlowEnded, where=lambda event: event.ts < 0)
            batches = ring.subscribe_batches(kinds=FlowEnded)
            await send_one(namespace, 1)
            await asyncio.to_thread(namespace.ip, f"link del {PORT}")
            with pytest.raises(InterfaceGoneError) as caught:
                await anext(events)
            assert caught.value is ring.error
            assert [type(event) for event in await batches.next_batch()] == [FlowEnded]
            with pytest.raises(InterfaceGoneError):
                await batches.next_batch()
            assert await batches.next_batch() == []
        assert_balanced(ring.statistics())

    with wire() as namespace:
        asyncio.run(asyncio.wait_for(run(namespace), PATIENCE))


@pytest.mark.parametrize("way", WAYS)
def test_moving_the_interface_away_ends_the_stream(way: str) -> None:
    async def run(namespace: Namespace, elsewhere: Namespace) -> None:
        ring = Netring(PORT, netns=namespace.path, **WAYS[way].options())
        async with ring, ring.subscribe(errors="event") as events:
            await asyncio.to_thread(namespace.ip, f"link set {PORT} netns {elsewhere.pid}")
            kinds = [type(event) async for event in events]
        assert kinds == [LinkDown, CaptureError]
        assert isinstance(ring.error, InterfaceGoneError)

    with wire() as namespace, Namespace() as elsewhere:
        asyncio.run(asyncio.wait_for(run(namespace, elsewhere), PATIENCE))
