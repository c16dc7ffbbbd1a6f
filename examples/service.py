"""A capture as a service of systemd: service.py eth1 flows.json (Type=notify, WatchdogSec=30).

It tells systemd when it is ready and when it stops, and feeds the watchdog as long as the event
loop answers. SIGTERM closes the ring; the flows that live end, and are in the file before the
program exits with status 0. A capture that fails exits with 1, for Restart=on-failure.
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import netring_bpf as nr


def notify(state: str) -> None:
    """Tell systemd; without systemd, nobody."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as systemd:
            systemd.connect("\0" + address[1:] if address.startswith("@") else address)
            systemd.send(state.encode())


async def feed_watchdog() -> None:
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    while seconds:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)


async def main(interface: str, path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with nr.Netring(interface) as ring, asyncio.TaskGroup() as tasks:

        def stop() -> None:
            notify("STOPPING=1")
            tasks.create_task(ring.close())

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        watchdog = tasks.create_task(feed_watchdog())
        notify(f"READY=1\nSTATUS=capturing {interface} by {ring.backend}")
        with path.open("a") as file:
            async for event in ring.subscribe(kinds=nr.FlowEnded):
                file.write(event.to_json() + "\n")  # a Lagged says how many are missing
                file.flush()
        watchdog.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    except nr.NetringError as error:
        sys.exit(f"service.py: {error}")
