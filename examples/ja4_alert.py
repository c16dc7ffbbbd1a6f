"""Print the flows whose client has a JA4 of a list: ja4_alert.py list.txt eth1.

Each line of the list has a fingerprint, and behind it whatever is to be printed with its flows.
Lines that begin with "# " are comments. The second argument may be a capture file.
"""

import asyncio
import sys
from pathlib import Path

import netring_bpf as nr


def read_list(path: str) -> dict[str, str]:
    """Return the fingerprints of the list, and what it says about each."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return {words[0]: " ".join(words[1:]) for words in lines if words and words[0] != "#"}


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.AppEvent,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(wanted: dict[str, str], source: str) -> None:
    async with open_ring(source) as ring:
        print("reading", source, "by", ring.backend, file=sys.stderr)
        for notice in ring.notices:  # such as: there are no fingerprints without libcrypto
            print(notice, file=sys.stderr)
        async for event in ring.subscribe():
            match event:
                case nr.AppEvent(app=app, flow=flow) if app.ja4 in wanted:
                    print(app.ja4, flow.key, app.name or "-", wanted[app.ja4], sep="\t")
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(read_list(sys.argv[1]), sys.argv[2]))
