"""Print questions of DNS that fail, and count them: failed_lookups.py eth1, or a capture file.

A line has the client, the question, its type and the answer's code; "no answer" stands where none
came. At the end stand the names that failed most. It ends with the file, at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path

import netring_bpf as nr

NAMES = 10_000  # to be counted


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.AppEvent,))
    if Path(source).is_file():
        return nr.Netring.replay(source, filter="port 53", flow=options)
    return nr.Netring(source, filter="port 53", flow=options)


async def main(source: str) -> None:
    failed, loop = Counter[str](), asyncio.get_running_loop()
    async with open_ring(source) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for event in ring.subscribe(kinds=nr.AppEvent):
            match event:
                case nr.AppEvent(
                    flow=flow, app=nr.App(details=nr.DnsDetails(query=str(name)) as dns)
                ) if dns.rcode != "NOERROR":
                    code = dns.rcode or "no answer"
                    print(flow.key.orig.text, name, dns.type, code, sep="\t", flush=True)
                    if name in failed or len(failed) < NAMES:
                        failed[name] += 1
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)
    for name, times in failed.most_common(10):
        print(f"{times} times: {name}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
