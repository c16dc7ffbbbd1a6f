"""The options of each backend's rings: frozen, and validated here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias, TypedDict, TypeVar, Unpack, get_args

from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.errors import OptionError
from netring_bpf.ring.check import check, power_of_two

__all__ = [
    "MAX_QUEUES",
    "MAX_THREADS",
    "PRESETS",
    "BusyPoll",
    "Preset",
    "TpacketChanges",
    "TpacketOptions",
    "XdpChanges",
    "XdpMode",
    "XdpOptions",
]

MAX_QUEUES: Final = 64  #: receive queues of one interface in one capture
MAX_THREADS: Final = 64  #: of one capture

Preset: TypeAlias = Literal["default", "throughput", "latency", "small-memory"]
PRESETS: Final[tuple[Preset, ...]] = get_args(Preset)
_T = TypeVar("_T")


def _preset(name: Preset, presets: Mapping[Preset, _T]) -> _T:
    check("preset", name, name in PRESETS, f"one of {', '.join(PRESETS)}")
    return presets[name]


def _check_threads(threads: int, cpus: tuple[int, ...] | None) -> None:
    check("threads", threads, 1 <= threads <= MAX_THREADS, f"from 1 to {MAX_THREADS}")
    check(
        "cpus",
        cpus,
        cpus is None or (len(cpus) == threads and all(cpu >= 0 for cpu in cpus)),
        f"the number of a CPU for each thread, of which there are {threads}",
    )


@dataclass(frozen=True, slots=True)
class BusyPoll:
    """The reader's thread fetches frames from the driver itself, instead of by interrupts.

    ``microseconds``: the thread keeps asking the driver this long after the latest frame, before
    it sleeps (SO_BUSY_POLL); it can use up a whole CPU. ``budget``: the driver takes at most this
    many frames in one go (SO_BUSY_POLL_BUDGET). Needs CAP_NET_ADMIN and Linux 5.11.
    """

    microseconds: int = 200
    budget: int = 64

    def __post_init__(self) -> None:
        check(
            "microseconds", self.microseconds, 1 <= self.microseconds <= 1_000_000,
            "from 1 to 1000000",
        )  # fmt: skip
        check("budget", self.budget, 1 <= self.budget <= 512, "from 1 to 512")


class XdpChanges(TypedDict, total=False):
    """The fields of ``XdpOptions``, as keywords of its presets."""

    queues: tuple[int, ...] | None
    ring_size: int | None
    chunk_size: int | None
    chunks: int | None
    mode: XdpMode | None
    threads: int
    symmetric_rss: bool
    cpus: tuple[int, ...] | None
    huge_pages: bool
    busy_poll: BusyPoll | None


_XDP_PRESETS: Final[dict[Preset, XdpChanges]] = {
    "default": {},
    "throughput": {"ring_size": 32_768, "huge_pages": True},
    "latency": {"busy_poll": BusyPoll()},
    "small-memory": {"ring_size": 1024, "chunks": 2048, "chunk_size": 2048},
}


@dataclass(frozen=True, slots=True)
class XdpOptions:
    """Options of AF_XDP.

    ``queues``: the receive queues to capture; None for all. A queue left out keeps its traffic
    for the host.
    ``ring_size``: descriptors of the rx ring, a power of two.
    ``chunk_size``: bytes of a UMEM chunk, 2048 or 4096. 256 of them are headroom, so frames up to
    1792 or 3840 bytes fit; longer ones are counted as ``rx_dropped``.
    ``chunks``: chunks in the UMEM of one queue, a power of two, at least ``ring_size``. One queue
    takes ``chunks * chunk_size`` bytes. Each of the three that is None is chosen by the link's
    speed, its MTU and the memory-lock limit (docs/tuning.md has the rule). A virtual link with an
    MTU of 1500 gets 16384, 2048 and 16384, which take 32 MiB. ``Netring.xdp`` has the values.
    ``mode``: native or generic XDP only; None for native if the driver has it, else generic.

    ``threads``: the number of threads that share the queues, each with a flow table of its own.
    Both directions of a flow must come to one thread, so several threads need ``symmetric_rss``:
    your word that the card sends both directions to one queue.
    ``cpus``: the CPU of each thread. A fallback to TPACKET_V3 runs on them too, if it has as many
    threads and no ``cpus`` of its own. ``huge_pages``: make the UMEM of 2 MiB pages, if the kernel
    has enough (``vm.nr_hugepages``); else of normal ones, with one of ``Netring.notices``.
    ``busy_poll``: see ``BusyPoll``.
    """

    queues: tuple[int, ...] | None = None
    ring_size: int | None = None
    chunk_size: int | None = None
    chunks: int | None = None
    mode: XdpMode | None = None
    threads: int = 1
    symmetric_rss: bool = False
    cpus: tuple[int, ...] | None = None
    huge_pages: bool = False
    busy_poll: BusyPoll | None = None

    @classmethod
    def preset(cls, name: Preset, **changes: Unpack[XdpChanges]) -> Self:
        """Return the preset of this name, with ``changes``. Raises ``OptionError``."""
        values: XdpChanges = {**_preset(name, _XDP_PRESETS), **changes}
        return cls(**values)

    @classmethod
    def throughput(cls, **changes: Unpack[XdpChanges]) -> Self:
        """For many frames: ``ring_size=32_768, huge_pages=True``.

        The ring holds more frames while the thread is kept from running. A queue takes 64 MiB of
        memory on a virtual link and 128 MiB on others, with chunks of 2048 bytes.
        """
        return cls.preset("throughput", **changes)

    @classmethod
    def latency(cls, **changes: Unpack[XdpChanges]) -> Self:
        """For early events, at the cost of a CPU: ``busy_poll=BusyPoll()``."""
        return cls.preset("latency", **changes)

    @classmethod
    def small_memory(cls, **changes: Unpack[XdpChanges]) -> Self:
        """4 MiB a queue: ``ring_size=1024, chunks=2048, chunk_size=2048``.

        A thread that is kept from running for a millisecond loses frames at rates above a million
        a second.
        """
        return cls.preset("small-memory", **changes)

    def __post_init__(self) -> None:
        if self.queues is not None:
            check(
                "queues",
                self.queues,
                len(self.queues) == len(set(self.queues)) > 0
                and all(0 <= q < MAX_QUEUES for q in self.queues),
                f"distinct queue numbers from 0 to {MAX_QUEUES - 1}",
            )
        self._check_sizes()
        _check_threads(self.threads, self.cpus)
        if self.threads > 1 and not self.symmetric_rss:
            raise OptionError(
                f"threads={self.threads!r}: must be 1 without symmetric_rss=True: each thread has "
                "a flow table of its own for its queues, and by default a card spreads the two "
                "directions of a flow over different queues, which would give two halves of a "
                "flow; make it symmetric first (`ethtool -X DEV xfrm symmetric-xor`, or a key of "
                "repeated bytes: `ethtool -X DEV hkey 6d:5a:6d:5a:…`), then say symmetric_rss=True",
                option="threads",
            )

    def _check_sizes(self) -> None:
        ring_size, chunks = self.ring_size, self.chunks
        check(
            "ring_size",
            ring_size,
            ring_size is None or (power_of_two(ring_size) and 64 <= ring_size <= 1 << 20),
            "a power of two from 64 to 1048576",
        )
        check("chunk_size", self.chunk_size, self.chunk_size in {None, 2048, 4096}, "2048 or 4096")
        check(
            "chunks",
            chunks,
            chunks is None or (power_of_two(chunks) and (ring_size or 64) <= chunks <= 1 << 20),
            "a power of two from ring_size to 1048576",
        )


class TpacketChanges(TypedDict, total=False):
    """The fields of ``TpacketOptions``, as keywords of its presets."""

    block_size: int
    block_count: int
    retire_timeout: float
    threads: int
    cpus: tuple[int, ...] | None


_TPACKET_PRESETS: Final[dict[Preset, TpacketChanges]] = {
    "default": {},
    "throughput": {"block_count": 128, "retire_timeout": 0.05},
    "latency": {"block_size": 1 << 16, "block_count": 256, "retire_timeout": 0.001},
    "small-memory": {"block_size": 1 << 18, "block_count": 16},
}


@dataclass(frozen=True, slots=True)
class TpacketOptions:
    """Options of TPACKET_V3.

    ``block_size``: bytes of a block, a power of two from 65536. ``block_count``: blocks of the
    ring, which takes 64 MiB by default. ``retire_timeout``: seconds after which the kernel hands
    over a block that is not full: the latency of a quiet capture.

    ``threads``: the number of sockets that share the frames (PACKET_FANOUT_HASH), each with such a
    ring, a thread and a flow table. The kernel's hash is the same for both directions of a flow;
    docs/tuning.md lists the flows that it splits. ``cpus``: the CPU of each thread.
    """

    block_size: int = 1 << 20
    block_count: int = 64
    retire_timeout: float = 0.02
    threads: int = 1
    cpus: tuple[int, ...] | None = None

    @classmethod
    def preset(cls, name: Preset, **changes: Unpack[TpacketChanges]) -> Self:
        """Return the preset of this name, with ``changes``. Raises ``OptionError``."""
        values: TpacketChanges = {**_preset(name, _TPACKET_PRESETS), **changes}
        return cls(**values)

    @classmethod
    def throughput(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """For many frames: ``block_size=1 << 20, block_count=128, retire_timeout=0.05``.

        The ring holds more frames while the thread is kept from running. It takes 128 MiB of
        memory a thread.
        """
        return cls.preset("throughput", **changes)

    @classmethod
    def latency(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """For early events: ``block_size=1 << 16, block_count=256, retire_timeout=0.001``.

        The kernel hands over a block after a millisecond, so it and the thread wake up more often.
        """
        return cls.preset("latency", **changes)

    @classmethod
    def small_memory(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """4 MiB a thread: ``block_size=1 << 18, block_count=16``."""
        return cls.preset("small-memory", **changes)

    def __post_init__(self) -> None:
        check(
            "block_size",
            self.block_size,
            power_of_two(self.block_size) and 1 << 16 <= self.block_size <= 1 << 26,
            "a power of two from 65536 to 67108864",
        )
        check("block_count", self.block_count, 2 <= self.block_count <= 4096, "from 2 to 4096")
        check(
            "retire_timeout",
            self.retire_timeout,
            0.001 <= self.retire_timeout <= 1.0,
            "from 0.001 to 1 second",
        )
        _check_threads(self.threads, self.cpus)
