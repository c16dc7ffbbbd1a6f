"""One stream to many subscribers, the cost of looking at its events, and of a slow subscriber.

The peer of the first is an ``asyncio.Queue`` for each subscriber. The floor of the second is the
hand-over alone, which decodes nothing. The third is compared with itself without the slow one.

A reader makes the events, the ends of TCP connections. They are published in batches of 1024, as a
capture does. The publisher waits for the slowest subscriber, so that everybody receives everything.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from benchmarks.events import ended_batches, fresh
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.peers import install
from netring_bpf import Event, EventBatch, FlowBroadcast, FlowSubscriber
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.json import encode_event

__all__ = ["run"]

_ROOT = Path(__file__).resolve().parent.parent
_DELIVERIES = 800_000  # a case, over all its subscribers
_SUBSCRIBERS = (1, 8, 64)
_QUEUE = "asyncio.Queue"
_UNDECODED = "batches, undecoded"
_PAUSE = 0.001  # seconds between the batches of 64 events that are timed
_T = TypeVar("_T")
_Batches: TypeAlias = Sequence[EventBatch]
_Work: TypeAlias = Coroutine[object, object, _T]


def _counted(received: Iterable[int], events: int) -> None:
    if set(received) != {events}:
        raise RuntimeError(f"{events} events were published, these were received: {received}")


async def _publish(broadcast: FlowBroadcast, batches: Iterable[EventBatch]) -> float:
    """Publish them no faster than the slowest subscriber reads; returns the time of the first."""
    await asyncio.sleep(0)
    begin = time.perf_counter()
    for batch in batches:
        await broadcast.wait_room(len(batch))
        broadcast.publish(batch)
        await asyncio.sleep(0)
    broadcast.close()
    return begin


async def _ours(subscribers: int, batches: _Batches, *, whole: bool) -> float:
    broadcast = FlowBroadcast()

    async def by_event(subscriber: FlowSubscriber) -> int:
        received = 0
        async for _ in subscriber:
            received += 1
        return received

    async def by_batch() -> int:
        received = 0
        async for batch in broadcast.subscribe_batches():
            received += len(batch)
        return received

    tasks = [
        asyncio.ensure_future(by_batch() if whole else by_event(broadcast.subscribe()))
        for _ in range(subscribers)
    ]
    begin = await _publish(broadcast, batches)
    received = await asyncio.gather(*tasks)
    seconds = time.perf_counter() - begin
    _counted(received, sum(map(len, batches)))
    return seconds


async def _queues(subscribers: int, batches: _Batches) -> float:
    queues = [asyncio.Queue[Event | None](4096) for _ in range(subscribers)]

    async def receive(queue: asyncio.Queue[Event | None]) -> int:
        received = 0
        while await queue.get() is not None:
            received += 1
        return received

    tasks = [asyncio.create_task(receive(queue)) for queue in queues]
    begin = time.perf_counter()
    for batch in batches:
        for event in batch:
            for queue in queues:
                await queue.put(event)
    for queue in queues:
        await queue.put(None)
    received = await asyncio.gather(*tasks)
    seconds = time.perf_counter() - begin
    _counted(received, sum(map(len, batches)))
    return seconds


def _deliveries(
    work: Callable[[], _Work[float]], subscribers: int, events: int
) -> Mapping[str, float]:
    seconds = asyncio.run(work())
    return {"per_second": subscribers * events / seconds}


def _anyio(python: Path, subscribers: int, events: int) -> Mapping[str, float]:
    command = [str(python), "-m", "benchmarks.peers.anyio_fanout", str(subscribers), str(events)]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return {"per_second": subscribers * events / float(done.stdout)}


def _fan_out(options: Options) -> tuple[Results, Table]:
    """Deliver to 1, 8 and 64 subscribers, in each way."""
    cases = []
    names = ["batches", "events", _QUEUE]
    some = ended_batches(8192)
    for batch in some:
        list(batch)  # decoded beforehand, so that only the delivery is measured
    for subscribers in _SUBSCRIBERS:
        wanted = (20_000 if options.quick else _DELIVERIES) // subscribers
        batches = list(islice(cycle(some), max(1, wanted // 1024)))
        count = sum(map(len, batches))
        for name, work in (
            ("batches", functools.partial(_ours, subscribers, batches, whole=True)),
            ("events", functools.partial(_ours, subscribers, batches, whole=False)),
            (_QUEUE, functools.partial(_queues, subscribers, batches)),
        ):
            run = functools.partial(_deliveries, work, subscribers, count)
            cases.append(Case(f"{name}, {subscribers}", run))
        if "anyio" in options.against:
            fewer = max(1024, count // 16)  # anyio takes long
            peer = functools.partial(_anyio, install("anyio"), subscribers, fewer)
            cases.append(Case(f"anyio, {subscribers}", peer))
    if "anyio" in options.against:
        names.append("anyio")
    results = interleave(cases, options.rounds)
    rows = []
    for name in names:
        ratios = (
            results.ratio(f"{name}, {n}", f"{_QUEUE}, {n}", "per_second").text(2)
            for n in _SUBSCRIBERS
        )
        spreads = (results.spread(f"{name}, {n}", "per_second") for n in _SUBSCRIBERS)
        rows.append((name, *ratios, *(spread.text(2, 1e6) for spread in spreads)))
    columns = (
        "",
        *(f"times {_QUEUE}, to {n}" for n in _SUBSCRIBERS),
        *(f"millions, to {n}" for n in _SUBSCRIBERS),
    )
    return results, Table("Deliveries a second", columns, tuple(rows))


# -- one subscriber that looks at its events --


async def _few(subscriber: FlowSubscriber) -> None:
    total = 0
    async for event in subscriber:
        total += event.flow.orig.bytes if event.flow.key.resp.port == 443 else 0  # type: ignore[union-attr]


async def _all(subscriber: FlowSubscriber) -> None:
    """Read nothing: an event comes with every field of it and of its flow decoded."""
    async for _ in subscriber:
        pass


async def _json_each(subscriber: FlowSubscriber) -> None:
    async for event in subscriber:
        encode_event(event)


async def _json_batch(subscriber: FlowSubscriber) -> None:
    encoder = TextEncoder("json")
    while batch := await subscriber.next_batch():
        encoder.encode(batch)  # type: ignore[arg-type]


async def _columns(subscriber: FlowSubscriber) -> None:
    while batch := await subscriber.next_batch():
        batch.columns()["orig_bytes"].sum()  # type: ignore[attr-defined]


async def _undecoded(subscriber: FlowSubscriber) -> None:
    while await subscriber.next_batch():
        pass


_LOOKS = {
    _UNDECODED: _undecoded,
    "batches, a column summed": _columns,
    "batches, as JSON in C": _json_batch,
    "events, a few attributes read": _few,
    "events, fully decoded": _all,
    "events, as JSON in Python": _json_each,
}


async def _look(look: Callable[[FlowSubscriber], _Work[None]], batches: _Batches) -> float:
    broadcast = FlowBroadcast()
    subscriber = broadcast.subscribe()
    task = asyncio.ensure_future(look(subscriber))
    begin = await _publish(broadcast, map(fresh, batches))
    await task
    seconds = time.perf_counter() - begin
    _counted([subscriber.statistics().delivered], sum(map(len, batches)))
    return seconds


def _looks(options: Options) -> tuple[Results, Table]:
    batches = ended_batches(2048 if options.quick else 40_960)
    events = sum(map(len, batches))
    fresh(batches[0]).columns()  # loads NumPy before it is timed
    cases = [
        Case(
            name, functools.partial(_deliveries, functools.partial(_look, look, batches), 1, events)
        )
        for name, look in _LOOKS.items()
    ]
    results = interleave(cases, options.rounds)
    rows = [
        (
            name,
            results.ratio(name, _UNDECODED, "per_second").text(4),
            results.spread(name, "per_second").text(2, 1e6),
        )
        for name in _LOOKS
    ]
    columns = ("", "of undecoded batches", "millions")
    return results, Table("Events a second to one subscriber", columns, tuple(rows))


# -- a slow subscriber beside seven --


async def _way(slow: bool, batches: _Batches, published: int) -> list[float]:
    """Seconds from the publishing of a batch until each of seven has each of its events."""
    broadcast = FlowBroadcast()
    begins: list[float] = []
    ways: list[float] = []
    some = [batch[at : at + 64] for batch in batches for at in range(0, len(batch), 64)]

    async def receive(subscriber: FlowSubscriber) -> None:
        received = 0
        async for _ in subscriber:
            ways.append(time.perf_counter() - begins[received // 64])
            received += 1

    async def dawdle(subscriber: FlowSubscriber) -> None:
        async for _ in subscriber:
            await asyncio.sleep(0.005)

    others = [asyncio.create_task(receive(broadcast.subscribe())) for _ in range(7)]
    eighth = broadcast.subscribe() if slow else None
    dawdling = asyncio.create_task(dawdle(eighth)) if eighth else None
    for number in range(published):
        await asyncio.sleep(_PAUSE)
        begins.append(time.perf_counter())
        broadcast.publish(some[number % len(some)])
    broadcast.close()
    await asyncio.gather(*others)
    if eighth and dawdling:
        dawdling.cancel()
        await asyncio.gather(dawdling, return_exceptions=True)
        if eighth.statistics().lagged == 0:
            raise RuntimeError("the slow subscriber kept up")
    return ways


def _percentiles(slow: bool, batches: _Batches, published: int) -> Mapping[str, float]:
    hundredths = statistics.quantiles(asyncio.run(_way(slow, batches, published)), n=100)
    return {"p50": hundredths[49] * 1e6, "p99": hundredths[98] * 1e6}


def _slow(options: Options) -> tuple[Results, Table]:
    batches = ended_batches(4096)
    for batch in batches:
        list(batch)
    published = 200 if options.quick else 1500
    cases = [
        Case(name, functools.partial(_percentiles, slow, batches, published))
        for name, slow in (
            ("seven that keep up", False),
            ("seven, and an eighth that is slow", True),
        )
    ]
    results = interleave(cases, options.rounds)
    rows = []
    for case in cases:
        ratio = results.ratio(case.name, cases[0].name, "p99")
        shown = ratio.text(2) if case is not cases[0] else ""
        spreads = (results.spread(case.name, figure).text() for figure in ("p50", "p99"))
        rows.append((case.name, shown, *spreads))
    columns = ("", "p99, times that without it", "p50", "p99")
    title = "µs from publish to receipt, of the seven that keep up"
    return results, Table(title, columns, tuple(rows))


def run(options: Options) -> Report:
    """Run all three parts."""
    parts = [_fan_out(options), _looks(options), _slow(options)]
    figures = {name: values for results, _ in parts for name, values in results.values.items()}
    return Report("fanout", tuple(table for _, table in parts), figures=figures)
