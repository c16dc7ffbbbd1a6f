"""The demo's network: a client and a server on a switch with a mirror port.

The switch is a bridge that learns no addresses (``ageing_time 0``), so it repeats every frame on
every port. Its port ``span`` stands for the SPAN port of a real switch, and the peer ``tap`` is
the capture port. Everything is in anonymous namespaces, which end with this process.
"""

from __future__ import annotations

import contextlib
import json
from typing import Self

from actors import CLIENT, PREFIX, SERVER

from tests.support.lab import Namespace

CAPTURE_PORT = "tap"
_SPAN = "span"


class Network:
    """Three namespaces: ``switch`` (with the capture port), ``client`` and ``server``."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.switch = stack.enter_context(Namespace())
            self.client = stack.enter_context(Namespace())
            self.server = stack.enter_context(Namespace())
            self._build()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        for namespace in (self.switch, self.client, self.server):
            # Without IPv6 there are no router solicitations among the counted frames.
            namespace.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"])
        switch = self.switch
        switch.ip("link add br0 type bridge ageing_time 0 stp_state 0 mcast_snooping 0")
        switch.ip("link set br0 up")
        for host, port, address in (
            (self.client, "port1", CLIENT),
            (self.server, "port2", SERVER),
        ):
            switch.ip(f"link add {port} type veth peer name eth0 netns {host.pid}")
            switch.ip(f"link set {port} master br0 up")
            host.ip("link set lo up")
            host.ip(f"addr add {address}/{PREFIX} dev eth0")
            host.ip("link set eth0 up")
        switch.ip(f"link add {_SPAN} type veth peer name {CAPTURE_PORT}")
        switch.ip(f"link set {_SPAN} up")
        switch.ip(f"link set {CAPTURE_PORT} up")

    def mirror(self, on: bool) -> None:
        """Connect the mirror port to the switch, or disconnect it and end the mirroring."""
        self.switch.ip(f"link set {_SPAN} {'master br0' if on else 'nomaster'}")

    def mirrored(self) -> int:
        """Return the driver's count of the frames that left the mirror port."""
        shown = json.loads(self.switch.ip(f"-j -s link show {_SPAN}"))
        return int(shown[0]["stats64"]["tx"]["packets"])
