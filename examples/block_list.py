"""Print the flows with a network of a list: block_list.py eth1 networks.txt, or a capture file.

The list has an address or a network in a line, and may have 100,000 of them; # begins a comment.
On an interface the kernel looks each frame up, and the program sees those alone that match. It
ends with the file, and at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path

import netring_bpf as nr


def open_ring(source: str, networks: Path) -> nr.Netring:
    """Open the interface, or the capture file."""
    listed = nr.Filter.nets(networks)
    options = nr.FlowOptions(events=(nr.FlowStarted, nr.FlowEnded))
    if Path(source).is_file():
        return nr.Netring.replay(source, filter=listed, flow=options)
    return nr.Netring(source, filter=listed, flow=options)


async def main(source: str, networks: Path) -> None:
    loop = asyncio.get_running_loop()
    async with open_ring(source, networks) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        print("reading", source, "by", ring.backend, file=sys.stderr, flush=True)
        async for event in ring.subscribe(kinds=(nr.FlowStarted, nr.FlowEnded)):
            match event:
                case nr.FlowStarted(flow=flow):
                    print("began", flow.key, sep="\t", flush=True)
                case nr.FlowEnded(flow=flow):
                    print("ended", flow.key, f"{flow.bytes} bytes", sep="\t", flush=True)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    except nr.NetringError as error:  # such as a line of the list that is no network
        sys.exit(f"block_list.py: {error}")
