"""An ``MqttSink`` that publishes what a test writes, and what arrived of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from netring_bpf import FlowBroadcast, MqttSink, SinkStatistics
from tests.support.broker import Message
from tests.support.events import ended
from tests.support.patience import until

__all__ = [
    "AVAILABILITY",
    "FAST",
    "FLOWS",
    "assert_balanced",
    "connected",
    "distinct",
    "publish_through",
    "records",
    "settled",
    "some_flows",
    "warnings",
]

FLOWS, AVAILABILITY = "netring/box/flows", "netring/box/availability"
FAST: dict[str, Any] = {"node": "box", "flush_interval": 0.01, "reconnect_max": 0.2}

Script = Callable[[FlowBroadcast], Awaitable[None]]


def records(messages: list[Message], topic: str = FLOWS) -> list[dict[str, object]]:
    return [r for m in messages if m.topic == topic for r in json.loads(m.text)]


def distinct(messages: list[Message]) -> set[object]:
    return {record["seq"] for record in records(messages)}


def assert_balanced(books: SinkStatistics) -> None:
    assert books.accepted == books.acknowledged + sum(books.dropped.values()) + books.pending


def publish_through(sink: MqttSink, script: Script, buffer: int = 100_000) -> SinkStatistics:
    """Run the sink over a stream that ``script`` writes; return its final books."""

    async def run() -> None:
        broadcast = FlowBroadcast(buffer)
        running = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
        try:
            await script(broadcast)
        finally:
            broadcast.close()
        await running

    asyncio.run(run())
    assert_balanced(sink.statistics())
    return sink.statistics()


async def connected(sink: MqttSink) -> None:
    await until(lambda: sink.statistics().connected)


async def settled(sink: MqttSink, accepted: int) -> None:
    """Wait until the sink has taken so many flows and has none pending."""
    await until(lambda: (s := sink.statistics()).accepted == accepted and s.pending == 0)


def some_flows(sink: MqttSink, count: int) -> Script:
    """A script that publishes so many ends of flows, and waits until the sink is done with them."""

    async def script(broadcast: FlowBroadcast) -> None:
        await connected(sink)
        broadcast.publish([ended(number) for number in range(count)])
        await settled(sink, count)

    return script


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings and errors so far."""
    return [r.getMessage() for r in caplog.records if r.levelname in {"WARNING", "ERROR"}]
