"""Three readers of one capture, each of its own kinds: several_subscribers.py eth1.

One prints the names that are asked for, one sums the bytes of the flows that end, and one the rates
of each ten seconds. On an interface none waits for another; a capture file goes at the pace of the
slowest. It ends with the file, and at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import netring_bpf as nr


async def names(events: nr.FlowSubscriber) -> None:
    async for event in events:
        if isinstance(event, nr.AppEvent) and event.app.name:
            print("name", event.flow.key.orig.text, event.app.name, sep="\t", flush=True)


async def volume(events: nr.FlowSubscriber) -> None:
    total = Counter[str]()
    async for event in events:
        if isinstance(event, nr.FlowEnded):
            total[event.flow.key.proto_name] += event.flow.bytes
    for proto, count in sorted(total.items()):
        print("total", proto, f"{count} bytes", sep="\t")


async def rates(events: nr.FlowSubscriber) -> None:
    async for event in events:
        if isinstance(event, nr.StatsUpdated):
            bits = event.per_second(event.traffic.total.bytes) * 8
            print("rate", f"{bits / 1000:.1f} kbit/s", sep="\t", flush=True)


async def main(ring: nr.Netring) -> None:
    loop = asyncio.get_running_loop()
    # They subscribe before the ring is entered, so they miss nothing.
    readers = (
        names(ring.subscribe(kinds=nr.AppEvent)),
        volume(ring.subscribe(kinds=nr.FlowEnded)),
        rates(ring.subscribe(kinds=nr.StatsUpdated)),
    )
    async with ring, asyncio.TaskGroup() as tasks:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        for reader in readers:
            tasks.create_task(reader)


if __name__ == "__main__":
    source, is_file = sys.argv[1], Path(sys.argv[1]).is_file()
    ring = nr.Netring.replay(source, stats=True) if is_file else nr.Netring(source, stats=True)
    asyncio.run(main(ring))
