"""Flow records: a flow, each of its sides, and its measurements.

Times are integers, nanoseconds since the Unix epoch. Bytes count whole frames on the wire (with
link header and VLAN tags, without frame check sequence), also if fewer were captured.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from netring_bpf.events.conn_state import conn_state
from netring_bpf.events.key import Endpoint, FiveTuple

__all__ = [
    "Counters",
    "FirstPacket",
    "Flow",
    "PacketStatistics",
    "Spread",
    "TcpState",
    "Tunnel",
    "TunnelKind",
]


class TcpState(enum.IntEnum):
    """The state of one side of a TCP connection: Zeek's states of an endpoint."""

    INACTIVE = 0  #: nothing
    SYN_SENT = 1  #: sent a SYN, without an answer so far
    SYN_ACK_SENT = 2  #: sent a SYN+ACK without a SYN before it
    PARTIAL = 3  #: sent data without a SYN before it
    ESTABLISHED = 4
    CLOSED = 5  #: sent a FIN
    RESET = 6  #: sent a RST


class TunnelKind(enum.Enum):
    """The kinds of tunnels that the capture looks into."""

    IP = "ip"  #: IP in IP
    GRE = "gre"
    ERSPAN = "erspan"
    VXLAN = "vxlan"
    GENEVE = "geneve"
    GTPU = "gtpu"
    TEREDO = "teredo"
    AYIYA = "ayiya"


class Counters(NamedTuple):
    """The traffic that one side of a flow has sent.

    ``packets`` and ``bytes``: whole frames, on the wire. ``ip_bytes``: their IP packets, headers
    included. ``payload``: bytes of the transport's payload. TCP counts it by sequence numbers: a
    retransmitted byte counts once, and a byte that the capture missed counts too. ``first`` and
    ``last``: the times of its first and latest packet; 0 if there are none.

    TCP alone has the following. ``rtt``: the time in nanoseconds from the capture to this side and
    back, by the handshake (0: not seen, or a SYN was sent twice). ``missing_bytes``: acknowledged
    by the other side and not seen by the capture, in ``gaps`` pieces. ``retransmitted``: segments
    with nothing new. ``out_of_order``: segments that came after later ones. ``zero_windows``:
    advertised windows of size 0. ``state``.

    ``bad_checksums``: packets with a wrong checksum, which count in ``packets`` and ``bytes`` and
    nowhere else (``FlowOptions.verify_checksums``).
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
    """The innermost tunnel around a flow's first packet.

    ``orig`` and ``resp``: the ends of the tunnel on the side of the flow's own originator and
    responder. ``id``: the VNI, TEID, GRE key or ERSPAN session, or 0. ``flow_id``: the tunnel's
    own flow if it is over UDP, else 0.
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

    The deviation is that of the population. All values are 0 if there is nothing to measure.
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
    """A flow at the time of its event.

    ``id`` is unique within the capture. ``start`` and ``last``: the times of its first and latest
    packet. ``orig`` has the counters of the originator, ``resp`` those of the responder.
    ``history`` tells its life in the letters of Zeek's conn.log, upper case for the originator
    (docs/flows.md). ``icmp_errors``: ICMP errors that quoted a packet of this flow;
    ``icmp_error``: type and code of the latest. ``FlowOptions`` turns on ``statistics`` (of the
    originator and of the responder) and ``first_packets``. ``one_sided``: the capture sees one
    direction only, so a missing answer (``"S0"``) tells nothing about the responder.
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
    one_sided: bool = False

    @property
    def duration(self) -> int:
        """The time from the first to the latest packet, in nanoseconds."""
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
        """Zeek's conn_state, which sums up the connection: ``"SF"``, ``"S0"``, ``"REJ"`` and so on.

        Source: Zeek's documentation of ``Conn::Info``.
        """
        return conn_state(self.key.proto, self.orig, self.resp, self.history)

    def to_dict(self) -> dict[str, object]:
        """Return the flow as plain values: text, numbers, lists and dictionaries.

        It is nested as the record is, and has ``conn_state`` and ``community_id`` (None for a pair
        of stations) besides. A missing value is None.
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
            "one_sided": self.one_sided,
        }


def _side(endpoint: Endpoint, counters: Counters) -> dict[str, object]:
    return {
        "addr": endpoint.text,
        "port": endpoint.port,
        **counters._asdict(),
        "state": counters.tcp_state.name.lower(),
    }
