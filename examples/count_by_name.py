"""Count frames by filters with names: count_by_name.py eth1 10 'web=tcp port 443' 'dns=port 53'.

The kernel counts the matches of each filter; frames that none matches cost nothing else. Each 10
seconds the program prints the counts so far, and the last ones at SIGINT and SIGTERM.
"""

import asyncio
import contextlib
import signal
import sys

import netring_bpf as nr


def show(ring: nr.Netring) -> None:
    matches = ring.statistics().capture.matches
    print(*(f"{name}: {count}" for name, count in matches.items()), sep="  ", flush=True)


async def main(interface: str, interval: float, filters: dict[str, str]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    # No flow is wanted here, so the fewest events are made of them.
    options = nr.FlowOptions(events=(nr.FlowEnded,))
    async with nr.Netring(interface, filter=filters, flow=options) as ring:
        print("counting on", interface, flush=True)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await ended.wait()
            show(ring)


if __name__ == "__main__":
    named = dict(given.split("=", 1) for given in sys.argv[3:])
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), named))
