"""Rejected frames still reach the host; matching frames are the capture's alone."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.support.frames import udp
from tests.support.lab import Namespace, link
from tests.support.rig import PORT, SENDER, WAYS, assert_balanced, capture, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

MATCHING, REJECTED = 700, 1300
HOST = "10.9.0.2"
FILTER = "udp dst port 5001"


def received_by_host(namespace: Namespace, port: int) -> Callable[[], list[int]]:
    """A socket of the host's own on the port; what it holds when it is asked."""
    with namespace.enter():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sock.bind((HOST, port))

    def numbers() -> list[int]:
        found = []
        try:
            while True:
                found.append(int.from_bytes(sock.recv(64)[:4], "big"))
        except BlockingIOError:
            sock.close()
            return found

    return numbers


@pytest.mark.parametrize("way", WAYS)
def test_rejected_frames_reach_the_host_and_matching_ones_do_not(way: str) -> None:
    with wire() as namespace:
        namespace.ip(f"addr add {HOST}/24 dev {PORT}")
        mac = link(namespace, PORT)["address"]
        matched = received_by_host(namespace, 5001)
        rejected = received_by_host(namespace, 5002)

        def send() -> int:
            wanted = [
                udp("10.9.0.1", HOST, 4000, 5001, n.to_bytes(4, "big"), dmac=mac)
                for n in range(MATCHING)
            ]
            noise = [
                udp("10.9.0.1", HOST, 4000, 5002, n.to_bytes(4, "big"), dmac=mac)
                for n in range(REJECTED)
            ]
            return send_frames(namespace, SENDER, wanted + noise)

        outcome = capture(namespace, WAYS[way], send, filter=FILTER, steal=True)
        books = outcome.statistics.capture
        redirects = WAYS[way].backend == "af_xdp"
        assert outcome.offered == MATCHING + REJECTED
        assert books.received == MATCHING
        assert books.redirected == (MATCHING if redirects else 0)
        if redirects:
            assert [(q.seen, q.not_matched, q.no_socket) for q in books.queues] == [
                (MATCHING + REJECTED, REJECTED, 0)
            ]
        assert rejected() == list(range(REJECTED))
        assert matched() == ([] if redirects else list(range(MATCHING)))
        assert_balanced(outcome.statistics)
