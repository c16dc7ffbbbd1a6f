"""A capture as a user writes it: a Netring whose events are read by a subscriber.

    python -m benchmarks.live_capture INTERFACE af_xdp|tpacket_v3 native|generic FLOWS

Says "ready", ends when its standard input does, and prints "name value" lines: what was received,
the events, the CPU time of the reader's thread and of the process, and whether the books balance.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter

from netring_bpf import (
    Event,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    FlowSubscriber,
    Lagged,
    Netring,
    NetringStatistics,
    XdpMode,
    XdpOptions,
)

_BUFFER = 1 << 16


async def _read(events: FlowSubscriber) -> Counter[type[Event]]:
    counts: Counter[type[Event]] = Counter()
    while batch := await events.next_batch(1024):
        counts.update(map(type, batch))
        counts[Lagged] += sum(e.missed - 1 for e in batch if isinstance(e, Lagged))
        await asyncio.sleep(0)
    return counts


def _reader_ns() -> int:
    thread = next(t for t in threading.enumerate() if t.name == "netring-reader")
    assert thread.ident is not None
    return time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))


async def _capture(interface: str, backend: str, attach: str, flows: int) -> dict[str, int]:
    ring = Netring(
        interface,
        backend="af_xdp" if backend == "af_xdp" else "tpacket_v3",
        buffer=_BUFFER,
        xdp=XdpOptions(mode=XdpMode(attach)),
        flow=FlowOptions(max_flows=flows, event_slots=1 << 18),
    )
    reading = asyncio.create_task(_read(ring.subscribe()))
    async with ring:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        reader_ns, process_ns = _reader_ns(), time.process_time_ns()
    return _figures(ring.statistics(), await reading, reader_ns, process_ns)


def _figures(
    books: NetringStatistics, events: Counter[type[Event]], reader_ns: int, process_ns: int
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
        "started": events[FlowStarted],
        "ended": events[FlowEnded],
        "lagged": events[Lagged],
        "events": capture.events_produced,
        "events_lost": capture.events_lost,
        "reader_ns": reader_ns,
        "process_ns": process_ns,
        "balanced": books.balanced,
    }


def main() -> None:
    """Capture until standard input ends; say what came of it."""
    interface, backend, attach, flows = sys.argv[1:]
    for name, value in asyncio.run(_capture(interface, backend, attach, int(flows))).items():
        print(name, int(value))


if __name__ == "__main__":
    main()
