"""The options of a capture: frozen, and validated here and nowhere else."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from netring_bpf.errors import OptionError

__all__ = ["MAX_QUEUES", "FlowOptions", "TpacketOptions", "XdpMode", "XdpOptions"]

MAX_QUEUES = 64  #: receive queues of one interface that one capture can have


class XdpMode(enum.Enum):
    """How the kernel runs an XDP program."""

    NATIVE = "native"  #: in the driver, before a packet becomes an skb
    GENERIC = "generic"  #: after that, for drivers without XDP: about half the speed


def _check(option: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise OptionError(f"{option}={value!r}: must be {rule}", option=option)


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, slots=True)
class XdpOptions:
    """How AF_XDP is set up.

    ``queues``: the receive queues to capture, all of the interface's when None. A queue left
    out keeps its traffic for the host.
    ``ring_size``: descriptors of the rx ring, a power of two.
    ``chunk_size``: bytes of a UMEM chunk, 2048 or 4096; 256 of them are headroom, so frames
    up to 1792 or 3840 bytes fit and longer ones are counted as ``rx_dropped``.
    ``chunks``: chunks in the UMEM of one queue, a power of two, at least ``ring_size``.
    One queue takes ``chunks * chunk_size`` bytes: 64 MiB by default.
    ``mode``: native or generic XDP only; None for native where the driver can, else generic.
    """

    queues: tuple[int, ...] | None = None
    ring_size: int = 16_384
    chunk_size: int = 2048
    chunks: int = 32_768
    mode: XdpMode | None = None

    def __post_init__(self) -> None:
        if self.queues is not None:
            _check(
                "queues",
                self.queues,
                len(self.queues) == len(set(self.queues)) > 0
                and all(0 <= q < MAX_QUEUES for q in self.queues),
                f"distinct queue numbers from 0 to {MAX_QUEUES - 1}",
            )
        _check(
            "ring_size",
            self.ring_size,
            _power_of_two(self.ring_size) and 64 <= self.ring_size <= 1 << 20,
            "a power of two from 64 to 1048576",
        )
        _check("chunk_size", self.chunk_size, self.chunk_size in (2048, 4096), "2048 or 4096")
        _check(
            "chunks",
            self.chunks,
            _power_of_two(self.chunks) and self.ring_size <= self.chunks <= 1 << 20,
            "a power of two from ring_size to 1048576",
        )


@dataclass(frozen=True, slots=True)
class TpacketOptions:
    """How the TPACKET_V3 ring is set up.

    ``block_size`` in bytes, a power of two and a multiple of 4096; ``block_count`` blocks make
    the ring (64 MiB by default). ``retire_timeout`` in seconds is how long a block that is not
    full waits before it is handed over: the latency of a quiet capture.
    """

    block_size: int = 1 << 20
    block_count: int = 64
    retire_timeout: float = 0.02

    def __post_init__(self) -> None:
        _check(
            "block_size",
            self.block_size,
            _power_of_two(self.block_size) and 1 << 16 <= self.block_size <= 1 << 26,
            "a power of two from 65536 to 67108864",
        )
        _check("block_count", self.block_count, 2 <= self.block_count <= 4096, "from 2 to 4096")
        _check(
            "retire_timeout",
            self.retire_timeout,
            0.001 <= self.retire_timeout <= 1.0,
            "from 0.001 to 1 second",
        )


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How flows are kept. Times are in seconds of packet time.

    ``idle_tcp``, ``idle_udp``, ``idle_other``: a flow with no packet for so long has ended.
    ``close_delay``: a TCP flow whose both sides have closed, or that was reset, stays in the
    table so long to take up its late packets, which would otherwise start a ghost flow.
    ``update_interval``: how often ``FlowUpdated`` reports each live flow; None for never.
    ``max_flows``: the table's cap; the least recently used flow makes room for a new one.
    ``event_slots``: events held between the ring's thread and Python, a power of two.
    """

    idle_tcp: float = 300.0
    idle_udp: float = 60.0
    idle_other: float = 30.0
    close_delay: float = 1.0
    update_interval: float | None = 30.0
    max_flows: int = 100_000
    event_slots: int = 65_536

    def __post_init__(self) -> None:
        for name in ("idle_tcp", "idle_udp", "idle_other"):
            value = getattr(self, name)
            _check(name, value, 0.001 <= value <= 1e6, "from 0.001 to 1000000 seconds")
        _check("close_delay", self.close_delay, 0.0 <= self.close_delay <= 60.0, "0 to 60 seconds")
        if self.update_interval is not None:
            _check(
                "update_interval",
                self.update_interval,
                0.001 <= self.update_interval <= 1e6,
                "from 0.001 to 1000000 seconds, or None",
            )
        _check("max_flows", self.max_flows, 1 <= self.max_flows <= 1 << 26, "1 to 67108864")
        _check(
            "event_slots",
            self.event_slots,
            _power_of_two(self.event_slots) and 1024 <= self.event_slots <= 1 << 22,
            "a power of two from 1024 to 4194304",
        )
