"""The broker dies and returns in the middle of a capture, which does not notice."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import FlowEnded, FlowOptions, MqttOptions, MqttSink, Netring
from tests.support.broker import Broker, MosquittoSub
from tests.support.frames import udp
from tests.support.patience import until
from tests.support.rig import PORT, SENDER, assert_balanced, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker")

FLOWS = 3000


def test_the_capture_goes_on_and_the_sink_connects_again() -> None:
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", "10.1.0.1", 7, 53) for n in range(3 * FLOWS)]

    async def run() -> None:
        sink = MqttSink(broker.url, MqttOptions(node="box", reconnect_max=0.2))
        options = FlowOptions(idle_udp=0.05, port_timeouts=(), update_interval=None)
        ring = Netring(PORT, netns=namespace.path, backend="af_xdp", sinks=[sink], flow=options)
        ends = ring.subscribe(kinds=FlowEnded)

        async def count() -> int:
            return len([event async for event in ends])

        async def offer(part: int) -> None:
            some = frames[part * FLOWS : (part + 1) * FLOWS]
            assert await asyncio.to_thread(send_frames, namespace, SENDER, some) == FLOWS
            await until(lambda: sink.statistics().accepted == (part + 1) * FLOWS)

        async with ring:
            counting = asyncio.create_task(count())
            await offer(0)
            await until(lambda: sink.statistics().acknowledged == FLOWS)
            await asyncio.to_thread(broker.kill)
            await offer(1)
            books = sink.statistics()
            assert books.acknowledged < 2 * FLOWS
            assert books.accepted == books.acknowledged + books.pending
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(sub.wait_subscribed, 2)
            await offer(2)
        statistics = ring.statistics()
        assert await counting == 3 * FLOWS
        assert statistics.capture.received == 3 * FLOWS
        assert_balanced(statistics)
        books = statistics.sinks[0]
        assert (books.accepted, books.acknowledged, books.dropped) == (3 * FLOWS, 3 * FLOWS, {})
        assert books.reconnects == 1

    with wire() as namespace, Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        asyncio.run(run())
