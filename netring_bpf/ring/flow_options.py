"""The options of the flow table: frozen, and validated here and nowhere else."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from netring_bpf.events.event import (
    AppEvent,
    CoreEvent,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    FlowUpdated,
    NeighbourSeen,
    TunnelKind,
)
from netring_bpf.ring.check import check, power_of_two

__all__ = [
    "DEFAULT_MAX_FLOWS",
    "DEFAULT_NAMES_MEMORY",
    "LEAST_NAMES_MEMORY",
    "MAX_FIRST_PACKETS",
    "MAX_PORT_TIMEOUTS",
    "MAX_SECONDS",
    "MAX_TUNNEL_DEPTH",
    "MAX_TUNNEL_PORTS",
    "MIN_SECONDS",
    "NAMES",
    "SLICED",
    "TUNNELS_OVER_UDP",
    "FlowKey",
    "FlowOptions",
    "Names",
    "PortTimeout",
    "Sliced",
    "TunnelPort",
]

MIN_SECONDS: Final = 0.001  #: the shortest timeout or interval
MAX_SECONDS: Final = 1_000_000.0  #: the longest
DEFAULT_MAX_FLOWS: Final = 100_000  #: of a live capture
MAX_TUNNEL_DEPTH: Final = 4
MAX_FIRST_PACKETS: Final = 32  #: NR_MAX_FIRST_PACKETS of api.h
MAX_PORT_TIMEOUTS: Final = 16  #: NR_MAX_PORT_TIMEOUTS of api.h
MAX_TUNNEL_PORTS: Final = 32  #: NR_MAX_TUNNEL_PORTS of api.h
#: The kinds of tunnels that run over UDP, with the ports on which they are looked for by default.
TUNNELS_OVER_UDP: Final = MappingProxyType(
    {
        TunnelKind.VXLAN: (4789, 8472),
        TunnelKind.VXLAN_GPE: (4790,),
        TunnelKind.GENEVE: (6081,),
        TunnelKind.GTPU: (2152,),
        TunnelKind.GRE: (4754,),
        TunnelKind.MPLS: (6635,),
        TunnelKind.L2TP: (1701,),
        TunnelKind.CAPWAP: (5247,),
        TunnelKind.LISP: (4341,),
        TunnelKind.TEREDO: (3544,),
        TunnelKind.AYIYA: (5072,),
    }
)
Sliced: TypeAlias = Literal["refuse", "trust"]
SLICED: Final[tuple[Sliced, ...]] = get_args(Sliced)
_SECONDS = f"from {MIN_SECONDS} to {MAX_SECONDS:.0f} seconds"
_PROTOCOLS = {"tcp": 6, "udp": 17}
_EVENTS: Final = (FlowStarted, FlowEstablished, FlowUpdated, FlowEnded, AppEvent)
_MADE: Final[tuple[type[CoreEvent], ...]] = (*_EVENTS, NeighbourSeen)
Names: TypeAlias = Literal["all", "service", "off"]
NAMES: Final[tuple[Names, ...]] = get_args(Names)
DEFAULT_NAMES_MEMORY: Final = 16 << 20  #: bytes
LEAST_NAMES_MEMORY: Final = 1 << 16


def _in_range(seconds: float) -> bool:
    return MIN_SECONDS <= seconds <= MAX_SECONDS


class FlowKey(enum.Enum):
    """The parts of a packet that decide to which flow it belongs."""

    FIVE_TUPLE = "five_tuple"  #: protocol, addresses and ports
    HOST_PAIR = "host_pair"  #: the two IP addresses
    MAC_PAIR = "mac_pair"  #: the two MAC addresses; frames without IP have flows too


@dataclass(frozen=True, slots=True)
class PortTimeout:
    """The idle timeout of flows to one port of a responder.

    ``proto``: ``"tcp"`` or ``"udp"``. ``port``: 0 to 65535. ``timeout``: seconds of packet time,
    0.001 to 1,000,000. Raises ``OptionError``.
    """

    proto: Literal["tcp", "udp"]
    port: int
    timeout: float

    def __post_init__(self) -> None:
        check("proto", self.proto, self.proto in _PROTOCOLS, "'tcp' or 'udp'")
        check("port", self.port, 0 <= self.port <= 65_535, "from 0 to 65535")
        check("timeout", self.timeout, _in_range(self.timeout), _SECONDS)

    @property
    def number(self) -> int:
        """The IP protocol's number: 6 for TCP, 17 for UDP."""
        return _PROTOCOLS[self.proto]


