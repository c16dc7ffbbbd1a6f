"""A capture is closed by any thread, by a signal, in a forked child, or by nobody: nothing crashes.

The rounds meet the C call in each of its states: before, in, and after its wait for frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from netring_bpf import Capture, CaptureStatistics, Netring, XdpMode, XdpOptions
from netring_bpf.errors import ClosedError, NetringError
from tests.support.frames import udp
from tests.support.lab import Namespace, xdp_attached
from tests.support.patience import PATIENCE, wait_until
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAME = udp("10.0.0.1", "10.0.0.2", 1, 2, b"one")
ROUNDS = size(30, 100)


def small(way: str) -> dict[str, Any]:
    """The way's options, with rings that are quick to make."""
    mode = WAYS[way].attach
    xdp = XdpOptions(ring_size=64, chunks=128, mode=XdpMode(mode) if mode else None)
    return {"backend": WAYS[way].backend, "xdp": xdp}


def open_capture(namespace: Namespace, way: str, **options: Any) -> Capture:
    capture = Capture(PORT, netns=namespace.path, **small(way), **options)
    capture.open()
    return capture


@contextlib.contextmanager
def traffic(namespace: Namespace) -> Iterator[None]:
    """Frames come, in bursts, for the block."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.001):
            send_frames(namespace, SENDER, [FRAME] * 50)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stopped.set()
        sender.join()


def read_all(capture: Capture, seen: Counter[str]) -> None:
    try:
        for packet in capture.packets():
            assert packet.data == FRAME
        seen["ended"] += 1
    except NetringError as error:
        seen[repr(error)] += 1


@pytest.mark.parametrize("way", ["native", "tpacket_v3"])
def test_closing_while_another_thread_reads_ends_its_iteration(way: str) -> None:
    moments, seen = random.Random(14), Counter[str]()
    with wire() as namespace, traffic(namespace):
        for _ in range(ROUNDS):
            capture = open_capture(namespace, way)
            reading = threading.Thread(target=read_all, args=(capture, seen))
            reading.start()
            time.sleep(moments.uniform(0, 0.02))
            capture.close()
            reading.join(PATIENCE)
            assert not reading.is_alive()
            assert [str(law) for law in capture.statistics().equations() if not law.holds] == []
    # One that was closed before it began to read says so.
    late = seen.pop(repr(ClosedError(f"capture on {PORT}: it is not open")), 0)
    assert seen == {"ended": ROUNDS - late}


def books_until_closed(capture: Capture) -> CaptureStatistics:
    """The last books; every taking of them must succeed."""
    while capture.statistics() is not (books := capture.statistics()):
        pass
    return books


@pytest.mark.parametrize("way", ["native", "tpacket_v3"])
def test_many_threads_may_close_it_at_once_while_others_take_its_books(way: str) -> None:
    with wire() as namespace, traffic(namespace):
        for _ in range(size(10, 100)):
            capture = open_capture(namespace, way, filter={"a": "udp", "b": "ip"})
            with ThreadPoolExecutor(6) as pool:
                watchers = [pool.submit(books_until_closed, capture) for _ in range(2)]
                closers = [pool.submit(capture.close) for _ in range(4)]
                for closer in closers:
                    closer.result()
                for watcher in watchers:
                    assert watcher.result() == capture.statistics()
            assert not xdp_attached(namespace, PORT)


@pytest.mark.parametrize("way", ["native", "tpacket_v3"])
def test_the_books_of_a_netring_can_be_taken_while_it_closes(way: str) -> None:
    async def run(namespace: Namespace) -> int:
        named = {"a": "udp", "b": "ip"}
        ring = Netring(PORT, netns=namespace.path, filter=named, **small(way))
        taken = 0
        async with ring:
            closing = asyncio.create_task(ring.close())
            while not closing.done():
                ring.statistics()
                taken += 1
                await asyncio.sleep(0)
        assert ring.statistics().balanced
        return taken

    with wire() as namespace, traffic(namespace):
        for _ in range(size(5, 50)):
            assert asyncio.run(run(namespace)) > 0


@contextlib.contextmanager
def on_signal(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Send this process SIGUSR1 when the block has begun to wait, and handle it so."""
    before = signal.signal(signal.SIGUSR1, handler)
    send = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    send.start()
    try:
        yield
    finally:
        send.join()
        signal.signal(signal.SIGUSR1, before)


