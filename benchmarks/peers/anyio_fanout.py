"""anyio's memory streams, one for each subscriber: the peer of ``fanout.py``.

Run with the peer's Python: ``python -m benchmarks.peers.anyio_fanout SUBSCRIBERS EVENTS``.
"""

from __future__ import annotations

import asyncio
import sys
import time

import anyio

from benchmarks.events import ended_batches


async def _fan_out(subscribers: int, events: int) -> float:
    """Send so many events to each of so many subscribers; returns the seconds."""
    batches = [list(batch) for batch in ended_batches(events)]
    streams = [anyio.create_memory_object_stream[object](4096) for _ in range(subscribers)]

    async def receive(place: int) -> None:
        async with streams[place][1] as receiver:
            received = 0
            async for _ in receiver:
                received += 1
        if received != events:
            raise RuntimeError(f"{received} of {events} events were received")

    async with anyio.create_task_group() as tasks:
        for place in range(subscribers):
            tasks.start_soon(receive, place)
        begin = time.perf_counter()
        for batch in batches:
            for event in batch:
                for sender, _ in streams:
                    await sender.send(event)
        for sender, _ in streams:
            sender.close()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(asyncio.run(_fan_out(int(sys.argv[1]), int(sys.argv[2]))))
