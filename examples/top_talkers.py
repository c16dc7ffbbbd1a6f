"""Print the hosts with the most traffic of each interval: top_talkers.py eth1 [SECONDS].

The first argument may be a capture file; its intervals are those of its own time. Each line has an
address, the name by which it was asked for, and the bytes that it sent and received.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import netring_bpf as nr


def open_ring(source: str, seconds: float) -> nr.Netring:
    """Open the interface, or the capture file."""
    stats = nr.StatsOptions(interval=seconds, top=5)
    if Path(source).is_file():
        return nr.Netring.replay(source, stats=stats)
    return nr.Netring(source, stats=stats)


def show(stats: nr.StatsUpdated) -> None:
    """Print one interval."""
    total = stats.traffic.total
    time = datetime.fromtimestamp(stats.ts // 10**9, UTC)
    rate = stats.per_second(total.bytes * 8) / 1e6
    print(f"{time:%H:%M:%S}  {rate:.3f} Mbit/s  {total.packets} packets  {total.flows} flows")
    for row in stats.top.hosts:
        print("", row.key, row.name or "-", row.bytes_sent, row.bytes_received, sep="\t")


async def main(source: str, seconds: str = "10") -> None:
    async with open_ring(source, float(seconds)) as ring:
        print("reading", source, "by", ring.backend, file=sys.stderr)
        async for event in ring.subscribe(kinds=nr.StatsUpdated):
            match event:
                case nr.StatsUpdated():
                    show(event)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
