"""The broker is cut again and again, with everything on: all books hold, and no flow is lost."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from netring_bpf import (
    FlowEnded,
    FlowOptions,
    HomeAssistantOptions,
    MetricsSink,
    MqttOptions,
    MqttSink,
    Netring,
    StatsOptions,
)
from netring_bpf.devices.vendors import load_vendors
from tests.support.broker import Broker, MosquittoSub
from tests.support.frames import udp
from tests.support.patience import until
from tests.support.rig import PORT, SENDER, assert_balanced, wire
from tests.support.sender import send_frames
from tests.support.sizes import soak

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker")

CUTS = soak(5, 40, 500)
FLOWS = 200  # between two cuts


@pytest.fixture(scope="module", autouse=True)
def vendors() -> bool:
    """Load the registry of vendors, which stays mapped, before descriptors are counted."""
    return asyncio.run(load_vendors())


def test_all_books_hold_over_many_cuts_with_everything_on(tmp_path: Path) -> None:
    moments = random.Random(6)
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", "10.1.0.1", 7, 53) for n in range(FLOWS)]

    async def run() -> None:
        sink = MqttSink(
            broker.url,
            MqttOptions(
                node="box",
                reconnect_max=0.1,
                drain_timeout=60.0,
                outbox_dir=tmp_path / "outbox",
                home_assistant=HomeAssistantOptions(devices=10),
            ),
        )
        metrics = MetricsSink("127.0.0.1:0")
        ring = Netring(
            PORT,
            netns=namespace.path,
            backend="af_xdp",
            sinks=[sink, metrics],
            flow=FlowOptions(idle_udp=0.05, port_timeouts=(), update_interval=None),
            stats=StatsOptions(interval=1.0),
            devices=True,
        )
        ends = ring.subscribe(kinds=FlowEnded)

        async def count() -> int:
            return len([event async for event in ends])

        async with ring:
            counting = asyncio.create_task(count())
            await until(lambda: sink.statistics().connected)
            for cut in range(CUTS):
                # It is told to end, or dies, while flows come.
                sending = asyncio.create_task(
                    asyncio.to_thread(send_frames, namespace, SENDER, frames)
                )
                await asyncio.sleep(moments.uniform(0.0, 0.1))
                await asyncio.to_thread(broker.kill if cut % 2 else broker.stop)
                assert await sending == FLOWS
                await until(lambda: not sink.statistics().connected)
                await until(lambda cut=cut: sink.statistics().accepted == (cut + 1) * FLOWS)
                books = sink.statistics()
                assert books.accepted == (
                    books.acknowledged + sum(books.dropped.values()) + books.pending
                )
                await asyncio.to_thread(broker.start)
                await until(lambda: sink.statistics().connected)
            await until(lambda: sink.statistics().pending == 0)
            # The broker forgot what it had. Those behind the last cut arrive.
            sub = await asyncio.to_thread(MosquittoSub, broker.port, "netring/box/flows")
            with sub:
                await asyncio.to_thread(send_frames, namespace, SENDER, frames)
                last = range(CUTS * FLOWS + 1, (CUTS + 1) * FLOWS + 1)
                await until(lambda: seqs(sub) == set(last))
        statistics = ring.statistics()
        total = (CUTS + 1) * FLOWS
        assert await counting == total
        assert_balanced(statistics)
        books = statistics.sinks[0]
        assert (books.accepted, books.acknowledged, books.dropped) == (total, total, {})
        assert books.reconnects >= CUTS
        assert books.outbox is not None
        assert (books.outbox.accepted, books.outbox.acknowledged, books.outbox.pending) == (
            total, total, 0,
        )  # fmt: skip
        for topic in books.topics.values():
            done = topic.published + topic.unchanged + topic.replaced + topic.pending
            assert topic.offered == done + sum(topic.dropped.values())

    with wire() as namespace, Broker() as broker:
        asyncio.run(run())


def seqs(sub: MosquittoSub) -> set[int]:
    return {record["seq"] for message in sub.received for record in json.loads(message.text)}
