"""Flows into a mosquitto of our own: their rate, their cost, and the memory while it hangs.

A reader makes the flows, the ends of TCP connections. They are published in batches of 1024, as a
capture does. The clock stops when the broker has acknowledged the message behind the last flow (the
retained "offline"), so that every counted flow has arrived, at QoS 0 too. The floor is aiomqtt
alone, which sends the same messages made beforehand.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import cycle

import aiomqtt

from benchmarks.events import ended_batches, fresh
from benchmarks.harness import Case, Options, Report, Table, interleave
from netring_bpf import EventBatch, FlowBroadcast, MqttOptions, MqttSink
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.broker import Broker

__all__ = ["run"]

_FLOWS = 200_000
_OFFERED = 200_000  # flows a second while the broker is stopped
_STOPPED = 8.0  # seconds
_TICK = 0.005


def _endless(batches: Sequence[EventBatch]) -> Iterator[EventBatch]:
    return (fresh(batch) for batch in cycle(batches))


async def _connected(sink: MqttSink) -> None:
    while not sink.statistics().connected:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.001)


async def _sink_case(url: str, qos: int, batches: Sequence[EventBatch], flows: int) -> float:
    """Send so many flows through the sink; returns the seconds a flow."""
    options = MqttOptions(qos=qos)
    sink, broadcast = MqttSink(url, options), FlowBroadcast()
    running = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
    await _connected(sink)
    begin, sent = time.perf_counter(), 0
    for batch in _endless(batches):
        if sent >= flows:
            break
        await broadcast.wait_room(len(batch))
        # The broker sets the pace: flows that overflow the outbox would not be sent.
        while sink.statistics().pending > options.outbox // 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        broadcast.publish(batch)
        sent += len(batch)
    broadcast.close()
    await running
    books = sink.statistics()
    if (books.acknowledged, books.reconnects) != (sent, 0):
        raise RuntimeError(f"{sent} flows were sent and not all arrived: {books}")
    return (time.perf_counter() - begin) / sent


async def _floor_case(port: int, qos: int, messages: Sequence[bytes], flows: int) -> float:
    """Send messages of 100 flows, made beforehand; returns the seconds a flow."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        begin, sent = time.perf_counter(), 0
        for message in cycle(messages):
            if sent >= flows:
                break
            await client.publish("floor", message, qos=qos)
            sent += 100
        await client.publish("floor", b"", qos=1)
        return (time.perf_counter() - begin) / sent


def _messages(batches: Sequence[EventBatch]) -> list[bytes]:
    encoder = TextEncoder("json", terminator=b"", capture="0" * 32, seq=1)
    records = [record for batch in batches for record in encoder.encode_records(batch).records()]
    hundreds = (records[at : at + 100] for at in range(0, len(records) - 99, 100))
    return [b"[" + b",".join(hundred) + b"]" for hundred in hundreds]


def _figures(work: Callable[[], Coroutine[object, object, float]]) -> Mapping[str, float]:
    cpu = time.process_time()
    seconds = asyncio.run(work())
    return {"flows_per_second": 1 / seconds, "cpu_seconds": time.process_time() - cpu}


# -- the broker hangs: the sink has a process of its own, so that its memory is counted alone --


def _resident() -> float:
    """The resident memory of this process, in MiB."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def _hang(url: str, broker_pid: int, seconds: float) -> dict[str, float]:
    options = MqttOptions(qos=1, drain_timeout=0.0)
    sink, broadcast = MqttSink(url, options), FlowBroadcast()
    batches = _endless(ended_batches(20_000))
    stream = broadcast.subscribe(kinds=sink.kinds)
    running = asyncio.create_task(sink.run(stream))
    await _connected(sink)
    before = _resident()
    os.kill(broker_pid, signal.SIGSTOP)
    begin, offered, full = time.monotonic(), 0, None
    samples: list[float] = []
    while (passed := time.monotonic() - begin) < seconds:
        while offered < passed * _OFFERED:
            batch = next(batches)
            broadcast.publish(batch)
            offered += len(batch)
            await asyncio.sleep(0)
        if sink.statistics().pending == options.outbox:
            full = passed if full is None else full
            samples.append(_resident())
        await asyncio.sleep(_TICK)
    broadcast.close()
    await running
    books = sink.statistics()
    dropped = books.dropped["overflow"]
    lagged = stream.statistics().lagged
    if not samples or full is None:
        raise RuntimeError(f"the outbox was never full: {books}")
    if offered != books.acknowledged + dropped + lagged + books.pending:
        raise RuntimeError(f"{offered} flows offered, {lagged} lagged: {books}")
    settled = samples[len(samples) // 4]  # by then the allocator has filled its pools
    return {
        "offered": offered,
        "dropped": dropped,
        "lagged": lagged,
        "before_mib": before,
        "full_after_s": full,
        "full_mib": settled,
        "growth_mib": max(samples[len(samples) // 4 :]) - settled,
    }


def _memory(broker: Broker, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.mqtt", broker.url, str(broker.pid), str(seconds)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        broker.resume()
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run(options: Options) -> Report:
    """Run both qualities of service, each beside its floor, then the broker that hangs."""
    flows = 20_000 if options.quick else _FLOWS
    batches = ended_batches(2048 if options.quick else 20_480)
    messages = _messages(batches)
    with Broker() as broker:
        cases = []
        for qos in (0, 1):
            sink = functools.partial(_sink_case, broker.url, qos, batches, flows)
            floor = functools.partial(_floor_case, broker.port, qos, messages, flows)
            cases.append(Case(f"QoS {qos}", functools.partial(_figures, sink)))
            cases.append(Case(f"QoS {qos}, aiomqtt alone", functools.partial(_figures, floor)))
        results = interleave(cases, options.rounds)
        memory = _memory(broker, 3.0 if options.quick else _STOPPED)
    rows = []
    for quality in ("QoS 0", "QoS 1"):
        alone = f"{quality}, aiomqtt alone"
        for name in (quality, alone):
            ratios = (
                "" if name == alone else results.ratio(name, alone, figure).text(2)
                for figure in ("flows_per_second", "cpu_seconds")
            )
            cpu = results.spread(name, "cpu_seconds").text(2, flows / 1e6)
            rows.append((name, *ratios, results.spread(name, "flows_per_second").text(), cpu))
    columns = (
        "", "flows/s, of aiomqtt alone", "processor time, times aiomqtt alone", "flows/s",
        "µs of processor time a flow",
    )  # fmt: skip
    shown = {
        "flows offered": f"{memory['offered']:,.0f}",
        "dropped": f"{memory['dropped']:,.0f}",
        "lagged": f"{memory['lagged']:,.0f}",
        "MiB before": f"{memory['before_mib']:.0f}",
        "MiB, outbox full": f"{memory['full_mib']:.0f}",
        "growth from then on": f"{memory['growth_mib']:.1f}",
    }
    title = f"The broker stopped, {_OFFERED:,} flows/s offered"
    hung = Table(title, tuple(shown), (tuple(shown.values()),), left=0)
    figures = {**results.values, "broker stopped": {k: [v] for k, v in memory.items()}}
    table = Table("Flows into mosquitto", columns, tuple(rows))
    note = "The stopped broker has no floor: the growth should be 0, whatever the machine is."
    return Report("mqtt", (table, hung), (note,), figures)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_hang(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
