"""Aggregates of live captures: their sums are those of the flows, whatever the load."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from netring_bpf import (
    Event,
    FlowOptions,
    LinkDown,
    LinkUp,
    Netring,
    NetringStatistics,
    StatsOptions,
    StatsUpdated,
    TpacketOptions,
    Traffic,
    XdpMode,
    XdpOptions,
)
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.lab import Namespace, VethPair
from tests.support.rig import PORT, SENDER, WAYS, Outcome, assert_balanced, capture, wire
from tests.support.sender import send_frames
from tests.support.stats import flow_rows, flow_traffic, rows_of, stats_of, sum_of_tops, traffic_of

pytestmark = pytest.mark.requires("root", "netns", "bcc")

OPTIONS = StatsOptions(interval=0.1, top=1000)


def conversations(count: int) -> list[bytes]:
    """Both directions of flows of all kinds."""
    frames = []
    for n in range(count):
        host, far = f"10.0.{n % 7}.{n % 250 + 1}", f"203.0.{n % 3}.1"
        frames += [
            udp(host, far, 1000 + n, 53),
            udp(far, host, 53, 1000 + n),
            tcp(host, "10.9.9.9", 2000 + n, 443),
            icmp_echo(host, far, n, 1),
        ]
    return frames


def assert_sums_are_those_of_the_flows(outcome: Outcome) -> None:
    stats = stats_of(outcome.events)
    assert_balanced(outcome.statistics)
    assert traffic_of(stats) == stats[-1].since_start == flow_traffic(outcome.events)
    rows = flow_rows(outcome.events)
    assert sum_of_tops(stats) == rows
    assert rows_of(stats[-1].top_since_start) == rows
    books = outcome.statistics.capture
    assert sum(event.health.received for event in stats) == books.received
    assert sum(event.health.lost for event in stats) == books.lost
    assert sum(event.health.events_lost for event in stats) == books.events_lost
    assert all(event.health.balanced for event in stats)


@pytest.mark.parametrize("way", WAYS)
def test_sums_over_intervals_are_those_of_the_flows(way: str) -> None:
    frames = conversations(60)
    with wire() as namespace:
        outcome = capture(
            namespace, WAYS[way], lambda: send_frames(namespace, SENDER, frames * 200),
            stats=OPTIONS,
        )  # fmt: skip
    assert_sums_are_those_of_the_flows(outcome)
    assert outcome.statistics.capture.received == outcome.offered
    assert len(stats_of(outcome.events)) > 1


@pytest.mark.parametrize("way", ["native", "tpacket_v3"])
def test_threads_are_summed_up_as_one(way: str) -> None:
    frames = conversations(80)
    options: dict[str, Any] = (
        {"tpacket": TpacketOptions(threads=2)}
        if way == "tpacket_v3"
        else {"xdp": XdpOptions(mode=XdpMode.NATIVE, threads=2, symmetric_rss=True)}
    )
    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT, queues=2)
        outcome = capture(
            namespace, WAYS[way], lambda: send_frames(namespace, SENDER, frames * 150),
            stats=OPTIONS, **options,
        )  # fmt: skip
    assert_sums_are_those_of_the_flows(outcome)
    assert {(event.flow.id - 1) % 2 for event in outcome.ended()} == {0, 1}


def test_a_full_table_of_short_flows_loses_no_sum() -> None:
    frames = conversations(300)
    with wire() as namespace:
        outcome = capture(
            namespace, WAYS["tpacket_v3"], lambda: send_frames(namespace, SENDER, frames * 30),
            stats=OPTIONS, flow=FlowOptions(max_flows=50),
        )  # fmt: skip
    assert_sums_are_those_of_the_flows(outcome)
    stats = stats_of(outcome.events)
    evicted = outcome.statistics.capture.flows.ended["evicted"]
    assert sum(event.health.flows_evicted for event in stats) == evicted > 0


def test_a_consumer_that_sleeps_makes_an_interval_longer_and_loses_nothing() -> None:
    frames = conversations(40)

    async def run(namespace: Namespace) -> tuple[list[Event], NetringStatistics]:
        events: list[Event] = []
        ring = Netring(
            PORT, netns=namespace.path, backend="tpacket_v3", stats=OPTIONS, buffer=1 << 20
        )
        async with ring:
            subscriber = ring.subscribe()
            sending = asyncio.create_task(
                asyncio.to_thread(send_frames, namespace, SENDER, frames * 400)
            )
            while not sending.done():
                await asyncio.sleep(0.01)
                time.sleep(0.35)  # the loop is busy elsewhere
        async for event in subscriber:
            events.append(event)
        return events, ring.statistics()

    with wire() as namespace:
        events, books = asyncio.run(run(namespace))
    assert_sums_are_those_of_the_flows(Outcome(0, events, books))
    longest = max(event.seconds for event in stats_of(events))
    assert longest > 2 * OPTIONS.interval


def test_devices_have_their_names_counts_and_prefixes() -> None:
    frames = conversations(30)
    with wire() as namespace:
        outcome = capture(
            namespace, WAYS["tpacket_v3"], lambda: send_frames(namespace, SENDER, frames * 50),
            stats=OPTIONS, devices=True,
        )  # fmt: skip
    assert_sums_are_those_of_the_flows(outcome)
    last = stats_of(outcome.events)[-1]
    assert last.health.devices == len({row.key for row in last.top_since_start.devices})


def test_an_idle_interface_has_aggregates_each_interval_too() -> None:
    async def run(namespace: Namespace) -> list[StatsUpdated]:
        ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3", stats=OPTIONS)
        found: list[StatsUpdated] = []
        async with ring:
            async for event in ring.subscribe(kinds=StatsUpdated):
                assert isinstance(event, StatsUpdated)
                found.append(event)
                if len(found) == 5:
                    break
            assert ring.stats == found[-1]
        return found

    with wire() as namespace:
        found = asyncio.run(run(namespace))
    assert [event.number for event in found] == [1, 2, 3, 4, 5]
    assert all(later.start == earlier.ts for earlier, later in itertools.pairwise(found))
    assert {event.ts % 100_000_000 for event in found} == {0}
    assert {event.traffic for event in found} == {Traffic()}


def test_a_link_that_comes_back_counts_as_a_restart() -> None:
    async def run(namespace: Namespace) -> StatsUpdated | None:
        ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3", stats=OPTIONS)
        async with ring:
            events = ring.subscribe(kinds=(LinkDown, LinkUp, StatsUpdated))
            await asyncio.to_thread(namespace.ip, f"link set {SENDER} down")
            async for event in events:
                if isinstance(event, LinkDown):
                    await asyncio.to_thread(namespace.ip, f"link set {SENDER} up")
                elif isinstance(event, LinkUp):
                    break
        return ring.stats

    with wire() as namespace:
        last = asyncio.run(run(namespace))
    assert last is not None
    assert last.health.restarts == 1