@dataclass(frozen=True, slots=True)
class TunnelPort:
    """A port of UDP, and the kind of tunnel that datagrams to or from it may be.

    ``kind``: one of those that run over UDP. ``port``: 1 to 65535. Raises ``OptionError``.
    """

    kind: TunnelKind
    port: int

    def __post_init__(self) -> None:
        check(
            "kind", self.kind,
            self.kind in TUNNELS_OVER_UDP,
            f"one of {', '.join(map(str, TUNNELS_OVER_UDP))}",
        )  # fmt: skip
        check("port", self.port, 1 <= self.port <= 65_535, "from 1 to 65535")


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """Options of the flow table. Times are in seconds of packet time, which never runs backwards.

    A flow ends when no packet has come for a time: ``idle_tcp``, ``idle_udp``, ``idle_icmp`` or
    ``idle_other`` by its protocol, unless ``port_timeouts`` has one for its responder's port (at
    most 16; by default 10 s for DNS, mDNS, LLMNR and NetBIOS names, and an hour for FTP, SSH,
    telnet and rlogin, as in Zeek).
    ``half_open``: a TCP flow of which only the opening is seen ends this long after its first
    packet.
    ``close_delay``: a TCP flow that both sides have closed, or that was reset, stays in the table
    this long. It takes up late packets, which would otherwise start a ghost flow.
    ``active_timeout``: a flow ends after this long and goes on as another; None for never.
    ``update_interval``: the time between two ``FlowUpdated`` of a live flow; None for never.
    ``max_flows``: the table's cap. In a full table a half-open flow makes room for a new one, else
    the least recently used flow does. None: 100,000 in a live capture, while the table of a file
    grows as it needs to, up to half of the memory. ``event_slots``: events held between the ring's
    thread and Python, a power of two. Several threads share both alike.

    ``key``: see ``FlowKey``. ``key_vlan``: packets of one flow also have the same VLAN ids and the
    same virtual network. ``directional``: each direction is a flow of its own.
    ``tunnel_depth``: the number of tunnels to open around a packet, 0 to 4. ``tunnel_ports``: the
    ports of UDP on which to look for tunnels, at most 32; the default has those of
    ``TUNNELS_OVER_UDP``. ``verify_checksums``: count packets with wrong checksums, but believe
    nothing in them. Leave it off where a host captures its own traffic: the card has yet to compute
    those checksums. ``fragment_timeout``: the ports of a first IP fragment are kept this long for
    the later ones, and those that come before it wait this long for it, for ``max_fragmented``
    packets at a time. ``reassembled``: fragments add to ``ip_bytes`` and ``payload`` once their
    datagram is whole, and then as much as it would have added uncut, as in Zeek; one that is never
    whole adds nothing. ``packet_statistics``: measure sizes and gaps of packets, for
    ``Flow.statistics``. ``first_packets``: the number of packets, 0 to 32, whose size and gap are
    kept one by one. ``server_ports``: a first packet that comes from a port where servers listen by
    custom is an answer, and its sender the responder; without it, the sender of the first packet is
    always the originator. ``one_sided``: the frames come from a place that sees one direction only,
    and each flow says so (``Flow.one_sided``), so that nobody takes it for an unanswered attempt;
    a capture sets it by itself where it knows. ``sliced``: what to do with frames that a mirror or
    a broker has cut short without a word, so that they are shorter on the wire than their IP length
    says: ``"refuse"`` counts them as ``sliced``; ``"trust"`` believes the IP length, where the
    header agrees.

    ``names``: what to read of the payload. ``"all"``: the protocol of each flow, and the names and
    other fields that its first messages give (docs/names.md); ``"service"``: the protocol alone;
    ``"off"``: no byte of payload is looked at. ``names_memory``: bytes for messages that come in
    several pieces, 64 KiB to 1 GiB; several threads share it alike.

    ``events``: the classes of events to make, at least one. ``(FlowEnded,)`` makes a third of the
    events. ``NeighbourSeen`` is not one of the default.
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
    max_flows: int | None = None
    event_slots: int = 65_536
    key: FlowKey = FlowKey.FIVE_TUPLE
    key_vlan: bool = True
    directional: bool = False
    tunnel_depth: int = MAX_TUNNEL_DEPTH
    tunnel_ports: tuple[TunnelPort, ...] = tuple(
        TunnelPort(kind, port) for kind, ports in TUNNELS_OVER_UDP.items() for port in ports
    )
    verify_checksums: bool = False
    fragment_timeout: float = 30.0
    max_fragmented: int = 4096
    reassembled: bool = False
    packet_statistics: bool = False
    first_packets: int = 0
    server_ports: bool = True
    one_sided: bool = False
    sliced: Sliced = "refuse"
    names: Names = "all"
    names_memory: int = DEFAULT_NAMES_MEMORY
    events: tuple[type[CoreEvent], ...] = _EVENTS

    def __post_init__(self) -> None:
        check(
            "events", self.events,
            isinstance(self.events, tuple | list) and bool(self.events)
            and all(event in _MADE for event in self.events),
            "one or more of FlowStarted, FlowEstablished, FlowUpdated, FlowEnded, AppEvent and "
            "NeighbourSeen",
        )  # fmt: skip
        for name in ("idle_tcp", "idle_udp", "idle_icmp", "idle_other", "half_open"):
            value = getattr(self, name)
            check(name, value, _in_range(value), _SECONDS)
        check("close_delay", self.close_delay, 0.0 <= self.close_delay <= 60.0, "0 to 60 seconds")
        for name in ("active_timeout", "update_interval"):
            value = getattr(self, name)
            check(name, value, value is None or _in_range(value), f"{_SECONDS}, or None")
        check(
            "port_timeouts",
            self.port_timeouts,
            len(self.port_timeouts) <= MAX_PORT_TIMEOUTS
            and len({(t.proto, t.port) for t in self.port_timeouts}) == len(self.port_timeouts),
            f"at most {MAX_PORT_TIMEOUTS}, each of another port",
        )
        check(
            "max_flows",
            self.max_flows,
            self.max_flows is None or 1 <= self.max_flows <= 1 << 26,
            "1 to 67108864, or None",
        )
        check(
            "event_slots",
            self.event_slots,
            power_of_two(self.event_slots) and 1024 <= self.event_slots <= 1 << 22,
            "a power of two from 1024 to 4194304",
        )
        check("key", self.key, isinstance(self.key, FlowKey), "a FlowKey")
        check(
            "tunnel_depth", self.tunnel_depth, 0 <= self.tunnel_depth <= MAX_TUNNEL_DEPTH,
            f"0 to {MAX_TUNNEL_DEPTH}",
        )  # fmt: skip
        check(
            "tunnel_ports",
            self.tunnel_ports,
            len(self.tunnel_ports) <= MAX_TUNNEL_PORTS
            and len({t.port for t in self.tunnel_ports}) == len(self.tunnel_ports),
            f"at most {MAX_TUNNEL_PORTS}, each of another port",
        )
        check("fragment_timeout", self.fragment_timeout, _in_range(self.fragment_timeout), _SECONDS)
        check(
            "max_fragmented", self.max_fragmented, 4 <= self.max_fragmented <= 1 << 20,
            "4 to 1048576",
        )  # fmt: skip
        check(
            "first_packets", self.first_packets, 0 <= self.first_packets <= MAX_FIRST_PACKETS,
            f"0 to {MAX_FIRST_PACKETS}",
        )  # fmt: skip
        check("names", self.names, self.names in NAMES, "one of " + ", ".join(NAMES))
        check(
            "names_memory", self.names_memory, LEAST_NAMES_MEMORY <= self.names_memory <= 1 << 30,
            "65536 to 1073741824",
        )  # fmt: skip
        check("sliced", self.sliced, self.sliced in SLICED, "one of " + ", ".join(SLICED))
