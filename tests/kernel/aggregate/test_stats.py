"""Aggregates of live captures: their sums are those of the flows, whatever the load."""

from __future__ import annotations

import pytest

from netring_bpf import StatsOptions
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.rig import SENDER, WAYS, Outcome, assert_balanced, capture, wire
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