def interrupt(_: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_the_iteration_on_a_quiet_link_at_once(way: str) -> None:
    with wire() as namespace:
        capture = open_capture(namespace, way)
        started = time.monotonic()
        with on_signal(interrupt), pytest.raises(KeyboardInterrupt):
            list(capture.packets())
        assert time.monotonic() - started < 5
        started = time.monotonic()
        with on_signal(interrupt), pytest.raises(KeyboardInterrupt):
            capture.blocks(10, timeout=3600)
        assert time.monotonic() - started < 5
        capture.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_signal_whose_handler_returns_shortens_no_wait(way: str) -> None:
    with wire() as namespace:
        capture = open_capture(namespace, way)
        handled: list[int] = []
        started = time.monotonic()
        with on_signal(lambda number, _: handled.append(number)):
            assert list(capture.packets(timeout=0.8)) == []
        assert time.monotonic() - started >= 0.8
        assert handled == [signal.SIGUSR1]
        capture.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_signal_handler_may_close_what_it_interrupts(way: str) -> None:
    with wire() as namespace:
        capture = open_capture(namespace, way)
        with on_signal(lambda *_: capture.close()):
            assert list(capture.packets()) == []
        assert not xdp_attached(namespace, PORT)
        assert capture.statistics().received == 0


def test_two_threads_cannot_read_one_capture_at_once() -> None:
    with wire() as namespace:
        capture = open_capture(namespace, "tpacket_v3")
        seen = Counter[str]()
        first = threading.Thread(target=read_all, args=(capture, seen))
        first.start()
        time.sleep(0.1)
        with pytest.raises(ClosedError, match="another thread is reading it"):
            list(capture.packets(timeout=1))
        with pytest.raises(ClosedError, match="another thread is reading it"):
            capture.start(lambda _: None)
        capture.close()
        first.join()
        assert seen == {"ended": 1}


def drop(owned: list[Capture]) -> None:
    """Drop the last reference; a thread of the capture may have one for a moment longer."""
    owned.clear()
    wait_until(lambda: "netring-guard" not in {thread.name for thread in threading.enumerate()})


@pytest.mark.parametrize("way", WAYS)
def test_a_capture_that_is_dropped_is_closed_with_a_warning(way: str) -> None:
    with wire() as namespace:
        capture = open_capture(namespace, way)
        assert xdp_attached(namespace, PORT) == (way != "tpacket_v3")
        owned = [capture]
        del capture
        with pytest.warns(ResourceWarning, match=f"unclosed capture on {PORT}"):
            drop(owned)
        assert not xdp_attached(namespace, PORT)


@pytest.mark.parametrize("way", WAYS)
def test_a_netring_that_is_dropped_is_closed_with_a_warning(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        ring = Netring(PORT, netns=namespace.path, **small(way))
        await ring.__aenter__()
        rest = ring.subscribe()
        with pytest.warns(ResourceWarning, match=f"unclosed Netring on {PORT}"):
            del ring
        assert not xdp_attached(namespace, PORT)
        async with asyncio.timeout(PATIENCE):
            assert [event async for event in rest] == []

    with wire() as namespace:
        asyncio.run(run(namespace))


@pytest.mark.parametrize("way", WAYS)
def test_a_netring_that_its_loop_left_behind_is_closed_with_a_warning(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        ring = Netring(PORT, netns=namespace.path, **small(way))
        await ring.__aenter__()

    with wire() as namespace:
        with pytest.warns(ResourceWarning, match=f"unclosed Netring on {PORT}"):
            asyncio.run(run(namespace))
        wait_until(lambda: not xdp_attached(namespace, PORT))


@pytest.fixture(scope="module")
def loops(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    make: Callable[[], asyncio.AbstractEventLoop]
    make = pytest.importorskip(request.param).new_event_loop
    make().close()  # libuv opens a pipe that stays
    return make


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loops", ["asyncio", "uvloop"], indirect=True)
def test_a_capture_works_in_a_running_loop_as_in_a_notebook(
    loops: Callable[[], asyncio.AbstractEventLoop], way: str
) -> None:
    async def cell(namespace: Namespace) -> list[bytes]:
        with Capture(PORT, netns=namespace.path, **small(way)) as capture:
            capture.set_filter("udp")
            send_frames(namespace, SENDER, [FRAME] * 3)
            return [packet.data for packet in capture.packets(count=3, timeout=PATIENCE)]

    async def flows(namespace: Namespace) -> int:
        async with Netring(PORT, netns=namespace.path, **small(way)) as ring:
            events = ring.subscribe()
            await asyncio.to_thread(send_frames, namespace, SENDER, [FRAME] * 3)
            return (await asyncio.wait_for(anext(events), PATIENCE)).ts

    loop = loops()
    with wire() as namespace, contextlib.closing(loop):
        assert loop.run_until_complete(cell(namespace)) == [FRAME] * 3
        assert loop.run_until_complete(flows(namespace)) > 0


@pytest.mark.parametrize("way", WAYS)
def test_events_that_nobody_took_are_counted_as_lost(way: str) -> None:
    with wire() as namespace:
        capture = open_capture(namespace, way)
        capture.start(lambda _: None)
        send_frames(namespace, SENDER, [FRAME])
        wait_until(lambda: capture.statistics().events_produced == 1)
        capture.close()  # its flow ends as well
        books = capture.statistics()
        assert (books.events_produced, books.events_taken, books.events_lost) == (2, 0, 2)
        assert books.balanced
