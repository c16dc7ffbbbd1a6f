"""A capture as a user writes it: a subscriber reads the events of a Netring.

    python -m benchmarks.live_capture INTERFACE af_xdp|tpacket_v3 native|generic FLOWS NAMES

The program prints "ready", ends when its standard input does, and prints "name value" lines: frames
received, events, the CPU time of the reader's thread and of the process, and whether the books
balance.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Literal

from netring_bpf import (
    BatchSubscriber,
    EventBatch,
    FlowOptions,
    Lagged,
    Netring,
    NetringStatistics,
    XdpMode,
    XdpOptions,
)

_BUFFER = 1 << 16
_NAMES: dict[str, Literal["all", "off"]] = {"all": "all", "off": "off"}


async def _read(batches: BatchSubscriber) -> tuple[int, int]:
    """Read to the end; returns how many events came, and how many were missed."""
    events = missed = 0
    async for batch in batches:
        if isinstance(batch, EventBatch):
            events += len(batch)
        else:
            missed += sum(event.missed for event in batch if isinstance(event, Lagged))
    return events, missed


def _reader_ns() -> int:
    threads = [t.ident for t in threading.enumerate() if t.name.startswith("netring-reader")]
    return sum(
        time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
        for ident in threads
        if ident is not None
    )


async def _capture(
    interface: str, backend: str, attach: str, flows: int, names: str
) -> dict[str, int]:
    ring = Netring(
        interface,
        backend="af_xdp" if backend == "af_xdp" else "tpacket_v3",
        buffer=_BUFFER,
        xdp=XdpOptions(mode=XdpMode(attach)),
        flow=FlowOptions(max_flows=flows, event_slots=1 << 18, names=_NAMES[names]),
    )
    reading = asyncio.create_task(_read(ring.subscribe_batches()))
    async with ring:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        reader_ns, process_ns = _reader_ns(), time.process_time_ns()
    return _figures(ring.statistics(), await reading, reader_ns, process_ns)


def _figures(
    books: NetringStatistics, events: tuple[int, int], reader_ns: int, process_ns: int
) -> dict[str, int]:
    capture = books.capture
    for equation in books.equations():
        if not equation.holds:
            print(equation, file=sys.stderr)
    return {
        "seen": capture.seen,
        "received": capture.received,
        "keyed": capture.keyed,
        "lost": capture.lost,
        "flows": capture.flows.started,
        "events": capture.events_produced,
        "events_read": events[0],
        "events_missed": events[1],
        "events_lost": capture.events_lost,
        "reader_ns": reader_ns,
        "process_ns": process_ns,
        "balanced": books.balanced,
    }


def main() -> None:
    """Capture until standard input ends, then print the figures."""
    interface, backend, attach, flows, names = sys.argv[1:]
    figures = asyncio.run(_capture(interface, backend, attach, int(flows), names))
    for name, value in figures.items():
        print(name, int(value))


if __name__ == "__main__":
    main()
