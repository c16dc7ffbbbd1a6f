"""Swap the filter while the capture runs: swap_filter.py eth1 filter.txt.

The file has an expression of tcpdump. At SIGHUP it is read again and the filter swapped, and no
packet passes in between; a wrong expression changes nothing. The program prints the flows that
begin. It ends at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path

import netring_bpf as nr
from netring_bpf.errors import printable


async def follow(ring: nr.Netring, path: Path, asked: asyncio.Event) -> None:
    """Swap the filter each time that it is asked for."""
    while await asked.wait():
        asked.clear()
        try:
            expression = await asyncio.to_thread(path.read_text)
            await ring.set_filter(expression)
        except (nr.NetringError, OSError) as error:
            print("the old filter stays:", error, flush=True)
        else:
            print("filter:", printable(expression.strip()), flush=True)


async def main(interface: str, path: Path, expression: str) -> None:
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    options = nr.FlowOptions(events=(nr.FlowStarted,))
    ring = nr.Netring(interface, filter=expression, flow=options)
    async with ring, asyncio.TaskGroup() as tasks:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        print("watching", interface, flush=True)
        follower = tasks.create_task(follow(ring, path, asked))
        async for event in ring.subscribe(kinds=nr.FlowStarted):
            match event:
                case nr.FlowStarted(flow=flow):
                    print(flow.key, flush=True)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)
        follower.cancel()


if __name__ == "__main__":
    source = Path(sys.argv[2])
    asyncio.run(main(sys.argv[1], source, source.read_text()))
