"""The filter is swapped again and again while frames pour in: nothing passes in between."""

from __future__ import annotations

import asyncio
import time

import pytest

from netring_bpf import FlowEnded, FlowOptions, Netring
from tests.support.lab import Namespace
from tests.support.rig import PORT, WAYS, Way, assert_balanced, start_flood, stop_flood, wire
from tests.support.sizes import size

pytestmark = [
    pytest.mark.requires("root", "netns", "bcc"),
]

SWAPS = {"native": size(16, 1000), "generic": size(16, 200), "tpacket_v3": size(16, 1000)}
RATE = 700_000  # packets a second
PORTS = tuple(range(5001, 5009))
NOISE = 5009
FILTERS = [f"udp dst port {port}" for port in PORTS]
TICK = 1 << 22  # ns: what the frames say of the time they were sent
# TPACKET_V3 has a frame's time from a moment before its filter. A filter comes back after seven
# others, so its times stay far apart from each other by comparison.
SLACK = 20_000_000  # ns
DWELL = size(0.05, 0.01)


async def swap_under_load(namespace: Namespace, way: Way, swaps: int) -> None:
    ring = Netring(
        PORT,
        netns=namespace.path,
        filter=FILTERS[0],
        flow=FlowOptions(max_flows=1 << 20, update_interval=None),
        buffer=1 << 20,
        **way.options(),
    )
    # When each filter may have been in force: from the call that set it to the end of the next.
    begun = [time.monotonic_ns()]
    ended = [begun[0]]
    async with ring:
        subscriber = ring.subscribe()
        flood = await asyncio.to_thread(start_flood, namespace, RATE, (*PORTS, NOISE))
        try:
            for number in range(1, swaps + 1):
                await asyncio.sleep(DWELL)  # the load, for which there is nothing to wait
                begun.append(time.monotonic_ns())
                await ring.set_filter(FILTERS[number % len(FILTERS)])
                ended.append(time.monotonic_ns())
            await asyncio.sleep(DWELL)
        finally:
            offered, took = await asyncio.to_thread(stop_flood, namespace, flood)
        stopped = time.monotonic_ns()
    ended.append(stopped)
    flows = [event.flow async for event in subscriber if isinstance(event, FlowEnded)]

    books = ring.statistics()
    assert_balanced(books)
    assert books.capture.not_keyed == dict.fromkeys(books.capture.not_keyed, 0)
    if way.backend == "af_xdp":
        assert books.capture.seen == offered
    assert {flow.key.resp.port for flow in flows} == set(PORTS)
    high = begun[0] & ~((TICK << 32) - 1)
    offset = time.time_ns() - time.monotonic_ns()
    # Between these two the filter let a flow's frames pass, however long they had to wait for it.
    passed = [
        (
            high + int.from_bytes(flow.key.orig.packed, "big") * TICK,
            flow.last - offset,
            flow.key.resp.port,
        )
        for flow in flows
    ]

    def outside(shift: int) -> int:
        """Flows that passed while their filter, or the one so many places on, was not in force."""
        count = 0
        for sent, received, port in passed:
            first = (PORTS.index(port) + shift) % len(PORTS)
            count += not any(
                begun[n] - SLACK <= received and sent <= ended[n + 1] + SLACK
                for n in range(first, swaps + 1, len(PORTS))
            )
        return count

    assert outside(0) == 0
    assert outside(len(PORTS) // 2) > 0  # the figure above could be another
    print(f"{swaps} swaps, {offered * 1e9 / took:,.0f} packets/s, {len(flows)} flows")


@pytest.mark.parametrize("way", WAYS)
def test_every_frame_matches_a_filter_that_was_in_force_and_noise_never_comes(way: str) -> None:
    with wire() as namespace:
        namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        asyncio.run(swap_under_load(namespace, WAYS[way], SWAPS[way]))
