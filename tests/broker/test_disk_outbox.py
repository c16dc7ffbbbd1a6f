"""The disk outbox under kill -9: books that go on, and at most half a second of flows lost.

A publisher in a process of its own writes to a side log how many flows its sink has accepted, with
the time, and is killed at some moment. The next one goes on with the same folder.
"""

from __future__ import annotations

import json
import random
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.broker.publishing import distinct, records
from tests.support.broker import Broker, MosquittoSub
from tests.support.paths import ROOT
from tests.support.patience import wait_until
from tests.support.process import spawn
from tests.support.sizes import size, soak

pytestmark = pytest.mark.requires("broker")

KILLS = soak(6, 20, 200)
BOUND = 0.5  # seconds, as docs/outbox.md promises
MARKER = "netring/box/marker"
_ENTRY = struct.Struct("<Qd")

PUBLISHER = """
import asyncio, json, os, struct, sys, time
from netring_bpf import FlowBroadcast, MqttOptions, MqttSink
from tests.support.events import ended

url, folder, size, log, first, seconds = sys.argv[1:]
sink = MqttSink(url, MqttOptions(
    node="box", flush_interval=0.02, reconnect_max=0.2, outbox_dir=folder, outbox_bytes=int(size),
    drain_timeout=60.0 if float(seconds) == 0 else 0.0,
))
side = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
entry = struct.Struct("<Qd")

def tell():
    now = sink.statistics()
    assert now.accepted == now.acknowledged + sum(now.dropped.values()) + now.pending, now
    books = now.outbox
    assert books.accepted == books.acknowledged + sum(books.dropped.values()) + books.pending, books
    print(json.dumps({
        "accepted": books.accepted, "acknowledged": books.acknowledged,
        "dropped": dict(books.dropped), "pending": books.pending, "restored": books.restored,
        "size": books.size,
    }), flush=True)

async def note():
    noted = 0
    while True:
        now = sink.statistics()
        accepted = now.accepted - now.outbox.restored if now.outbox else 0
        if accepted > noted:
            os.write(side, entry.pack(accepted, time.monotonic()))
            noted = accepted
        await asyncio.sleep(0.002)

async def main():
    broadcast = FlowBroadcast(100_000)
    running = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
    noting = asyncio.create_task(note())
    while sink.statistics().outbox is None:
        await asyncio.sleep(0.001)
    tell()
    number, begin = int(first), time.monotonic()
    published = 0
    while time.monotonic() - begin < float(seconds):
        if published < (time.monotonic() - begin) * 3000:
            broadcast.publish([ended(number + n) for n in range(40)])
            number += 40
            published += 40
        await asyncio.sleep(0.001)
    broadcast.close()
    await running
    noting.cancel()

asyncio.run(main())
tell()
"""


@dataclass
class Run:
    """What one publisher did: its books at the beginning, and the flows by their age at the end."""

    books: dict[str, Any]
    after: dict[str, Any] | None = None
    ages: dict[int, float] = field(default_factory=dict)

    @property
    def safe(self) -> int:
        return sum(age > BOUND for age in self.ages.values())


