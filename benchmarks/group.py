"""A consumer group: how fast processes that share a node's flows take them from mosquitto.

Messages of 100 flows, made beforehand, are published at QoS 1 as fast as mosquitto takes them. The
group is ``examples/consumer_group.py``, which puts each flow into one table of SQLite. The floor is
one mosquitto_sub, subscribed in the same way, which throws them away. The clock runs from the first
message to the last flow in the table.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiomqtt

from benchmarks.events import ended_batches
from benchmarks.harness import Case, Options, Report, Table, interleave
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.broker import Broker

__all__ = ["run"]

_FLOWS = 50_000
_BATCH = 100
_MEMBERS = (1, 2, 4)
_FLOOR = "floor: mosquitto_sub"
_TOPIC = "netring/box/flows"
_EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "consumer_group.py"


def _messages(flows: int) -> list[bytes]:
    encoder = TextEncoder("json", terminator=b"", capture="0" * 32, seq=1)
    batches = ended_batches(flows)
    records: list[bytes] = []
    for batch in batches:
        encoder.seq = len(records) + 1
        records += encoder.encode_records(batch).records()
    return [b"[" + b",".join(records[at : at + _BATCH]) + b"]" for at in range(0, flows, _BATCH)]


async def _publish(port: int, messages: Sequence[bytes]) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for message in messages:
            await client.publish(_TOPIC, message, qos=1)


def _taken(table: Path) -> int:
    connection = sqlite3.connect(table, timeout=60)
    try:
        count: int = connection.execute("SELECT count(*) FROM flows").fetchone()[0]
    finally:
        connection.close()
    return count


def _group(members: int, messages: Sequence[bytes], flows: int) -> Mapping[str, float]:
    with Broker(config=["max_queued_messages 0"]) as broker, tempfile.TemporaryDirectory() as home:
        table = Path(home, "flows.sqlite")
        argv = [f"127.0.0.1:{broker.port}", "box", str(table), str(members)]
        with subprocess.Popen(
            [sys.executable, str(_EXAMPLE), *argv], stdout=subprocess.PIPE, text=True
        ) as group:
            assert group.stdout is not None
            subscribed = 0
            while subscribed < members:
                subscribed += "subscribed" in group.stdout.readline()
            begin = time.perf_counter()
            asyncio.run(_publish(broker.port, messages))
            while _taken(table) < flows:
                time.sleep(0.02)
            seconds = time.perf_counter() - begin
            group.send_signal(signal.SIGTERM)
            group.communicate()
    return {"flows_per_second": flows / seconds}


def _alone(messages: Sequence[bytes], flows: int) -> Mapping[str, float]:
    with Broker(config=["max_queued_messages 0"]) as broker:
        topic = f"$share/floor/{_TOPIC}"
        argv = ["-p", str(broker.port), "-V", "5", "-q", "1", "-t", topic, "-d", "-F", ""]
        with subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", *argv, "-C", str(len(messages))],
            stdout=subprocess.PIPE,
            text=True,
        ) as subscriber:
            assert subscriber.stdout is not None
            while "Subscribed" not in subscriber.stdout.readline():
                pass
            begin = time.perf_counter()
            asyncio.run(_publish(broker.port, messages))
            subscriber.communicate()
            seconds = time.perf_counter() - begin
    return {"flows_per_second": flows / seconds}


def run(options: Options) -> Report:
    """Run groups of 1, 2 and 4 processes beside the floor."""
    flows = 10_000 if options.quick else _FLOWS
    messages = _messages(flows)
    cases = [Case(_FLOOR, functools.partial(_alone, messages, flows))]
    names = {f"{members} of a group": members for members in _MEMBERS}
    cases += [
        Case(name, functools.partial(_group, members, messages, flows))
        for name, members in names.items()
    ]
    results = interleave(cases, options.rounds)
    rows = tuple(
        (
            name,
            "" if name == _FLOOR else results.ratio(name, _FLOOR, "flows_per_second").text(2),
            results.spread(name, "flows_per_second").text(),
        )
        for name in (_FLOOR, *names)
    )
    table = Table("Flows out of mosquitto", ("", "flows/s, of the floor", "flows/s"), rows)
    note = "The publisher and the broker share the machine's CPUs with the group."
    return Report("group", (table,), (note,), results.values)
