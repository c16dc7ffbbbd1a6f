"""Tell when the link of an interface goes down and comes back: link_changes.py eth1.

The capture waits while the link is down. It ends at SIGINT and SIGTERM, or with an error as the
interface is deleted.
"""

import asyncio
import signal
import sys

import netring_bpf as nr


def at(ts: int, since: int) -> str:
    return f"after {(ts - since) / 1e9:.1f} s"


async def main(interface: str) -> None:
    loop = asyncio.get_running_loop()
    # No flow is wanted here, so the fewest events are made of them.
    async with nr.Netring(interface, flow=nr.FlowOptions(events=(nr.FlowEnded,))) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        print("watching", ring.interface, flush=True)
        down: int | None = None
        async for event in ring.subscribe(kinds=(nr.LinkDown, nr.LinkUp)):
            match event:
                case nr.LinkDown(ts=ts, interface=name):
                    down = ts
                    print(name, "is down", flush=True)
                case nr.LinkUp(ts=ts, interface=name):
                    print(name, "is up", "" if down is None else at(ts, down), flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except nr.NetringError as error:
        sys.exit(f"link_changes.py: {error}")
