"""Print who asked for which name, and the answer: names.py eth1, or names.py capture.pcap."""

import asyncio
import sys
from pathlib import Path

import netring_bpf as nr


def answer(event: nr.AppEvent) -> str:
    """Return what DNS answered; else the address that the client talks to."""
    match event.app.details:
        case nr.DnsDetails(answers=answers, rcode=code):
            return ", ".join(answer.data for answer in answers) or code or "no answer"
    return str(event.flow.key.resp.addr)


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.AppEvent,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(source: str) -> None:
    async with open_ring(source) as ring:
        print("reading", source, "by", ring.backend, file=sys.stderr)
        async for event in ring.subscribe():
            match event:
                case nr.AppEvent(app=app, flow=flow) if app.name:
                    print(flow.key.orig.addr, app.protocol, app.name, answer(event), sep="\t")
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
