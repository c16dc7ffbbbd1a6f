"""A forked child has no part in its parent's capture, and keeps nothing of it alive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import Capture, Netring, XdpMode, XdpOptions
from netring_bpf.errors import ForkError
from tests.support.frames import udp
from tests.support.lab import Namespace, xdp_attached
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAME = udp("10.0.0.1", "10.0.0.2", 1, 2, b"one")


def small(way: str) -> dict[str, Any]:
    mode = WAYS[way].attach
    xdp = XdpOptions(ring_size=64, chunks=128, mode=XdpMode(mode) if mode else None)
    return {"backend": WAYS[way].backend, "xdp": xdp}


def told_by_child(act: Callable[[], str]) -> str:
    """Run this in a forked child, and return what it returned or raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = act()
        except BaseException as error:  # noqa: BLE001 - the parent compares it
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@contextmanager
def living_child() -> Iterator[int]:
    """A forked child that lives as long as the block."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        yield child
    finally:
        os.close(writing)
        os.waitpid(child, 0)


@pytest.mark.parametrize("way", WAYS)
def test_a_child_cannot_use_the_capture_and_the_parent_s_goes_on(way: str) -> None:
    with wire() as namespace, Capture(PORT, netns=namespace.path, **small(way)) as capture:
        send_frames(namespace, SENDER, [FRAME] * 3)
        uses: list[Callable[[], object]] = [
            lambda: list(capture.packets(count=1, timeout=1)),
            lambda: capture.blocks(1, 1),
            lambda: capture.set_filter("udp"),
            lambda: capture.start(lambda _: None),
            lambda: capture.take(1),
            capture.fileno,
            capture.quiesce,
            capture.statistics,
            capture.open,
            capture.flow_time,
        ]
        for use in uses:
            assert told_by_child(lambda use=use: repr(use())) == ForkError.__name__
        # What a `with` block does at the end of a child changes nothing.
        assert told_by_child(lambda: repr((capture.stop(), capture.close()))) == "(None, None)"
        assert xdp_attached(namespace, PORT) == (way != "tpacket_v3")
        assert len(list(capture.packets(count=3, timeout=PATIENCE))) == 3
        assert capture.statistics().balanced


@pytest.mark.parametrize("way", WAYS)
def test_a_child_holds_neither_descriptors_nor_rings(way: str) -> None:
    before = set(os.listdir("/proc/self/fd"))

    def held() -> str:
        links = [link_of(name) for name in os.listdir("/proc/self/fd") if name not in before]
        maps = Path("/proc/self/maps").read_text().splitlines()
        descriptors = sum(link.startswith(("socket", "anon_inode")) for link in links)
        return f"{descriptors} {sum('socket:' in line for line in maps)}"

    with wire() as namespace, Capture(PORT, netns=namespace.path, **small(way)):
        descriptors, rings = map(int, held().split())
        assert descriptors > 0
        assert rings == (1 if way == "tpacket_v3" else 3)
        assert told_by_child(held) == "0 0"


def link_of(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


def test_a_child_may_open_what_its_parent_only_made() -> None:
    with wire() as namespace:
        capture = Capture(PORT, netns=namespace.path, **small("native"))

        def use() -> str:
            with capture:
                return str(capture.statistics().received)

        assert told_by_child(use) == "0"
        assert not xdp_attached(namespace, PORT)


@pytest.mark.parametrize("way", WAYS)
def test_a_capture_can_be_opened_again_while_a_child_of_the_first_lives(way: str) -> None:
    with wire() as namespace:
        first = Capture(PORT, netns=namespace.path, **small(way))
        first.open()
        with living_child():
            first.close()
            assert not xdp_attached(namespace, PORT)
            with Capture(PORT, netns=namespace.path, **small(way)) as second:
                send_frames(namespace, SENDER, [FRAME])
                assert len(list(second.packets(count=1, timeout=PATIENCE))) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_netring_in_a_child_says_whose_it_is(way: str) -> None:
    async def run(namespace: Namespace) -> None:
        async with Netring(PORT, netns=namespace.path, **small(way)) as ring:
            uses: list[Callable[[], object]] = [
                ring.statistics,
                ring.subscribe,
                ring.subscribe_batches,
                lambda: asyncio.new_event_loop().run_until_complete(ring.set_filter("udp")),
            ]
            asyncio._set_running_loop(None)  # the child has none
            said = [told_by_child(lambda use=use: repr(use())) for use in uses]
            asyncio._set_running_loop(loop)
            assert said == [ForkError.__name__] * len(uses)
        assert ring.statistics().balanced

    with wire() as namespace:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(run(namespace))
        loop.close()
