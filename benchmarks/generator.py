"""Traffic made in the kernel, as fast as one CPU can, and counted exactly.

``Generator`` is a process of ``live_frames.py``, in a namespace and pinned on a CPU, that sends out
of an interface, into a veth say. The other end takes such frames only with an XDP program on it,
or with ``ethtool -K … gro on``.
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
    """What to send: ``count`` frames of ``size`` bytes (without the FCS).

    ``flows`` at a time, each of which has a packet in turn, in another order each round. After
    ``per_flow`` packets other flows take their places; 0: the same for ever. TCP connections are
    whole: SYN to the last ACK in ``per_flow`` packets, those without data as short as they are.
    ``rate`` in frames a second; 0: as many as there can be. ``stamp``: in every so many frames the
    source address (and of IPv4 the last three bytes of the destination) is the time, by
    CLOCK_MONOTONIC in ns, and the others are all of one flow; 0: in none.
    ``seconds``: the end, however much was sent.
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
        """How many flows have had a packet when all is sent."""
        rounds, rest = divmod(self.count, self.flows)
        if self.per_flow == 0:
            return self.flows if rounds else rest
        generations, within = divmod(rounds, self.per_flow)
        return self.flows * generations + (self.flows if within else rest)


@dataclass(frozen=True, slots=True)
class Offered:
    """What was sent: so many frames, from the first to the last in so many ns."""

    frames: int
    ns: int

    @property
    def rate(self) -> float:
        """Frames a second."""
        return 1e9 * self.frames / max(self.ns, 1)


class Generator:
    """The process: loaded and ready when entered, sends when ``run()``, once.

    ``favoured``: before all else on its CPU, where nothing else can run while it sends.
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
        """Send, and do not wait for it."""
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
