"""From a frame that a program writes into a pipe to the coroutine that hears of its flow.

A frame of a new flow is written every 2 ms, and its ``FlowStarted`` awaited before the next. The
times are those between the end of the write and the coroutine's turn. The floor reads the same pipe
with asyncio alone, and does nothing with the bytes.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Case, Options, Report, Table, interleave
from netring_bpf import FlowStarted, Netring

__all__ = ["run"]

_FRAMES = 1000
_PAUSE = 0.002  # seconds
_FLOOR = "floor: asyncio"
_HEAD = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
_WAYS: dict[str, Callable[[bytes], bytes]] = {"pcap": bytes, "pcap, packed by gzip": gzip.compress}


def _record(number: int) -> bytes:
    """A frame of UDP, which begins a flow."""
    udp = struct.pack("!4H", 1024 + number, 9, 8, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    frame = bytes(12) + b"\x08\0" + ip + udp
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return struct.pack("=4I", seconds, rest // 1000, len(frame), len(frame)) + frame


async def _through_netring(fifo: Path, frames: int, pack: Callable[[bytes], bytes]) -> list[float]:
    waits = []
    end = os.open(fifo, os.O_RDWR)
    try:
        async with Netring.replay(fifo) as ring:
            events = ring.subscribe(kinds=FlowStarted)
            os.write(end, pack(_HEAD))
            for number in range(frames):
                await asyncio.sleep(_PAUSE)
                os.write(end, pack(_record(number)))
                written = time.perf_counter()
                await anext(events)
                waits.append(time.perf_counter() - written)
    finally:
        os.close(end)
    return waits


async def _through_asyncio(fifo: Path, frames: int) -> list[float]:
    waits = []
    loop = asyncio.get_running_loop()
    end = os.open(fifo, os.O_RDWR)
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb")
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        for number in range(frames):
            await asyncio.sleep(_PAUSE)
            os.write(end, _record(number))
            written = time.perf_counter()
            await reader.read(4096)
            waits.append(time.perf_counter() - written)
    finally:
        transport.close()
        os.close(end)
    return waits


def _measure(frames: int, pack: Callable[[bytes], bytes] | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder, "fifo")
        os.mkfifo(fifo)
        if pack is None:
            waits = asyncio.run(_through_asyncio(fifo, frames))
        else:
            waits = asyncio.run(_through_netring(fifo, frames, pack))
    waits.sort()
    return {
        "p50": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100], "most": waits[-1],
    }  # fmt: skip


def run(options: Options) -> Report:
    """Measure a plain and a packed pipe, beside the floor."""
    frames = 20 if options.quick else _FRAMES
    cases = [Case(_FLOOR, functools.partial(_measure, frames, None))]
    cases += [Case(way, functools.partial(_measure, frames, pack)) for way, pack in _WAYS.items()]
    results = interleave(cases, options.rounds)
    rows = tuple(
        (
            case.name,
            "" if case.name == _FLOOR else results.ratio(case.name, _FLOOR, "p50").text(1),
            *(results.spread(case.name, figure).text(3, 1e-3) for figure in ("p50", "p99", "most")),
        )
        for case in cases
    )
    columns = ("pipe", "p50, times the floor", "p50", "p99", "most")
    title = "Milliseconds from the write to the coroutine"
    return Report("pipe", (Table(title, columns, rows),), (), results.values)
