"""What comes out: flow keys, flow records, and the events of the stream.

Times are integers, nanoseconds since the Unix epoch. Bytes are whole frames as on the wire
(link header and VLAN tags included, frame check sequence not), also when fewer were captured.

The records are named tuples, as those are made three times as fast as frozen dataclasses, and
there may be a million of them a second. They are told apart by their class, not by their length.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from netring_bpf.community_id import community_id
from netring_bpf.conn_state import conn_state

if TYPE_CHECKING:
    from netring_bpf.errors import NetringError

__all__ = [
    "CaptureError",
    "Counters",
    "Endpoint",
    "Event",
    "FirstPacket",
    "FiveTuple",
    "Flow",
    "FlowEnd",
    "FlowEnded",
    "FlowEstablished",
    "FlowEvent",
    "FlowStarted",
    "FlowUpdated",
    "Lagged",
    "LinkDown",
    "LinkUp",
    "Packet",
    "PacketStatistics",
    "Spread",
    "TcpState",
    "Tunnel",
    "TunnelKind",
]

_Kind = TypeVar("_Kind", bound=tuple[object, ...])
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in IPv6's space (RFC 4291)
_PROTOCOL_NAMES = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmp6",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}


class FlowEnd(enum.Enum):
    """Why a flow ended."""

    FIN = "fin"  #: both sides closed the TCP connection, or one did and the other never spoke
    RST = "rst"  #: one side reset the TCP connection
    IDLE = "idle"  #: nothing was seen for the timeout of its protocol and state
    ACTIVE = "active"  #: it lasted for the active timeout, and goes on as another flow
    REUSED = "reused"  #: a new connection began on its addresses and ports
    EVICTED = "evicted"  #: the table was full and this was the least recently used flow
    SHUTDOWN = "shutdown"  #: the capture ended while the flow was alive


class TcpState(enum.IntEnum):
    """What one side of a TCP connection has done: Zeek's states of an endpoint."""

    INACTIVE = 0  #: nothing
    SYN_SENT = 1  #: sent a SYN that was not answered
    SYN_ACK_SENT = 2  #: sent a SYN+ACK, and no SYN was seen before it
    PARTIAL = 3  #: sent data, and no SYN was seen
    ESTABLISHED = 4
    CLOSED = 5  #: sent a FIN
    RESET = 6  #: sent a RST


class TunnelKind(enum.Enum):
    """Tunnels that are opened."""

    IP = "ip"  #: IP in IP
    GRE = "gre"
    ERSPAN = "erspan"
    VXLAN = "vxlan"
    GENEVE = "geneve"
    GTPU = "gtpu"
    TEREDO = "teredo"
    AYIYA = "ayiya"


