"""Hosts on a hub that repeats each frame to all, and taps that hear the whole of it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from tests.support.lab import Namespace, VethPair

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = "eth0"  # of each host


class Hub:
    """A hub with hosts and taps, each in a namespace of its own. A context manager.

    A host speaks ARP and neighbour discovery. Its frames leave it as they are on a real wire: no
    longer than 1514 bytes, with their checksums.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._middle = self._stack.enter_context(Namespace())
        self._ports = 0
        try:
            # Without ageing a bridge learns nothing, and sends each frame to all of its ports.
            self._middle.ip("link add hub type bridge ageing_time 0 mcast_snooping 0")
            self._ipv6(self._middle, "hub", "disable_ipv6", 1)
        except BaseException:
            self.close()
            raise

    def host(self, *addresses: str) -> Namespace:
        """Connect a host with these addresses (``"10.0.0.1/24"``)."""
        host = self._connected(PORT)
        host.ip("link set dev lo up")
        host.run(["ethtool", "-K", PORT, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])
        self._ipv6(host, PORT, "accept_dad", 0)
        self._ipv6(host, PORT, "router_solicitations", 0)
        self._ipv6(host, PORT, "disable_ipv6", 0)
        host.ip(f"link set dev {PORT} arp on")
        for address in addresses:
            host.ip(f"addr add {address} dev {PORT}{' nodad' if ':' in address else ''}")
        return host

    def tap(self, ifname: str) -> Namespace:
        """Connect an interface of this name that sends nothing, to capture on."""
        return self._connected(ifname)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Repeat frames until the block ends; before and behind it none comes to the taps."""
        self._middle.ip("link set dev hub up")
        try:
            yield
        finally:
            self._middle.ip("link set dev hub down")

    def close(self) -> None:
        """Let all of it go."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, ifname: str) -> Namespace:
        namespace = self._stack.enter_context(Namespace())
        self._ports += 1
        port = f"p{self._ports}"
        VethPair(namespace, ifname, self._middle, port)
        self._middle.ip(f"link set dev {port} master hub")
        return namespace

    @staticmethod
    def _ipv6(namespace: Namespace, ifname: str, setting: str, value: int) -> None:
        path = f"/proc/sys/net/ipv6/conf/{ifname}/{setting}"
        namespace.run(["sh", "-c", f"echo {value} >{path}"])


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """Run this thread, and the processes that it starts, on one CPU.

    Frames from different CPUs may overtake one another on the way to a tap: it would hear some
    answers before their questions.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
