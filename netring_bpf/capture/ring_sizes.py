"""Chooses the sizes of AF_XDP rings that the options leave open, by link and by memory.

- ``chunk_size``: 2048, or 4096 if a frame of the MTU, with its Ethernet header and a VLAN tag,
  does not fit into the 1792 bytes that a chunk of 2048 carries.
- ``ring_size``: the frames of 10 ms, on a link full of the shortest frames that its queues share
  evenly. It is a power of two from 2048 to 65536. Links of unknown speed get 16384; all virtual
  links are such.
- ``chunks``: ``ring_size`` for links of unknown speed, else twice that, as a card's own ring
  holds chunks too. More chunks would cost speed: all are used in turn, and the CPU's caches and
  TLBs hold only some of them.
- Without CAP_IPC_LOCK the UMEMs of all queues together must stay under the memory-lock limit
  (RLIMIT_MEMLOCK). ``ring_size`` and ``chunks`` are halved until they fit, with a notice.
"""

from __future__ import annotations

import dataclasses
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.ring.options import XdpOptions

if TYPE_CHECKING:
    from netring_bpf.interface import Interface

__all__ = ["RingSizes", "choose_sizes"]

_HEADROOM = 256
_LINK_HEADER = 18  # Ethernet, and one VLAN tag
_SHORTEST_BITS = (64 + 20) * 8  # with preamble and gap
_HOLD = 0.01  # seconds
_UNKNOWN_SPEED = 16_384
_LEAST, _MOST = 2048, 65_536
_LEAST_IN_LITTLE_MEMORY = 64
_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class RingSizes:
    """The sizes of each queue's rings; ``notice`` tells if memory made them smaller."""

    ring_size: int
    chunk_size: int
    chunks: int
    notice: str | None = None

    @property
    def umem(self) -> int:
        """Bytes of one queue's UMEM."""
        return self.chunks * self.chunk_size

    def put_in(self, options: XdpOptions) -> XdpOptions:
        """Return the options with these sizes."""
        return dataclasses.replace(
            options, ring_size=self.ring_size, chunk_size=self.chunk_size, chunks=self.chunks
        )


def choose_sizes(options: XdpOptions, interface: Interface, queues: int) -> RingSizes:
    """Return the sizes for each of ``queues`` queues; those that ``options`` give are kept."""
    speed = interface.speed()
    chosen = _by_link(options, interface.mtu, speed, queues)
    limit = _memory_lock_limit()
    if limit is None:
        return chosen
    return _within(chosen, options, limit, queues, _chunks_for(1, speed))


def _by_link(options: XdpOptions, mtu: int, speed: int | None, queues: int) -> RingSizes:
    fits = mtu + _LINK_HEADER <= 2048 - _HEADROOM
    ring_size = options.ring_size
    if ring_size is None:
        wanted = _UNKNOWN_SPEED
        if speed is not None:
            frames = speed * 1_000_000 / _SHORTEST_BITS * _HOLD / queues
            wanted = min(max(_power_of_two_from(frames), _LEAST), _MOST)
        ring_size = wanted if options.chunks is None else min(wanted, options.chunks)
    return RingSizes(
        ring_size=ring_size,
        chunk_size=options.chunk_size or (2048 if fits else 4096),
        chunks=options.chunks or min(_chunks_for(ring_size, speed), 1 << 20),
    )


def _chunks_for(ring_size: int, speed: int | None) -> int:
    return ring_size if speed is None else 2 * ring_size


def _power_of_two_from(value: float) -> int:
    result = 1
    while result < value:
        result *= 2
    return result


def _within(
    chosen: RingSizes, options: XdpOptions, limit: int, queues: int, chunks_each: int
) -> RingSizes:
    ring_size, chunks = chosen.ring_size, chosen.chunks
    if options.chunks is not None:
        return chosen
    least = options.ring_size or _LEAST_IN_LITTLE_MEMORY
    while chunks * chosen.chunk_size * queues > limit and chunks > least:
        chunks //= 2
        ring_size = min(ring_size, chunks)
    if options.ring_size is None:
        ring_size = min(ring_size, max(chunks // chunks_each, _LEAST_IN_LITTLE_MEMORY))
    if chunks == chosen.chunks:
        return chosen
    notice = (
        f"rings of {ring_size} descriptors and {chunks} chunks a queue instead of "
        f"{chosen.ring_size} and {chosen.chunks}: the memory-lock limit is {limit >> 10} KiB; "
        "raise it (ulimit -l, systemd: LimitMEMLOCK=) or give CAP_IPC_LOCK"
    )
    return RingSizes(ring_size, chosen.chunk_size, chunks, notice)


def _memory_lock_limit() -> int | None:
    """Return the limit in bytes; None without one, or where CAP_IPC_LOCK lifts it."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return None if int(value, 16) >> _CAP_IPC_LOCK & 1 else limit
    return limit
