"""Several receive queues: all by default, and a queue without a socket stays the host's."""

from __future__ import annotations

import pytest

from netring_bpf import FlowOptions, Netring, XdpOptions
from tests.support.frames import udp
from tests.support.lab import Namespace, VethPair
from tests.support.rig import PORT, SENDER, WAYS, Way, assert_balanced, capture
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

QUEUES, FLOWS, EACH = 4, 400, 10
FRAMES = [udp(f"10.0.{n >> 8}.{n & 255}", "10.1.0.1", n, 53) for n in range(FLOWS)] * EACH
SMALL = XdpOptions(ring_size=4096, chunks=8192)


def wide(namespace: Namespace) -> None:
    VethPair(namespace, SENDER, namespace, PORT, queues=QUEUES)


def test_all_queues_feed_one_table() -> None:
    with Namespace() as namespace:
        wide(namespace)
        outcome = capture(
            namespace,
            Way("af_xdp", "native"),
            lambda: send_frames(namespace, SENDER, FRAMES),
            xdp=SMALL,
        )
        assert outcome.offered == FLOWS * EACH
        flows = outcome.flows()
        assert len(flows) == FLOWS
        assert {counters[0] for counters in flows.values()} == {EACH}
        queues = outcome.statistics.capture.queues
        assert sum(q.redirected for q in queues) == FLOWS * EACH
        assert sum(q.no_socket for q in queues) == 0
        assert_balanced(outcome.statistics)


def test_a_queue_left_out_goes_on_to_the_host_and_is_counted() -> None:
    with Namespace() as namespace:
        wide(namespace)
        # The sender's queue is its CPU's: pin nothing, and let the counters tell which it was.
        every = capture(
            namespace,
            Way("af_xdp", "native"),
            lambda: send_frames(namespace, SENDER, FRAMES),
            xdp=SMALL,
        ).statistics.capture.queues
        assert sum(q.seen for q in every) == FLOWS * EACH
        left_out = capture(
            namespace,
            Way("af_xdp", "native"),
            lambda: send_frames(namespace, SENDER, FRAMES),
            xdp=XdpOptions(queues=(QUEUES - 1,), ring_size=4096, chunks=8192),
        ).statistics
        books = left_out.capture
        for queue in books.queues:
            other = queue.queue != QUEUES - 1
            assert queue.no_socket == (queue.seen if other else 0)
            assert queue.redirected == (0 if other else queue.seen)
        assert sum(q.seen for q in books.queues) == FLOWS * EACH
        assert books.passed == FLOWS * EACH - books.received
        assert_balanced(left_out)


@pytest.mark.parametrize("way", WAYS)
def test_a_full_table_evicts_the_least_recently_used_and_says_so(way: str) -> None:
    with Namespace() as namespace:
        wide(namespace)
        outcome = capture(
            namespace,
            WAYS[way],
            lambda: send_frames(namespace, SENDER, FRAMES[:FLOWS]),
            flow=FlowOptions(max_flows=100),
        )
        ends = outcome.statistics.capture.flows.ended
        assert ends["evicted"] == FLOWS - 100
        assert ends["shutdown"] == 100
        assert_balanced(outcome.statistics)


def test_a_netring_is_used_once() -> None:
    ring = Netring("nosuch0")
    assert ring.broadcast.receiver_count == 0