class Endpoint(NamedTuple):
    """One end of a flow: the address as 4 or 16 bytes in network order, and the port.

    ``port`` is 0 where the protocol, or the kind of key, has none. For ICMP the originator's port
    is the message type and the responder's the code. ``packed`` is 6 bytes for the end of a pair
    of stations (``FlowKey.MAC_PAIR``).
    """

    packed: bytes
    port: int

    @property
    def addr(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address as an ``ipaddress`` object, made on access. Raises ``ValueError`` for MAC."""
        return ipaddress.ip_address(self.packed)

    @property
    def text(self) -> str:
        """The address as text, of whatever kind; IPv6 as RFC 5952 has it."""
        packed = self.packed
        if len(packed) == 6:
            return packed.hex(":")
        if packed.startswith(_MAPPED) and len(packed) == 16:  # Python does it from 3.13 on
            return f"::ffff:{ipaddress.IPv4Address(packed[12:])}"
        return str(self.addr)

    def __str__(self) -> str:
        if len(self.packed) == 6:
            return self.text
        if len(self.packed) == 16:
            return f"[{self.text}]:{self.port}"
        return f"{self.text}:{self.port}"


class FiveTuple(NamedTuple):
    """What tells one flow from another.

    The originator (``orig``) sent the first packet, or the SYN where one was seen; ``resp`` is
    the responder. ``proto`` is the IP protocol number. ``vlans`` are the VLAN ids, outermost
    first, at most two. ``icmp_id`` is the identifier of an ICMP echo, timestamp or mask
    exchange, so that two pings between the same hosts are two flows; 0 otherwise. ``network`` is
    the VNI of the virtual network (VXLAN, GENEVE) the flow was seen in. For pairs of hosts and of
    stations ``proto`` is 0, and so are the ports.
    """

    proto: int
    orig: Endpoint
    resp: Endpoint
    vlans: tuple[int, ...] = ()
    icmp_id: int = 0
    network: int | None = None

    @property
    def proto_name(self) -> str:
        """The protocol's usual name, as ``"tcp"``; its number as text where it has none here."""
        return _PROTOCOL_NAMES.get(self.proto, str(self.proto))

    def community_id(self, seed: int = 0) -> str:
        """Return the Community ID, version 1, as ``"1:…"``; the same for both directions.

        ``seed``: 0 to 65535, the same for all who compare. Raises ``ValueError`` for a pair of
        stations. Source: the specification, github.com/corelight/community-id-spec.
        """
        return community_id(
            self.proto,
            self.orig.packed,
            self.orig.port,
            self.resp.packed,
            self.resp.port,
            seed=seed,
        )

    def __str__(self) -> str:
        vlans = "".join(f" vlan {vlan}" for vlan in self.vlans)
        ident = f" id {self.icmp_id}" if self.icmp_id else ""
        return f"{self.proto_name} {self.orig} > {self.resp}{ident}{vlans}"


class Counters(NamedTuple):
    """What one side of a flow has sent.

    ``packets`` and ``bytes``: whole frames, on the wire. ``ip_bytes``: their IP packets, headers
    included. ``payload``: bytes of the transport's payload; of TCP by the sequence numbers, so
    what was sent twice counts once, and what was missed counts too. ``first`` and ``last``: when
    its first and latest packets came; 0 if there are none.

    Of TCP only: ``rtt``, the time in nanoseconds between the capture and this side and back, by
    the handshake (0: not seen, or a SYN was sent twice); ``missing_bytes`` that the other side
    has acknowledged and the capture has not seen, in ``gaps`` pieces; ``retransmitted`` segments
    with nothing new in them; ``out_of_order`` segments that came after later ones;
    ``zero_windows`` that were advertised; ``state``.

    ``bad_checksums``: packets that are counted in ``packets`` and ``bytes`` and nowhere else, as
    their checksum is wrong (``FlowOptions.verify_checksums``).
    """

    packets: int
    bytes: int
    ip_bytes: int = 0
    payload: int = 0
    first: int = 0
    last: int = 0
    rtt: int = 0
    missing_bytes: int = 0
    retransmitted: int = 0
    out_of_order: int = 0
    gaps: int = 0
    zero_windows: int = 0
    bad_checksums: int = 0
    state: int = 0

    @property
    def tcp_state(self) -> TcpState:
        """``state``, by name."""
        return TcpState(self.state)


class Tunnel(NamedTuple):
    """The innermost tunnel a flow was seen in, as of its first packet.

    ``orig`` and ``resp`` are the ends of the tunnel on the side of the flow's own originator and
    responder. ``id``: the VNI, TEID, GRE key or ERSPAN session, 0 where there is none.
    ``flow_id``: the flow that is the tunnel itself, where it is over UDP; else 0.
    """

    kind: TunnelKind
    id: int
    orig: Endpoint
    resp: Endpoint
    flow_id: int = 0


class Spread(NamedTuple):
    """A quantity over packets: its least, mean and greatest value, and its standard deviation."""

    min: int
    mean: float
    max: int
    deviation: float


class PacketStatistics(NamedTuple):
    """Frame sizes in bytes of one side, and the gaps between its own packets in nanoseconds.

    The deviation is that of the population. Everything is 0 where there is nothing to measure.
    """

    size: Spread
    gap: Spread


class FirstPacket(NamedTuple):
    """One of a flow's first packets.

    ``size``: bytes of the frame, negative if the responder sent it. ``gap``: nanoseconds since
    the flow's packet before it.
    """

    size: int
    gap: int


class Flow(NamedTuple):
    """A flow as it stood when its event was made.

    ``id`` is unique within the capture. ``start`` is the time of its first packet. ``orig`` counts
    what the originator sent, ``resp`` what the responder sent. ``history`` tells its life in the
    letters of Zeek's conn.log, upper case for the originator (docs/flows.md).
    ``icmp_errors``: ICMP errors that quoted a packet of this flow, ``icmp_error`` the type and
    code of the latest. ``statistics`` (of the originator and of the responder) and
    ``first_packets`` are there where ``FlowOptions`` asks for them.
    """

    id: int
    key: FiveTuple
    start: int
    last: int
    orig: Counters
    resp: Counters
    history: str
    tunnel: Tunnel | None = None
    icmp_errors: int = 0
    icmp_error: tuple[int, int] | None = None
    statistics: tuple[PacketStatistics, PacketStatistics] | None = None
    first_packets: tuple[FirstPacket, ...] = ()

    @property
    def duration(self) -> int:
        """From the first to the latest packet, in nanoseconds."""
        return self.last - self.start

    @property
    def packets(self) -> int:
        """Frames of both directions."""
        return self.orig.packets + self.resp.packets

    @property
    def bytes(self) -> int:
        """Wire bytes of both directions."""
        return self.orig.bytes + self.resp.bytes

    @property
    def conn_state(self) -> str:
        """How the connection went, as Zeek's conn_state: ``"SF"``, ``"S0"``, ``"REJ"`` and so on.

        Source: Zeek's documentation of ``Conn::Info``.
        """
        return conn_state(self.key.proto, self.orig, self.resp, self.history)

    def to_dict(self) -> dict[str, object]:
        """Return the flow as plain values: text, numbers, lists and dictionaries.

        Nested as the record is, with ``conn_state`` and ``community_id`` (None for a pair of
        stations) beside it; what is not there is None.
        """
        key = self.key
        tunnel = self.tunnel
        return {
            "id": self.id,
            "proto": key.proto_name,
            "orig": _side(key.orig, self.orig),
            "resp": _side(key.resp, self.resp),
            "vlans": list(key.vlans),
            "icmp_id": key.icmp_id,
            "network": key.network,
            "start": self.start,
            "last": self.last,
            "duration": self.duration,
            "history": self.history,
            "conn_state": self.conn_state,
            "community_id": key.community_id() if len(key.orig.packed) != 6 else None,
            "icmp_errors": self.icmp_errors,
            "icmp_error": list(self.icmp_error) if self.icmp_error else None,
            "tunnel": tunnel
            and {
                "kind": tunnel.kind.value,
                "id": tunnel.id,
                "orig": {"addr": tunnel.orig.text, "port": tunnel.orig.port},
                "resp": {"addr": tunnel.resp.text, "port": tunnel.resp.port},
                "flow_id": tunnel.flow_id,
            },
            "statistics": self.statistics
            and {
                side: {"size": s.size._asdict(), "gap": s.gap._asdict()}
                for side, s in zip(("orig", "resp"), self.statistics, strict=True)
            },
            "first_packets": [packet._asdict() for packet in self.first_packets],
        }


def _side(endpoint: Endpoint, counters: Counters) -> dict[str, object]:
    return {
        "addr": endpoint.text,
        "port": endpoint.port,
        **counters._asdict(),
        "state": counters.tcp_state.name.lower(),
    }


def _distinct(kind: type[_Kind]) -> type[_Kind]:
    """For classes whose values may be those of another class: equal only to their own kind."""

    def equal(self: tuple[object, ...], other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other)

    def unequal(self: tuple[object, ...], other: object) -> bool:
        return not equal(self, other)

    kind.__eq__ = equal  # type: ignore[method-assign]
    kind.__ne__ = unequal  # type: ignore[method-assign, assignment]
    return kind


@_distinct
class FlowStarted(NamedTuple):
    """The first packet of a flow was seen."""

    ts: int
    flow: Flow


@_distinct
class FlowEstablished(NamedTuple):
    """The TCP handshake (SYN, SYN+ACK, ACK) was seen to complete."""

    ts: int
    flow: Flow


@_distinct
class FlowUpdated(NamedTuple):
    """A live flow's counters, from a timer: silent flows are reported too."""

    ts: int
    flow: Flow


@_distinct
class FlowEnded(NamedTuple):
    """The flow is over, with its final counters; ``reason`` says how it ended."""

    ts: int
    flow: Flow
    reason: FlowEnd


@_distinct
class LinkDown(NamedTuple):
    """The interface went down or lost its carrier; the capture waits for it to return."""

    ts: int
    interface: str


@_distinct
class LinkUp(NamedTuple):
    """The interface is up again and the capture goes on."""

    ts: int
    interface: str


@_distinct
class CaptureError(NamedTuple):
    """The capture failed; the live flows' ends follow, then the stream ends."""

    ts: int
    error: NetringError


@_distinct
class Lagged(NamedTuple):
    """This subscriber fell behind: exactly ``missed`` events were overwritten unseen."""

    ts: int
    missed: int


FlowEvent: TypeAlias = FlowStarted | FlowEstablished | FlowUpdated | FlowEnded
Event: TypeAlias = FlowEvent | LinkDown | LinkUp | CaptureError | Lagged


@dataclass(frozen=True, slots=True)
class Packet:
    """A captured frame, copied out of the ring.

    ``data`` is what was captured (VLAN tags in place, whatever the backend), ``len`` the
    frame's length on the wire; ``data`` is shorter than that where the frame was cut.
    """

    ts: int
    data: bytes
    len: int
