"""The options of a capture: frozen, and validated here and nowhere else."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Literal, Self, TypedDict, Unpack

from netring_bpf.errors import OptionError
from netring_bpf.records import FlowEnded, FlowEstablished, FlowEvent, FlowStarted, FlowUpdated

__all__ = [
    "MAX_QUEUES",
    "MAX_THREADS",
    "BusyPoll",
    "FlowKey",
    "FlowOptions",
    "PortTimeout",
    "TpacketChanges",
    "TpacketOptions",
    "XdpChanges",
    "XdpMode",
    "XdpOptions",
]

MAX_QUEUES = 64  #: receive queues of one interface that one capture can have
MAX_THREADS = 64  #: of one capture
MAX_PORT_TIMEOUTS = 16  #: NR_MAX_PORT_TIMEOUTS of api.h
_SECONDS = "from 0.001 to 1000000 seconds"
_PROTOCOLS = {"tcp": 6, "udp": 17}
_EVENTS = (FlowStarted, FlowEstablished, FlowUpdated, FlowEnded)


class XdpMode(enum.Enum):
    """How the kernel runs an XDP program."""

    NATIVE = "native"  #: in the driver, before a packet becomes an skb
    GENERIC = "generic"  #: after that, for drivers without XDP: about half the speed


def _check(option: str, value: object, holds: bool, rule: str) -> None:
    if not holds:
        raise OptionError(f"{option}={value!r}: must be {rule}", option=option)


def _check_threads(threads: int, cpus: tuple[int, ...] | None) -> None:
    _check("threads", threads, 1 <= threads <= MAX_THREADS, f"from 1 to {MAX_THREADS}")
    _check(
        "cpus",
        cpus,
        cpus is None or (len(cpus) == threads and all(cpu >= 0 for cpu in cpus)),
        f"the number of a CPU for each thread, of which there are {threads}",
    )


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, slots=True)
class BusyPoll:
    """Frames are fetched by the reader's thread itself, instead of by interrupts.

    ``microseconds``: for so long after the latest frame the thread keeps asking the driver,
    before it sleeps (SO_BUSY_POLL); up to a whole CPU is spent on it. ``budget``: frames that the
    driver takes in one go (SO_BUSY_POLL_BUDGET). Needs CAP_NET_ADMIN and Linux 5.11.
    """

    microseconds: int = 200
    budget: int = 64

    def __post_init__(self) -> None:
        _check(
            "microseconds", self.microseconds, 1 <= self.microseconds <= 1_000_000,
            "from 1 to 1000000",
        )  # fmt: skip
        _check("budget", self.budget, 1 <= self.budget <= 512, "from 1 to 512")


class XdpChanges(TypedDict, total=False):
    """What a preset of ``XdpOptions`` can be told to set otherwise: the same fields."""

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


@dataclass(frozen=True, slots=True)
class XdpOptions:
    """How AF_XDP is set up.

    ``queues``: the receive queues to capture, all of the interface's when None. A queue left
    out keeps its traffic for the host.
    ``ring_size``: descriptors of the rx ring, a power of two.
    ``chunk_size``: bytes of a UMEM chunk, 2048 or 4096; 256 of them are headroom, so frames
    up to 1792 or 3840 bytes fit and longer ones are counted as ``rx_dropped``.
    ``chunks``: chunks in the UMEM of one queue, a power of two, at least ``ring_size``.
    One queue takes ``chunks * chunk_size`` bytes. What of the three is None is chosen by the
    link's speed, its MTU and the memory-lock limit (``ring/sizes.py`` has the rule): 16384, 2048
    and 16384, which are 32 MiB, where nothing speaks for other values. ``Netring.xdp`` tells.
    ``mode``: native or generic XDP only; None for native where the driver can, else generic.

    ``threads``: so many threads share the queues, each with a flow table of its own. Both
    directions of a flow must come to one thread, so that more than one needs ``symmetric_rss``:
    your word that the card spreads both over the queues alike.
    ``cpus``: where each thread runs, also of TPACKET_V3 where it is taken instead, has as many and
    no ``cpus`` of its own. ``huge_pages``: the UMEM is of 2 MiB pages, where the kernel has some to
    give (``vm.nr_hugepages``); else of normal ones. ``Netring.notices`` tells where it is not so.
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
    def throughput(cls, **changes: Unpack[XdpChanges]) -> Self:
        """For many frames: ``ring_size=32_768, huge_pages=True``.

        The ring holds more frames while the thread is kept from running: 64 MiB of memory a queue
        on a virtual link, 128 MiB on others, with chunks of 2048.
        """
        preset = cls(ring_size=32_768, huge_pages=True)
        return dataclasses.replace(preset, **changes)

    @classmethod
    def latency(cls, **changes: Unpack[XdpChanges]) -> Self:
        """For early events, at the cost of a CPU: ``busy_poll=BusyPoll()``."""
        return dataclasses.replace(cls(busy_poll=BusyPoll()), **changes)

    @classmethod
    def small_memory(cls, **changes: Unpack[XdpChanges]) -> Self:
        """4 MiB a queue: ``ring_size=1024, chunks=2048, chunk_size=2048``.

        Where the thread is kept from running for a millisecond, frames are lost at rates above
        a million a second.
        """
        preset = cls(ring_size=1024, chunks=2048, chunk_size=2048)
        return dataclasses.replace(preset, **changes)

    def __post_init__(self) -> None:
        if self.queues is not None:
            _check(
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
        _check(
            "ring_size",
            ring_size,
            ring_size is None or (_power_of_two(ring_size) and 64 <= ring_size <= 1 << 20),
            "a power of two from 64 to 1048576",
        )
        _check("chunk_size", self.chunk_size, self.chunk_size in {None, 2048, 4096}, "2048 or 4096")
        _check(
            "chunks",
            chunks,
            chunks is None or (_power_of_two(chunks) and (ring_size or 64) <= chunks <= 1 << 20),
            "a power of two from ring_size to 1048576",
        )


class TpacketChanges(TypedDict, total=False):
    """What a preset of ``TpacketOptions`` can be told to set otherwise: the same fields."""

    block_size: int
    block_count: int
    retire_timeout: float
    threads: int
    cpus: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class TpacketOptions:
    """How the TPACKET_V3 ring is set up.

    ``block_size`` in bytes, a power of two and a multiple of 4096; ``block_count`` blocks make
    the ring (64 MiB by default). ``retire_timeout`` in seconds is how long a block that is not
    full waits before it is handed over: the latency of a quiet capture.

    ``threads``: so many sockets share the frames (PACKET_FANOUT_HASH), each with such a ring, a
    thread and a flow table. The kernel's hash is the same for both directions of a flow;
    docs/tuning.md tells what it does not keep together. ``cpus``: where each thread runs.
    """

    block_size: int = 1 << 20
    block_count: int = 64
    retire_timeout: float = 0.02
    threads: int = 1
    cpus: tuple[int, ...] | None = None

    @classmethod
    def throughput(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """For many frames: ``block_size=1 << 20, block_count=128, retire_timeout=0.05``.

        128 MiB of memory a thread hold more frames while the thread is kept from running.
        """
        return dataclasses.replace(cls(block_count=128, retire_timeout=0.05), **changes)

    @classmethod
    def latency(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """For early events: ``block_size=1 << 16, block_count=256, retire_timeout=0.001``.

        A block is handed over after a millisecond, for which the kernel and the thread wake up
        more often.
        """
        preset = cls(block_size=1 << 16, block_count=256, retire_timeout=0.001)
        return dataclasses.replace(preset, **changes)

    @classmethod
    def small_memory(cls, **changes: Unpack[TpacketChanges]) -> Self:
        """4 MiB a thread: ``block_size=1 << 18, block_count=16``."""
        return dataclasses.replace(cls(block_size=1 << 18, block_count=16), **changes)

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
        _check_threads(self.threads, self.cpus)


class FlowKey(enum.Enum):
    """What makes packets one flow."""

    FIVE_TUPLE = "five_tuple"  #: protocol, addresses and ports
    HOST_PAIR = "host_pair"  #: the two IP addresses, whatever they say
    MAC_PAIR = "mac_pair"  #: the two stations, whatever they say; frames without IP too


@dataclass(frozen=True, slots=True)
class PortTimeout:
    """The idle timeout of flows to one port of responders, in seconds of packet time."""

    proto: Literal["tcp", "udp"]
    port: int
    timeout: float

    def __post_init__(self) -> None:
        _check("proto", self.proto, self.proto in _PROTOCOLS, "'tcp' or 'udp'")
        _check("port", self.port, 0 <= self.port <= 65_535, "from 0 to 65535")
        _check("timeout", self.timeout, 0.001 <= self.timeout <= 1e6, _SECONDS)

    @property
    def number(self) -> int:
        """The protocol's number."""
        return _PROTOCOLS[self.proto]


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """How flows are kept. Times are in seconds of packet time, which never runs backwards.

    A flow ends when it was ``idle_…`` for so long after its latest packet: TCP, UDP, ICMP and
    others, or ``port_timeouts`` where one names its responder's port (at most 16; by default 10 s
    for DNS and its likes, and an hour for FTP, SSH, telnet and rlogin, where people stop to think;
    both as in Zeek).
    ``half_open``: so long after its first packet a TCP flow ends that nobody has answered.
    ``close_delay``: a TCP flow whose both sides have closed, or that was reset, stays in the
    table so long to take up its late packets, which would otherwise start a ghost flow.
    ``active_timeout``: a flow that has lasted so long ends and goes on as another; None for never.
    ``update_interval``: how often ``FlowUpdated`` reports each live flow; None for never.
    ``max_flows``: the table's cap; a half-open flow, else the least recently used one makes room
    for a new one. ``event_slots``: events held between the ring's thread and Python, a power of
    two. Of several threads each has its share of both.

    ``key``: what makes packets one flow; ``key_vlan``: with their VLAN ids and the number of the
    virtual network they are in; ``directional``: each direction is a flow of its own.
    ``tunnel_depth``: how many tunnels around a packet are opened, 0 to 4. ``verify_checksums``:
    packets with wrong checksums are counted and not believed; leave it off where a host captures
    its own traffic, whose checksums the card has yet to compute. ``fragment_timeout``: for so long
    the ports of a first IP fragment are kept for the later ones, of ``max_fragmented`` packets at
    a time. ``packet_statistics``: sizes and gaps of packets, as ``Flow.statistics``.
    ``first_packets``: of so many, 0 to 32, size and gap one by one.

    ``events``: the events that are made at all, of which there is at least one; who only wants
    flows that have ended spares two of three.
    """

    idle_tcp: float = 300.0
    idle_udp: float = 60.0
    idle_icmp: float = 60.0
    idle_other: float = 60.0
    half_open: float = 5.0
    close_delay: float = 5.0
    active_timeout: float | None = None
    update_interval: float | None = 30.0
    port_timeouts: tuple[PortTimeout, ...] = (
        *(PortTimeout("udp", port, 10.0) for port in (53, 137, 5353, 5355)),
        *(PortTimeout("tcp", port, 3600.0) for port in (21, 22, 23, 513)),
    )
    max_flows: int = 100_000
    event_slots: int = 65_536
    key: FlowKey = FlowKey.FIVE_TUPLE
    key_vlan: bool = True
    directional: bool = False
    tunnel_depth: int = 4
    verify_checksums: bool = False
    fragment_timeout: float = 30.0
    max_fragmented: int = 4096
    packet_statistics: bool = False
    first_packets: int = 0
    events: tuple[type[FlowEvent], ...] = _EVENTS

    def __post_init__(self) -> None:
        _check(
            "events", self.events, bool(self.events) and set(self.events) <= set(_EVENTS),
            "one or more of FlowStarted, FlowEstablished, FlowUpdated and FlowEnded",
        )  # fmt: skip
        for name in ("idle_tcp", "idle_udp", "idle_icmp", "idle_other", "half_open"):
            value = getattr(self, name)
            _check(name, value, 0.001 <= value <= 1e6, _SECONDS)
        _check("close_delay", self.close_delay, 0.0 <= self.close_delay <= 60.0, "0 to 60 seconds")
        for name in ("active_timeout", "update_interval"):
            value = getattr(self, name)
            _check(name, value, value is None or 0.001 <= value <= 1e6, f"{_SECONDS}, or None")
        _check(
            "port_timeouts",
            self.port_timeouts,
            len(self.port_timeouts) <= MAX_PORT_TIMEOUTS
            and len({(t.proto, t.port) for t in self.port_timeouts}) == len(self.port_timeouts),
            f"at most {MAX_PORT_TIMEOUTS}, each of another port",
        )
        _check("max_flows", self.max_flows, 1 <= self.max_flows <= 1 << 26, "1 to 67108864")
        _check(
            "event_slots",
            self.event_slots,
            _power_of_two(self.event_slots) and 1024 <= self.event_slots <= 1 << 22,
            "a power of two from 1024 to 4194304",
        )
        _check("key", self.key, isinstance(self.key, FlowKey), "a FlowKey")
        _check("tunnel_depth", self.tunnel_depth, 0 <= self.tunnel_depth <= 4, "0 to 4")
        _check(
            "fragment_timeout", self.fragment_timeout, 0.001 <= self.fragment_timeout <= 1e6,
            _SECONDS,
        )  # fmt: skip
        _check(
            "max_fragmented", self.max_fragmented, 4 <= self.max_fragmented <= 1 << 20,
            "4 to 1048576",
        )  # fmt: skip
        _check("first_packets", self.first_packets, 0 <= self.first_packets <= 32, "0 to 32")