class Publishers:
    """Publishers one after another, with one folder."""

    def __init__(self, url: str, folder: Path, capacity: int) -> None:
        self._url, self._folder, self._capacity = url, folder / "outbox", capacity
        self._log = folder / "log"
        self._next = 1

    def run(self, kill_after: float | None, seconds: float = 600.0) -> Run:
        """Let one publish, until it is killed or so many seconds are over."""
        self._log.unlink(missing_ok=True)
        argv = [self._url, self._folder, self._capacity, self._log, self._next, seconds]
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PUBLISHER}"
        with spawn(
            [sys.executable, "-c", code, *map(str, argv)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            run = Run(json.loads(process.stdout.readline()))
            if kill_after is None:
                run.after = json.loads(process.stdout.readline())
                assert process.wait() == 0
            else:
                time.sleep(kill_after)
                process.send_signal(signal.SIGKILL)
                killed = time.monotonic()
                process.wait()
        if kill_after is not None:
            entries = self._log.read_bytes() if self._log.exists() else b""
            whole = len(entries) - len(entries) % _ENTRY.size
            first = self._next
            for accepted, then in _ENTRY.iter_unpack(entries[:whole]):
                run.ages |= dict.fromkeys(range(first, self._next + accepted), killed - then)
                first = self._next + accepted
        # The last entries may be on their way: their numbers are not used again.
        self._next = max([self._next, *run.ages]) + 10_000
        return run


class Arrived:
    """The flows that a subscriber has got; each message is read once."""

    def __init__(self, sub: MosquittoSub) -> None:
        self._sub = sub
        self._read = 0
        self.flows: list[int] = []
        self.keys: set[tuple[str, int]] = set()  # capture and seq
        self._markers = 0

    def update(self) -> None:
        received = self._sub.received
        for message in received[self._read :]:
            if message.topic == MARKER:
                self._markers += 1
                continue
            for record in records([message]):
                self.flows.append(int(str(record["id"])))
                self.keys.add((str(record["capture"]), int(str(record["seq"]))))
        self._read = len(received)

    def wait_for_marker(self, port: int) -> None:
        """Wait until all that the broker has now is here: it delivers in order."""
        wanted = self._markers + 1
        command = ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", MARKER, "-m", "now"]
        subprocess.run(command, check=True)
        wait_until(lambda: self.update() or self._markers == wanted)


def assert_books_go_on(runs: list[Run], last: Run) -> None:
    """What is older than the bound at the kill is in the books of the next run."""
    for run, following in zip(runs, [*runs[1:], last], strict=True):
        begin, end = run.books["accepted"], following.books["accepted"]
        assert begin + run.safe <= end
        # The sink may be ahead of the side log.
        assert end <= begin + len(run.ages) + 2000
        assert following.books["restored"] == following.books["pending"] + sum(
            following.books["dropped"].get(reason, 0) - run.books["dropped"].get(reason, 0)
            for reason in ("torn",)
        )


def test_kill_9_without_a_broker_keeps_the_books_of_a_full_outbox(tmp_path: Path) -> None:
    moments = random.Random(17)
    with Broker() as broker:
        publishers = Publishers(broker.url, tmp_path, 2 << 20)
        broker.stop()
        publishers.run(None, seconds=size(4.0, 6.0))  # the outbox is full from here on
        runs = [publishers.run(moments.uniform(0.1, 1.5)) for _ in range(KILLS)]
        assert all(run.books["size"] > (2 << 20) // 2 for run in runs)
        broker.start()
        with MosquittoSub(broker.port, "netring/box/#") as sub:
            arrived = Arrived(sub)
            last = publishers.run(None, seconds=0)
            assert last.after is not None
            arrived.wait_for_marker(broker.port)
    assert_books_go_on(runs, last)
    assert sum(run.safe for run in runs) > 0
    after = last.after
    assert after["pending"] == 0
    assert after["accepted"] == last.books["accepted"]
    assert after["acknowledged"] == last.books["pending"] == len(arrived.flows)
    assert len(arrived.flows) == len(set(arrived.flows))
    assert after["dropped"]["overflow"] > 0
    assert set(after["dropped"]) <= {"overflow", "torn"}


def test_kill_9_loses_at_most_half_a_second(tmp_path: Path) -> None:
    moments = random.Random(18)
    with Broker() as broker, MosquittoSub(broker.port, "netring/box/#") as sub:
        publishers = Publishers(broker.url, tmp_path, 64 << 20)
        arrived = Arrived(sub)
        runs = []
        for number in range(KILLS):
            # It is killed with the broker there, away, and on its way back.
            if number % 3 == 1:
                arrived.wait_for_marker(broker.port)  # it forgets what it has
                broker.stop()
            runs.append(publishers.run(moments.uniform(0.1, 1.5)))
            if number % 3 == 1:
                broker.start()
                sub.wait_subscribed(2 + number // 3)
        last = publishers.run(None, seconds=0)
        assert last.after is not None
        safe = {n for run in runs for n, age in run.ages.items() if age > BOUND}
        arrived.wait_for_marker(broker.port)
    assert_books_go_on(runs, last)
    assert len(safe) > 0
    lost = safe - set(arrived.flows)
    assert len(lost) == 0, (len(lost), min(lost), max(lost))
    assert last.after["pending"] == 0
    assert last.after["acknowledged"] == last.after["accepted"] - sum(
        last.after["dropped"].values()
    )
    assert set(last.after["dropped"]) <= {"torn"}
    # capture and seq tell the flows that came twice.
    assert len(arrived.keys) == len(set(arrived.flows))


def test_capture_and_seq_go_on_where_flows_of_an_earlier_run_wait(tmp_path: Path) -> None:
    with Broker() as broker:
        publishers = Publishers(broker.url, tmp_path, 2 << 20)
        broker.stop()
        first = publishers.run(None, seconds=0.1)
        assert first.after is not None
        broker.start()
        with MosquittoSub(broker.port, "netring/box/flows") as sub:
            second = publishers.run(None, seconds=0.1)
            assert second.after is not None
            # The second publisher leaves at once: the rest is for the third.
            third = publishers.run(None, seconds=0)
            assert third.after is not None
            total = third.after["accepted"]
            messages = sub.wait_for(lambda m: len(records(m)) >= total)
    assert third.after["acknowledged"] == total
    by_capture: dict[str, list[int]] = {}
    for record in records(messages):
        by_capture.setdefault(str(record["capture"]), []).append(int(str(record["seq"])))
    assert len(by_capture) == 2
    for numbers in by_capture.values():
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
    assert len(distinct(messages)) == max(map(max, by_capture.values()))
