"""One stream to many subscribers, against a queue for each; what looking at the events costs;
and what a slow subscriber costs the others.

The events are the ends of TCP connections off a reader, published in batches of 1024 as a capture
does; the publisher waits for the slowest subscriber, so that everybody receives everything.
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
_DELIVERIES = 800_000  # of a case, over all its subscribers
_SUBSCRIBERS = (1, 8, 64)
_PAUSE = 0.001  # between the batches of 64 events whose way is timed
_T = TypeVar("_T")
_Batches: TypeAlias = Sequence[EventBatch]
_Work: TypeAlias = Coroutine[object, object, _T]


def _counted(received: Iterable[int], events: int) -> None:
    if set(received) != {events}:
        raise RuntimeError(f"of {events} events these were received: {received}")


async def _publish(broadcast: FlowBroadcast, batches: Iterable[EventBatch]) -> float:
    """Publish them, no faster than the slowest subscriber; returns when it began."""
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
    """To 1, 8 and 64 subscribers, by each way there is."""
    cases = []
    names = ["batches", "events", "asyncio.Queue"]
    some = ended_batches(8192)
    for batch in some:
        list(batch)  # decoded once for all: what is measured is the delivery
    for subscribers in _SUBSCRIBERS:
        wanted = (20_000 if options.quick else _DELIVERIES) // subscribers
        batches = list(islice(cycle(some), max(1, wanted // 1024)))
        count = sum(map(len, batches))
        for name, work in (
            ("batches", functools.partial(_ours, subscribers, batches, whole=True)),
            ("events", functools.partial(_ours, subscribers, batches, whole=False)),
            ("asyncio.Queue", functools.partial(_queues, subscribers, batches)),
        ):
            run = functools.partial(_deliveries, work, subscribers, count)
            cases.append(Case(f"{name}, {subscribers}", run))
        if "anyio" in options.against:
            fewer = max(1024, count // 16)  # it takes long
            peer = functools.partial(_anyio, install("anyio"), subscribers, fewer)
            cases.append(Case(f"anyio, {subscribers}", peer))
    if "anyio" in options.against:
        names.append("anyio")
    results = interleave(cases, options.rounds)
    rows = []
    for name in names:
        spreads = (results.spread(f"{name}, {n}", "per_second") for n in _SUBSCRIBERS)
        ratio = results.ratio(f"{name}, 8", "asyncio.Queue, 8", "per_second")
        rows.append((name, *(spread.text(2, 1e6) for spread in spreads), ratio.text(1)))
    columns = ("", *(f"to {n}" for n in _SUBSCRIBERS), "of asyncio.Queue, to 8")
    return results, Table("Million deliveries a second", columns, tuple(rows))


# -- one subscriber that looks at what it gets --


async def _few(subscriber: FlowSubscriber) -> None:
    total = 0
    async for event in subscriber:
        total += event.flow.orig.bytes if event.flow.key.resp.port == 443 else 0  # type: ignore[union-attr]


async def _all(subscriber: FlowSubscriber) -> None:
    """Every field of the event and of all that hangs on it is an object when it comes."""
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
        batch.columns()["orig"]["bytes"].sum()  # type: ignore[attr-defined]


async def _undecoded(subscriber: FlowSubscriber) -> None:
    while await subscriber.next_batch():
        pass


_LOOKS = {
    "batches, undecoded": _undecoded,
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
    fresh(batches[0]).columns()  # NumPy is loaded
    cases = [
        Case(
            name, functools.partial(_deliveries, functools.partial(_look, look, batches), 1, events)
        )
        for name, look in _LOOKS.items()
    ]
    results = interleave(cases, options.rounds)
    rows = [(name, results.spread(name, "per_second").text(2, 1e6)) for name in _LOOKS]
    return results, Table("Million events a second to one", ("", "of them"), tuple(rows))


# -- a slow one beside seven --


async def _way(slow: bool, batches: _Batches, published: int) -> list[float]:
    """Seconds from the publishing of a batch to the receipt of each of its events, by seven."""
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
            raise RuntimeError("the slow one kept up")
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
        rows.append((case.name, *spreads, shown))
    columns = ("", "p50", "p99", "p99 of theirs without it")
    return results, Table("µs from publish to receipt, of those that keep up", columns, tuple(rows))


def run(options: Options) -> Report:
    """All three."""
    parts = [_fan_out(options), _looks(options), _slow(options)]
    figures = {name: values for results, _ in parts for name, values in results.values.items()}
    return Report("fanout", tuple(table for _, table in parts), figures=figures)
