"""One capture for a long time, with all that can happen to it again and again.

Each way takes a few seconds, 60 s with ``--long``, and ``NETRING_SOAK`` seconds where that is set,
as ``NETRING_SOAK=600 scripts/test -s tests/kernel/capture/test_soak.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    BatchSubscriber,
    FlowEnded,
    FlowOptions,
    FlowSubscriber,
    Lagged,
    MqttOptions,
    MqttSink,
    Netring,
    TpacketOptions,
)
from tests.support.broker import Broker
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE, until
from tests.support.rig import (
    PORT,
    SENDER,
    WAYS,
    Way,
    assert_balanced,
    start_flood,
    stop_flood,
    wire,
)
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker")

SECONDS = float(os.environ.get("NETRING_SOAK") or size(4, 60))
# Bytes of memory that may come after the warm-up, which is but one lap in the short run.
GROWTH = (8 if SECONDS >= 60 else 16) << 20
RATE = 30_000  # packets a second: what a pause holds back then comes at once
BURST = 5_000  # frames of the flood, for which a round waits
FLOWS = 2_000  # flows of each round, one frame each
BUFFER, OUTBOX = 1_024, 1_000  # less than a round has
PORTS = tuple(range(5001, 5009))  # of the flood; the flows have the first


@dataclass
class Reader:
    """A subscriber, and what its task has counted."""

    subscriber: FlowSubscriber | BatchSubscriber
    delivered: int = 0
    lagged: int = 0

    def assert_balanced(self) -> None:
        """Its books are what the task has seen."""
        books = self.subscriber.statistics()
        assert (books.delivered, books.lagged) == (self.delivered, self.lagged)
        assert books.published == books.delivered + books.lagged + books.filtered + books.pending

    async def read(self, limit: int | None = None) -> None:
        """Read so many batches, or to the end."""
        while limit is None or limit > 0:
            if not (events := await self.subscriber.next_batch(64)):
                return
            missed = [event.missed for event in events if isinstance(event, Lagged)]
            self.delivered += len(events) - len(missed)
            self.lagged += sum(missed)
            limit = None if limit is None else limit - 1


def frames() -> list[bytes]:
    return [udp(f"10.0.{n >> 8}.{n & 255}", "10.1.0.1", 7, PORTS[0]) for n in range(FLOWS)]


def filters() -> Iterator[str]:
    """One filter, and each second time one that was never there; all let the flows pass."""
    for number in itertools.count(1):
        yield f"udp dst portrange {PORTS[0]}-{PORTS[3]}"
        yield f"udp dst portrange {PORTS[0]}-{PORTS[-1]} and not src port {1000 + number}"


def small(way: Way) -> dict[str, Any]:
    """The way's options, with rings that overflow when the host is busy."""
    options = way.options()
    if way.attach is None:
        return {**options, "tpacket": TpacketOptions(block_size=1 << 16, block_count=2)}
    return {**options, "xdp": replace(options["xdp"], ring_size=64, chunks=128)}


def memory() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) << 10


async def descriptors() -> int:
    """The least of some counts: once a second the capture opens one for a moment."""
    counts = []
    for _ in range(20):
        counts.append(len(os.listdir("/proc/self/fd")))
        await asyncio.sleep(0.02)
    return min(counts)


