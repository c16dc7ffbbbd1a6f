"""Tell of each host that begins a flow for the first time: new_host.py eth1 [NETWORK …].

Each line has the time, the host's address and its first flow. With networks, such as 10.0.0.0/8,
only their hosts count. The first argument may be a capture file.
"""

import asyncio
import ipaddress
import sys
from datetime import UTC, datetime
from pathlib import Path

import netring_bpf as nr


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file; the starts of flows are all that is made."""
    options = nr.FlowOptions(events=(nr.FlowStarted,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(source: str, *networks: str) -> None:
    wanted = [ipaddress.ip_network(network) for network in networks]
    known: set[bytes] = set()
    async with open_ring(source) as ring:
        print("reading", source, "by", ring.backend, file=sys.stderr)
        async for event in ring.subscribe(kinds=nr.FlowStarted):
            match event:
                case nr.FlowStarted(ts=ts, flow=flow):
                    host = flow.key.orig
                    if host.packed in known:
                        continue
                    known.add(host.packed)
                    if not wanted or any(host.addr in network for network in wanted):
                        time = datetime.fromtimestamp(ts // 10**9, UTC)
                        print(f"{time:%Y-%m-%d %H:%M:%S}", host.text, flow.key, sep="\t")
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
