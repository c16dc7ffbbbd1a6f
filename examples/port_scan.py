"""Tell who tries many ports: port_scan.py eth1, or port_scan.py capture.pcap.

An address that tries 20 places (hosts and ports) in vain within a minute is told, once a minute. It
ends with the file, and at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from collections import OrderedDict
from pathlib import Path

import netring_bpf as nr

TRIES, WINDOW, SOURCES, FAILED = 20, 60 * 10**9, 10_000, {"S0", "REJ", "RSTOS0"}


class Scans:
    """The places that each address has tried in vain."""

    def __init__(self) -> None:
        self._tried = OrderedDict[str, tuple[int, set[nr.Endpoint]]]()

    def is_scan(self, flow: nr.Flow) -> bool:
        """Return whether this flow makes its originator one to tell of."""
        who = flow.key.orig.text
        begin, places = self._tried.pop(who, (0, set()))
        if flow.start - begin > WINDOW:
            begin, places = flow.start, set()
        self._tried[who] = begin, places  # behind all others
        if len(self._tried) > SOURCES:  # a flood of made-up addresses
            self._tried.popitem(last=False)
        if len(places) >= TRIES:  # it was told in this minute
            return False
        places.add(flow.key.resp)
        return len(places) == TRIES


def open_ring(source: str) -> nr.Netring:
    flow = nr.FlowOptions(events=(nr.FlowEnded,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=flow)
    return nr.Netring(source, flow=flow)


async def main(source: str) -> None:
    scans, loop = Scans(), asyncio.get_running_loop()
    async with open_ring(source) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for event in ring.subscribe(kinds=nr.FlowEnded):
            match event:
                case nr.FlowEnded(flow=flow) if flow.conn_state in FAILED and scans.is_scan(flow):
                    print(f"{flow.key.orig.text} tries ports, the latest {flow.key.resp}")
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
