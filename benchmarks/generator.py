"""Traffic made in the kernel, as fast as one CPU can make it, and counted exactly.

``Generator`` runs ``live_frames.py`` in a namespace, pinned on a CPU, and sends out of an interface
such as a veth. The other end takes such frames only with an XDP program on it, or with
``ethtool -K … gro on``.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from benchmarks.processor import SENDER, favour, python_on

if TYPE_CHECKING:
    from tests.support.lab import Namespace

__all__ = ["Generator", "Load", "Offered"]

_MINIMUM = {("udp", False): 60, ("udp", True): 62, ("tcp", False): 60, ("tcp", True): 74}


@dataclass(frozen=True, slots=True)
class Load:
    """A load of ``count`` frames of ``size`` bytes (without the FCS).

    ``flows`` run at a time. Each has one packet a round, and the order differs from round to round.
    After ``per_flow`` packets other flows take their places; 0 keeps the same flows. A TCP
    connection is whole, from the SYN to the last ACK, in ``per_flow`` packets; packets without data
    keep their natural length.

    ``rate`` is in frames a second; 0 sends as fast as possible. With ``stamp``, one in so many
    frames carries the time (CLOCK_MONOTONIC, in ns) in its source address and, for IPv4, the last
    three bytes of its destination, and all others belong to one flow; 0 stamps none. Sending stops
    after ``seconds``, even with frames left.
    """

    count: int
    size: int = 60
    flows: int = 1
    per_flow: int = 0
    protocol: str = "udp"
    ipv6: bool = False
    rate: int = 0
    stamp: int = 0
    seconds: float = 30.0

    def __post_init__(self) -> None:
        least = _MINIMUM[self.protocol, self.ipv6]
        if not 0 < self.count < 1 << 32 or not 0 < self.flows < 1 << 24:
            raise ValueError(f"{self}: count or flows")
        if not least <= self.size <= 1514 or self.rate < 0 or not 0 < self.seconds <= 60:
            raise ValueError(f"{self}: size (from {least} to 1514), rate or seconds")
        if self.protocol == "tcp" and self.per_flow < 6:
            raise ValueError(f"{self}: a TCP connection has at least 6 packets")

    @property
    def started(self) -> int:
        """The number of flows with at least one packet, once all is sent."""
        rounds, rest = divmod(self.count, self.flows)
        if self.per_flow == 0:
            return self.flows if rounds else rest
        generations, within = divmod(rounds, self.per_flow)
        return self.flows * generations + (self.flows if within else rest)


@dataclass(frozen=True, slots=True)
class Offered:
    """The frames that were sent, and the ns from the first to the last."""

    frames: int
    ns: int

    @property
    def rate(self) -> float:
        """Frames a second."""
        return 1e9 * self.frames / max(self.ns, 1)


class Generator:
    """The process. It is ready when constructed and sends once, by ``run()``.

    A ``favoured`` generator runs before all else on its CPU, so that nothing else runs there while
    it sends.
    """

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        load: Load,
        *,
        cpu: int = SENDER,
        favoured: bool = False,
    ) -> None:
        self.load = load
        argument = json.dumps(dataclasses.asdict(load))
        self._process = namespace.popen(
            python_on(cpu, "benchmarks.live_frames", interface, argument),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        if favoured:
            favour(self._process.pid)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the generator did not start")

    def start(self) -> None:
        """Start to send."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def wait(self) -> Offered:
        """Wait until all is sent."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the generator ended before its time")
        return Offered(**json.loads(line))

    def run(self) -> Offered:
        """Send, and wait until all is sent."""
        self.start()
        return self.wait()

    def close(self) -> None:
        """End the process. Idempotent."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