class Soak:
    """A capture with its subscribers and sink, and the host's troubles."""

    def __init__(self, namespace: Namespace, way: Way, broker: Broker) -> None:
        self.namespace, self.broker = namespace, broker
        self.sink = MqttSink(
            broker.url,
            MqttOptions(
                node="box",
                outbox=OUTBOX,
                # A slow machine is no broken connection.
                keepalive=int(PATIENCE),
                drain_timeout=PATIENCE,
                reconnect_max=0.2,
            ),
        )
        self.filters = filters()
        self.frames = frames()
        self.ring = Netring(
            PORT,
            netns=namespace.path,
            filter=next(self.filters),
            buffer=BUFFER,
            sinks=[self.sink],
            flow=FlowOptions(
                idle_udp=0.1,
                update_interval=0.05,
                # Small, so that the warm-up has touched all of their memory.
                max_flows=1 << 12,
                event_slots=1 << 13,
            ),
            **small(way),
        )
        self.fast = Reader(self.ring.subscribe(name="fast"))
        self.ends = Reader(
            self.ring.subscribe(name="ends", kinds=FlowEnded, where=lambda e: e.ts % 2 == 0)
        )
        self.batches = Reader(self.ring.subscribe_batches(name="batches"))
        self.slow = Reader(self.ring.subscribe(name="slow"))
        self.sent = self.rounds = self.cuts = 0

    @property
    def readers(self) -> list[Reader]:
        return [self.fast, self.ends, self.batches, self.slow]

    async def lap(self) -> None:
        """One round with each trouble of the broker, and one without; then all is delivered."""
        await self.round()
        for leave in (self.broker.kill, self.broker.stop):
            await asyncio.to_thread(leave)
            self.cuts += 1
            await until(lambda: not self.sink.statistics().connected)
            await self.round()
            await asyncio.to_thread(self.broker.start)
            await until(lambda: self.sink.statistics().connected)
            await self.round()
        self.broker.pause()
        await self.round()
        self.broker.resume()
        await until(lambda: self.sink.statistics().pending == 0)

    async def round(self) -> None:
        """A burst of the flood, new flows and a swap of the filter, all at once."""
        self.rounds += 1
        late = Reader(self.ring.subscribe(name=f"round {self.rounds}"))
        seen = self.ring.statistics().capture.seen
        self.flood.send_signal(signal.SIGCONT)
        sending = asyncio.to_thread(send_frames, self.namespace, SENDER, self.frames)
        _, sent = await asyncio.gather(self.ring.set_filter(next(self.filters)), sending)
        self.sent += sent
        await until(lambda: self.ring.statistics().capture.seen >= seen + BURST)
        self.flood.send_signal(signal.SIGSTOP)
        async with late.subscriber:
            await asyncio.gather(late.read(2), self.slow.read(2))
        late.assert_balanced()

    async def run(self) -> tuple[list[int], list[int]]:
        """Return the memory and the descriptors after the warm-up and at the end."""
        memories, opened = [], []
        async with self.ring:
            await until(lambda: self.sink.statistics().connected)
            self.flood = await asyncio.to_thread(start_flood, self.namespace, RATE, PORTS)
            reading = [
                asyncio.create_task(reader.read())
                for reader in (self.fast, self.ends, self.batches)
            ]
            begin = time.monotonic()
            try:
                for part in (SECONDS / 4, SECONDS):
                    await self.lap()
                    while time.monotonic() - begin < part:
                        await self.lap()
                    gc.collect()
                    memories.append(memory())
                    opened.append(await descriptors())
            finally:
                self.flood.send_signal(signal.SIGCONT)
                flooded, _ = await asyncio.to_thread(stop_flood, self.namespace, self.flood)
            self.sent += flooded
            if self.ring.backend == "af_xdp":
                await until(lambda: self.ring.statistics().capture.seen == self.sent)
        await asyncio.gather(*reading, self.slow.read())
        return memories, opened


@pytest.mark.parametrize("name", size(["native"], ["native", "tpacket_v3"]))
def test_books_balance_and_nothing_grows(name: str) -> None:
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(wire())
        broker = stack.enter_context(Broker())
        namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        soak = Soak(namespace, WAYS[name], broker)
        memories, opened = asyncio.run(soak.run())
    books = soak.ring.statistics()
    capture, sink = books.capture, books.sinks[0]
    print(
        f"{soak.rounds} rounds, {soak.sent} frames sent, {capture.received} received, "
        f"{capture.lost} lost, {books.broadcast.published} events, {capture.events_lost} lost; "
        f"slow: {soak.slow.delivered} and {soak.slow.lagged} missed; {sink}; "
        f"memory {memories[0] >> 10} to {memories[1] >> 10} KiB, descriptors {opened}"
    )
    assert_balanced(books)
    assert soak.ring.error is None
    if name == "native":
        assert capture.seen == soak.sent
    assert capture.flows.live == capture.in_ring == 0
    for reader in soak.readers:
        reader.assert_balanced()
        assert reader.subscriber.statistics().pending == 0
    assert soak.slow.lagged > 0
    assert sink.accepted == sink.acknowledged + sum(sink.dropped.values())
    assert set(sink.dropped) <= {"overflow"}
    assert (sink.pending, sink.reconnects) == (0, soak.cuts)
    assert opened[1] == opened[0]
    assert memories[1] - memories[0] < GROWTH
