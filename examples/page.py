"""Serve the page in a program that does more than that: page.py eth1 127.0.0.1:8080.

The page reads the ring as one subscriber, and the program as another: it prints each new device.
The server listens on loopback; another address needs a token. It ends at SIGINT and SIGTERM. It
needs ``netring-bpf[web]``.
"""

import asyncio
import signal
import sys

import netring_bpf as nr
from netring_bpf.web import serve


async def main(interface: str, listen: str) -> None:
    loop = asyncio.get_running_loop()
    ring = nr.Netring(interface, stats=True, devices=True)
    async with ring, serve(ring, listen) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: loop.create_task(ring.close()))
        print("the page is at", server.url, flush=True)
        async for event in ring.subscribe(kinds=nr.DeviceSeen):
            match event:
                case nr.DeviceSeen(device=new):
                    print("new:", new.mac, new.name or new.vendor or "-", flush=True)
                case nr.Lagged(missed=missed):
                    print("fell behind by", missed, "events", file=sys.stderr)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    except nr.NetringError as error:  # such as: another program has the address
        sys.exit(f"page.py: {error}")
