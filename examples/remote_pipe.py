"""Flows of another machine that has only tcpdump: ssh probe tcpdump -U -s0 -w - | remote_pipe.py.

It reads a capture from its standard input as it comes, and prints the flows that end. A pipe that
breaks in the middle of a frame gives what was before, then the error. It ends with the pipe, and at
SIGINT and SIGTERM.
"""

import asyncio
import signal
import sys

import netring_bpf as nr


async def main() -> None:
    loop = asyncio.get_running_loop()
    options = nr.FlowOptions(events=(nr.FlowEnded,))
    async with nr.Netring.replay("-", flow=options) as ring:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        async for event in ring.subscribe(kinds=nr.FlowEnded):
            if isinstance(event, nr.FlowEnded):  # a pipe waits for its reader: no Lagged
                flow = event.flow
                name = flow.app.name if flow.app else None
                print(flow.conn_state, flow.key, flow.bytes, name or "-", sep="\t", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except nr.NetringError as error:
        sys.exit(f"remote_pipe.py: {error}")
