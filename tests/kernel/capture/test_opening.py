"""Opening that fails or is cancelled: nothing stays open, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading

import pytest

from netring_bpf import Event, FlowSubscriber, Netring, XdpOptions
from netring_bpf.errors import ClosedError, InterfaceNotFoundError, ResourceLimitError
from tests.support.lab import xdp_attached
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, wire

pytestmark = pytest.mark.requires("root", "netns", "bcc")

SMALL = XdpOptions(ring_size=64, chunks=128)


async def rest_of(subscriber: FlowSubscriber) -> list[Event]:
    async with asyncio.timeout(PATIENCE):
        return [event async for event in subscriber]


def test_a_failed_opening_ends_the_stream_of_who_subscribed_before() -> None:
    async def run() -> None:
        ring = Netring("nosuch0", netns=namespace.path)
        waiting = asyncio.create_task(rest_of(ring.subscribe()))
        with pytest.raises(InterfaceNotFoundError):
            async with ring:
                pass
        assert await waiting == []
        await ring.close()
        with pytest.raises(ClosedError, match="used before"):
            await ring.__aenter__()

    with wire() as namespace:
        asyncio.run(run())


@pytest.mark.parametrize("cancels", [1, 2])
def test_a_cancelled_opening_leaves_nothing_open(cancels: int) -> None:
    async def run() -> None:
        ring = Netring(PORT, netns=namespace.path, backend="af_xdp", xdp=SMALL)
        waiting = asyncio.create_task(rest_of(ring.subscribe()))
        opening = asyncio.create_task(ring.__aenter__())
        for _ in range(cancels):
            await asyncio.sleep(0)  # one turn of the loop: the cancellation meets the next await
            opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await ring.close()
        assert await waiting == []
        assert not xdp_attached(namespace, PORT)
        assert ring.statistics().balanced

    with wire() as namespace:
        asyncio.run(run())


def test_a_reader_thread_that_cannot_start_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "netring-reader":
            raise RuntimeError("can't start new thread")
        start(self)

    async def run() -> None:
        ring = Netring(PORT, netns=namespace.path, backend="af_xdp", xdp=SMALL)
        waiting = asyncio.create_task(rest_of(ring.subscribe()))
        with pytest.raises(ResourceLimitError) as caught:
            async with ring:
                pass
        assert caught.value.resource == "threads"
        assert await waiting == []
        assert not xdp_attached(namespace, PORT)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with wire() as namespace:
        asyncio.run(run())


def test_a_loop_that_cancels_everything_still_takes_the_capture_down() -> None:
    async def run() -> None:
        ring = Netring(PORT, netns=namespace.path, backend="af_xdp", xdp=SMALL)
        await ring.__aenter__()
        assert xdp_attached(namespace, PORT)
        closing = asyncio.create_task(ring.close())
        await asyncio.sleep(0)  # one turn: the shutdown's task is made, and has not begun
        # asyncio.run cancels all tasks that are left.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert closing.cancelled()
        assert not xdp_attached(namespace, PORT)

    with wire() as namespace:
        asyncio.run(run())
