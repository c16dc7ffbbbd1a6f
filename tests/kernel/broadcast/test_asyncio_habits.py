"""A live Netring in asyncio programs as people write them: it always lets the interface go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netring_bpf import FlowStarted, FlowSubscriber, Netring, XdpOptions
from tests.support.frames import udp
from tests.support.lab import Namespace, xdp_attached
from tests.support.patience import PATIENCE, wait_until
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAMES = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 53) for n in range(10)]
BOTH = ["native", "tpacket_v3"]


def make(namespace: Namespace, way: str) -> Netring:
    """A ring whose buffers are quick to make."""
    options: dict[str, Any] = WAYS[way].options()
    if "xdp" in options:
        options["xdp"] = XdpOptions(ring_size=64, chunks=128, mode=options["xdp"].mode)
    return Netring(PORT, netns=namespace.path, **options)


async def read(ring: Netring, namespace: Namespace) -> int:
    async with ring, ring.subscribe(kinds=FlowStarted) as events:
        await ring.set_filter("udp")
        await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES)
        for _ in FRAMES:
            await anext(events)
        return events.statistics().delivered


@pytest.mark.parametrize("way", BOTH)
def test_a_ring_may_be_cancelled_in_each_of_its_waits(way: str) -> None:
    async def cancelled_after(turns: int, namespace: Namespace) -> bool:
        ring = make(namespace, way)
        task = asyncio.create_task(read(ring, namespace))
        for _ in range(turns):
            await asyncio.wait([task], timeout=0.002)
        is_cancelled = task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or outcome == len(FRAMES)
        await asyncio.wait_for(ring.close(), PATIENCE)
        assert not xdp_attached(namespace, PORT)
        assert [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
        return is_cancelled

    async def run(namespace: Namespace) -> int:
        turns = 0
        while await cancelled_after(turns, namespace):
            turns += 1 + turns // 3
        return turns

    with wire() as namespace:
        assert asyncio.run(run(namespace)) > 0


@pytest.mark.parametrize("way", BOTH)
def test_a_subscriber_that_fails_ends_its_group_and_lets_the_interface_go(way: str) -> None:
    async def count(events: FlowSubscriber[Any], fail_at: int | None = None) -> None:
        seen = 0
        async for _ in events:
            seen += 1
            if seen == fail_at:
                raise ZeroDivisionError(events.name)

    async def read_by_three(ring: Netring, namespace: Namespace) -> None:
        async with ring, asyncio.TaskGroup() as group:
            for name, fails in (("a", None), ("b", 3), ("c", None)):
                group.create_task(count(ring.subscribe(name=name), fails))
            await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES)

    async def run(namespace: Namespace) -> None:
        ring = make(namespace, way)
        with pytest.raises(ExceptionGroup) as caught:
            await read_by_three(ring, namespace)
        assert [str(error) for error in caught.value.exceptions] == ["b"]
        assert ring.statistics().balanced

    with wire() as namespace:
        asyncio.run(run(namespace))
        assert not xdp_attached(namespace, PORT)


@pytest.mark.parametrize("way", BOTH)
def test_a_scope_of_anyio_that_ends_lets_the_interface_go(way: str) -> None:
    import anyio

    async def main(namespace: Namespace) -> None:
        ring = make(namespace, way)
        with anyio.move_on_after(PATIENCE) as scope:
            async with ring, ring.subscribe() as events:
                await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES[:1])
                await anext(events)
                scope.cancel()
                await anext(events)
        assert scope.cancelled_caught
        # The program ends while the ring still closes.

    with wire() as namespace:
        anyio.run(main, namespace, backend="asyncio")
        wait_until(lambda: not xdp_attached(namespace, PORT))
