"""A reader that cannot keep up, and knows what it missed: slow_subscriber.py eth1 0.05 flows.json.

Each flow that ends costs it so many seconds, as a slow database would. Events that it misses cost
nobody else anything, and come as one Lagged with their exact number, which is put into the file in
their place. At SIGINT and SIGTERM it ends without reading what is left, and prints its books.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TextIO

import netring_bpf as nr

BUFFER = 64  # events that wait for a reader; 4096 where nothing is said


async def store(event: nr.Event, file: TextIO, cost: float) -> None:
    file.write(event.to_json() + "\n")
    file.flush()
    await asyncio.sleep(cost)  # awaits: the capture and other readers go on meanwhile


async def consume(events: nr.FlowSubscriber, path: Path, cost: float) -> None:
    with path.open("w") as file:
        async for event in events:
            await store(event, file, 0 if isinstance(event, nr.Lagged) else cost)


async def main(interface: str, cost: float, path: Path) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    options = nr.FlowOptions(events=(nr.FlowEnded,))
    async with nr.Netring(interface, flow=options, buffer=BUFFER) as ring:
        events = ring.subscribe(kinds=nr.FlowEnded, name="slow")
        consumer = asyncio.create_task(consume(events, path, cost))
        print("storing flows of", interface, flush=True)
        await ended.wait()
        consumer.cancel()
        books = events.statistics()
        print(f"published {books.published}: stored {books.delivered}, missed {books.lagged}, "
              f"left {books.pending}")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])))
