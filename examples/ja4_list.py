"""List the programs behind the TLS and QUIC clients by JA4: ja4_list.py eth1, or a capture file.

Each fingerprint has a line at the end: how many handshakes, how many clients, and a name that it
asked for. ja4_alert.py takes a list of such fingerprints. It ends with the file, and at SIGINT and
SIGTERM.
"""

import asyncio
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import netring_bpf as nr

MOST = 10_000  # fingerprints, and clients of one


@dataclass
class Seen:
    """One fingerprint: its handshakes, its clients, and the first name that it asked for."""

    handshakes: int = 0
    clients: set[bytes] = field(default_factory=set)
    name: str | None = None


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.AppEvent,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(source: str) -> None:
    seen, loop = dict[str, Seen](), asyncio.get_running_loop()
    async with open_ring(source) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        for notice in ring.notices:  # such as: there are no fingerprints without libcrypto
            print(notice, file=sys.stderr)
        async for event in ring.subscribe(kinds=nr.AppEvent):
            match event:
                case nr.AppEvent(flow=flow, app=nr.App(ja4=str(ja4)) as app) if (
                    ja4 in seen or len(seen) < MOST
                ):
                    one = seen.setdefault(ja4, Seen())
                    one.handshakes += 1
                    one.name = one.name or app.name
                    if len(one.clients) < MOST:
                        one.clients.add(flow.key.orig.packed)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)
    for ja4, one in sorted(seen.items(), key=lambda item: (-item[1].handshakes, item[0])):
        print(ja4, one.handshakes, len(one.clients), one.name or "-", sep="\t")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
