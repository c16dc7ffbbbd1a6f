"""A subscriber that notes the age of each flow when it hears of it.

    python -m benchmarks.latency_capture INTERFACE WAY idle|busy

A new flow on the interface has one frame, and its addresses hold the time at which it was made
(``Load.stamp``); all other frames belong to one more flow. With ``busy``, another task keeps the
event loop for a millisecond at a time. The program prints "ready", ends when its standard input
does, and prints "name value" lines, in ns. A busy loop or a sender with a real-time priority would
never let the reader's thread run on its CPU, so the thread gets a higher one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from array import array
from typing import Any

import netring_bpf as nr
from benchmarks.processor import SENDER

BESIDE_SENDER = "af_xdp, reader beside the sender"
_SLICE = 1_000_000  # ns
_OTHERS = 0x0A000000  # the address of the flow without a time
_STAMP = (1 << 56) - 1  # the bits of the time that fit into two IPv4 addresses


def options(way: str) -> dict[str, Any]:
    """The arguments of ``Netring``."""
    match way:
        case "af_xdp":
            return {"backend": "af_xdp"}
        case "af_xdp, busy polling":
            return {"backend": "af_xdp", "xdp": nr.XdpOptions.latency()}
        case _ if way == BESIDE_SENDER:
            return {"backend": "af_xdp", "xdp": nr.XdpOptions(cpus=(SENDER,))}
        case "tpacket_v3":
            return {"backend": "tpacket_v3"}
        case "tpacket_v3, 1 ms":
            return {"backend": "tpacket_v3", "tpacket": nr.TpacketOptions.latency()}
        case _:
            raise ValueError(way)


async def _hog() -> None:
    while True:
        end = time.monotonic_ns() + _SLICE
        while time.monotonic_ns() < end:
            pass
        await asyncio.sleep(0)


def _put_before_the_loop() -> None:
    """Raise all other threads above this one, if it has a real-time priority."""
    if os.sched_getscheduler(0) != os.SCHED_FIFO:
        return
    own = os.sched_getparam(0).sched_priority
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.native_id:
            os.sched_setscheduler(thread.native_id, os.SCHED_FIFO, os.sched_param(own + 1))


async def _read(events: nr.FlowSubscriber) -> array[int]:
    ages = array("q")
    async for event in events:
        now = time.monotonic_ns()
        if isinstance(event, nr.FlowStarted):
            key = event.flow.key
            low, high = (int.from_bytes(end.packed, "big") for end in (key.orig, key.resp))
            if low == _OTHERS:
                continue
            ages.append((now - (low | (high & 0xFFFFFF) << 32)) & _STAMP)
    return ages


async def _capture(interface: str, way: str, beside: str) -> dict[str, int]:
    flow = nr.FlowOptions(max_flows=1 << 20)
    ring = nr.Netring(interface, buffer=1 << 16, flow=flow, **options(way))
    reading = asyncio.create_task(_read(ring.subscribe(kinds=nr.FlowStarted)))
    async with ring:
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        hog = None
        if beside == "busy" or way == BESIDE_SENDER:
            await asyncio.sleep(0)  # lets the task above start its thread
            _put_before_the_loop()
        if beside == "busy":
            hog = asyncio.create_task(_hog())
        print("ready", flush=True)
        await ended
        if hog is not None:
            hog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hog
    ages, books = sorted(await reading), ring.statistics()
    return {
        "received": books.capture.received,
        "lost": books.capture.lost,
        "heard": len(ages),
        "balanced": books.balanced,
        **{f"p{p}": ages[min(len(ages) - 1, int(len(ages) * p / 100))] for p in (50, 99, 99.9)},
        "max": ages[-1],
    }


def main() -> None:
    """Capture until standard input ends, then print the figures."""
    for name, value in asyncio.run(_capture(*sys.argv[1:])).items():
        print(name, int(value))


if __name__ == "__main__":
    main()
