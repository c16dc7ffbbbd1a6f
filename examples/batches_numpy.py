"""Sum up flows by the responder's port with NumPy: batches_numpy.py eth1, or a capture file.

Whole batches come as columns over the capture's own bytes, so no event is decoded. The table stands
at the end. It ends with the file, and at SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path

import numpy as np

import netring_bpf as nr

PORTS, TCP = 65_536, 6


def open_ring(source: str) -> nr.Netring:
    """Open the interface, or the capture file."""
    options = nr.FlowOptions(events=(nr.FlowEnded,))
    if Path(source).is_file():
        return nr.Netring.replay(source, flow=options)
    return nr.Netring(source, flow=options)


async def main(source: str) -> None:
    flows = np.zeros(PORTS, dtype=np.int64)
    volume = np.zeros(PORTS, dtype=np.int64)
    loop, missed = asyncio.get_running_loop(), 0
    async with open_ring(source) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for batch in ring.subscribe_batches(kinds=nr.FlowEnded):
            if not isinstance(batch, nr.EventBatch):
                missed += sum(event.missed for event in batch if isinstance(event, nr.Lagged))
                continue
            rows = batch.columns()
            tcp = rows[rows["proto"] == TCP]
            np.add.at(flows, tcp["resp_port"], 1)
            np.add.at(volume, tcp["resp_port"], (tcp["orig_bytes"] + tcp["resp_bytes"]).astype(int))
    for port in np.argsort(-volume, kind="stable")[:10]:
        if flows[port]:
            print(f"tcp/{port}", f"{flows[port]} flows", f"{volume[port]} bytes", sep="\t")
    if missed:
        print("missed", missed, "flows", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
