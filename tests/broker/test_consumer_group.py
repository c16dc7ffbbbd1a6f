"""The example of a consumer group: each flow is taken once, by one of some processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netring_bpf import FlowBroadcast, MqttOptions, MqttSink
from tests.broker.publishing import FAST, connected, publish_through, settled
from tests.support.broker import Broker
from tests.support.events import ended
from tests.support.paths import ROOT
from tests.support.patience import until, wait_until
from tests.support.process import spawn
from tests.support.sizes import soak

pytestmark = pytest.mark.requires("broker")

FLOWS = soak(8000, 20_000, 100_000)


class Group:
    """The example, running; what it prints, and the rows of its table."""

    def __init__(self, process: subprocess.Popen[str], table: Path) -> None:
        self.process, self._table = process, table
        self.said: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))

    def count(self, pattern: str) -> int:
        return sum(re.fullmatch(pattern, line) is not None for line in self.said)

    def pids(self, number: int) -> list[int]:
        found = (re.fullmatch(rf"consumer {number} is process (\d+)", line) for line in self.said)
        return [int(match[1]) for match in found if match]

    def rows(self, query: str) -> list[tuple[int, ...]]:
        table = sqlite3.connect(self._table, timeout=60)
        try:
            return table.execute(query).fetchall()
        finally:
            table.close()

    @property
    def taken(self) -> int:
        return self.rows("SELECT count(*) FROM flows")[0][0]

    def end(self) -> None:
        """End it as a user does; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0
        self._reading.join()


@contextmanager
def group(broker: Broker, folder: Path, processes: int) -> Iterator[Group]:
    table = folder / "flows.sqlite"
    argv = [f"127.0.0.1:{broker.port}", "box", str(table), str(processes)]
    command = [sys.executable, "-W", "error", str(ROOT / "examples/consumer_group.py"), *argv]
    with spawn(command, stdout=subprocess.PIPE) as process:
        running = Group(process, table)
        try:
            wait_until(lambda: running.count(r"consumer \d+ subscribed") == processes)
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
            running._reading.join()


async def offer(broadcast: FlowBroadcast, sink: MqttSink, flows: range) -> None:
    for start in range(flows.start, flows.stop, 500):
        broadcast.publish([ended(n) for n in range(start, min(start + 500, flows.stop))])
        await until(lambda: sink.statistics().pending < 5000)


def test_each_flow_is_taken_once_by_one_of_the_processes(tmp_path: Path) -> None:
    with Broker() as broker, group(broker, tmp_path, 3) as running:
        sink = MqttSink(broker.url, MqttOptions(**FAST))

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            await offer(broadcast, sink, range(FLOWS))
            await settled(sink, FLOWS)

        publish_through(sink, script)
        wait_until(lambda: running.taken == FLOWS)
        running.end()
        assert running.rows("SELECT count(*), min(seq), max(seq) FROM flows") == [(FLOWS, 1, FLOWS)]
        by_consumer = running.rows("SELECT consumer, count(*) FROM flows GROUP BY consumer")
        assert [number for number, _ in by_consumer] == [0, 1, 2]
        # mosquitto deals the messages out in turn.
        assert min(count for _, count in by_consumer) > FLOWS // 6
        assert running.count(r"consumer \d took \d+ flows") == 3


def test_no_flow_is_lost_where_processes_are_killed_in_the_middle(tmp_path: Path) -> None:
    with Broker() as broker, group(broker, tmp_path, 3) as running:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        kills = soak(2, 4, 10)

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            part = FLOWS // kills
            for kill in range(kills):
                number = kill % 3
                before = running.taken
                offering = asyncio.create_task(
                    offer(broadcast, sink, range(kill * part, (kill + 1) * part))
                )
                await until(lambda before=before: running.taken > before + 200)
                lives = len(running.pids(number))
                os.kill(running.pids(number)[-1], signal.SIGKILL)
                await offering
                await until(lambda n=number, lives=lives: len(running.pids(n)) > lives)
            await settled(sink, part * kills)

        publish_through(sink, script)
        total = FLOWS // kills * kills
        wait_until(lambda: running.taken == total)
        running.end()
        assert running.rows("SELECT count(*), min(seq), max(seq) FROM flows") == [(total, 1, total)]


def test_what_comes_while_the_group_is_away_is_taken_when_it_is_back(tmp_path: Path) -> None:
    with Broker() as broker:
        with group(broker, tmp_path, 2) as running:
            running.end()
        sink = MqttSink(broker.url, MqttOptions(**FAST))

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            await offer(broadcast, sink, range(2000))
            await settled(sink, 2000)

        publish_through(sink, script)
        with group(broker, tmp_path, 2) as running:
            wait_until(lambda: running.taken == 2000)
            running.end()
