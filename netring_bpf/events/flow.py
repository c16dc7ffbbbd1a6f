"""Flow records: a flow, each of its sides, and its measurements.

Times are integers, nanoseconds since the Unix epoch. Bytes count whole frames on the wire (with
link header and VLAN tags, without frame check sequence), also if fewer were captured.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple, TypeAlias

from netring_bpf.events.app import App, app_fields
from netring_bpf.events.conn_state import conn_state
from netring_bpf.events.key import Endpoint, FiveTuple
from netring_bpf.events.plain import count, seconds, time_text

__all__ = [
    "Counters",
    "FirstPacket",
    "Flow",
    "FlowEnd",
    "PacketStatistics",
    "Spread",
    "TcpState",
    "Tunnel",
    "TunnelKind",
    "flow_record",
]

_Bytes: TypeAlias = bytes  # a flow has a property of that name
_ICMP: Final = (1, 58)
_TCP: Final = 6
_MAC: Final = 6  # bytes of a station's address
_COUNTED: Final = ("packets", "bytes", "ip_bytes", "payload")
_RARELY_COUNTED: Final = (
    "missing_bytes", "retransmitted", "out_of_order", "gaps", "zero_windows", "bad_checksums",
    "implausible",
)  # fmt: skip


class FlowEnd(enum.Enum):
    """Why a flow ended."""

    FIN = "fin"  #: both sides closed the TCP connection, or one did and the other never spoke
    RST = "rst"  #: one side reset the TCP connection
    IDLE = "idle"  #: no packet came for the timeout of its protocol and state
    ACTIVE = "active"  #: it lasted for the active timeout, and goes on as another flow
    REUSED = "reused"  #: a new connection began on its addresses and ports
    EVICTED = "evicted"  #: the table was full and this was the least recently used flow
    SHUTDOWN = "shutdown"  #: the capture ended while the flow was alive


class TcpState(enum.IntEnum):
    """The state of one side of a TCP connection: Zeek's states of an endpoint."""

    INACTIVE = 0  #: nothing
    SYN_SENT = 1  #: sent a SYN, without an answer so far
    SYN_ACK_SENT = 2  #: sent a SYN+ACK without a SYN before it
    PARTIAL = 3  #: sent data without a SYN before it
    ESTABLISHED = 4  #: its handshake is complete
    CLOSED = 5  #: sent a FIN
    RESET = 6  #: sent a RST


class TunnelKind(enum.Enum):
    """The kinds of tunnels that the capture looks into."""

    IP = "ip"  #: IP in IP
    GRE = "gre"  #: generic routing encapsulation, over IP or UDP
    ERSPAN = "erspan"  #: a mirror's frames in GRE, types I to III
    VXLAN = "vxlan"  #: Ethernet over UDP
    GENEVE = "geneve"  #: Ethernet or IP over UDP, with options
    GTPU = "gtpu"  #: user data of mobile networks, over UDP
    TEREDO = "teredo"  #: IPv6 over UDP
    AYIYA = "ayiya"  #: IP over UDP, as tunnel brokers had it
    VXLAN_GPE = "vxlan-gpe"  #: VXLAN with a next protocol
    MPLS = "mpls"  #: a label stack in IP or UDP
    ETHERIP = "etherip"  #: Ethernet in IP
    L2TP = "l2tp"  #: layer two, over IP or UDP
    CAPWAP = "capwap"  #: 802.11 or Ethernet of access points, over UDP
    LISP = "lisp"  #: IP over UDP, between locators


class Counters(NamedTuple):
    """The traffic that one side of a flow has sent.

    ``packets`` and ``bytes``: whole frames, on the wire. ``ip_bytes``: their IP packets, headers
    included. ``payload``: bytes of the transport's payload. TCP counts it by sequence numbers: a
    retransmitted byte counts once, and a byte that the capture missed counts too. ``first`` and
    ``last``: the times of its first and latest packet, in nanoseconds since the Unix epoch; 0 if
    there are none.

    TCP alone has the following. ``rtt``: the time in nanoseconds from the capture to this side and
    back, by the handshake (0: not seen, or a SYN was sent twice). ``missing_bytes``: acknowledged
    by the other side and not seen by the capture, in ``gaps`` pieces. ``retransmitted``: segments
    with nothing new. ``out_of_order``: segments that came after later ones. ``zero_windows``:
    advertised windows of size 0. ``implausible``: segments whose numbers fit to no other packet, as
    those of a forged one; they add nothing to ``payload`` and ``missing_bytes``. ``state``: the
    number of its ``TcpState``. ``tcp_flags``: the flags of all its segments, or'ed (FIN is 1, SYN
    2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128). ``fin_acked``: 1 if its FIN was acknowledged,
    else 0.

    ``bad_checksums``: packets with a wrong checksum, which count in ``packets`` and ``bytes`` and
    nowhere else (``FlowOptions.verify_checksums``). ``fragments``: packets with a part of an IP
    packet, but one of each that was whole.

    ``name``: of the responder, the name by which the originator asked for its address.
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
    implausible: int = 0
    state: int = 0
    tcp_flags: int = 0
    fin_acked: int = 0
    fragments: int = 0
    name: str | None = None

    @property
    def tcp_state(self) -> TcpState:
        """``state``, by name."""
        return TcpState(self.state)


class Tunnel(NamedTuple):
    """The innermost tunnel around a flow's first packet.

    ``kind``: the protocol that makes it. ``orig`` and ``resp``: the ends of the tunnel on the side
    of the flow's own originator and responder. ``id``: the VNI, TEID, GRE key, ERSPAN session, LISP
    instance, MPLS label (the one at the bottom) or L2TP session (of version 2: the tunnel's id is
    in the upper 16 bits), or 0. ``flow_id``: the tunnel's own flow if it is over UDP, else 0.
    """

    kind: TunnelKind
    id: int
    orig: Endpoint
    resp: Endpoint
    flow_id: int = 0


class Spread(NamedTuple):
    """A quantity over packets: of sizes or of times.

    ``min``, ``mean``, ``max``: its least, mean and greatest value, in bytes or nanoseconds.
    ``deviation``: its standard deviation, in the same unit: bytes or nanoseconds.
    """

    min: int
    mean: float
    max: int
    deviation: float


class PacketStatistics(NamedTuple):
    """Frame sizes of one side, and the gaps between its own packets.

    ``size``: of whole frames on the wire, in bytes. ``gap``: the time between two packets of the
    side, in nanoseconds.

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

    ``id`` is unique within the capture. ``key``: protocol, ends and networks. ``start`` and
    ``last``: the times of its first and latest packet, in nanoseconds since the Unix epoch.
    ``orig`` has the counters of the originator, ``resp`` those of the responder. ``history`` tells
    its life in the letters of Zeek's conn.log, upper case for the originator (docs/flows.md).
    ``icmp_errors``: ICMP errors that quoted a packet of this flow;
    ``icmp_error``: type and code of the latest, two numbers. ``tunnel``: the innermost one around
    it. ``FlowOptions`` turns on ``statistics`` (of the originator and of the responder) and
    ``first_packets``. ``one_sided``: the capture sees one direction only, so a missing answer
    (``"S0"``) tells nothing about the responder.

    ``macs``: the MAC addresses of originator and responder, six bytes each, of the outermost frame
    of the first packet; None where the link has none. ``mac_changes``: packets with other ones than
    the packet of the same side before. ``app``: the protocol inside, and its first exchange; None
    if none was recognised. ``reason``: why it ended; None while it lives.
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
    macs: tuple[_Bytes, _Bytes] | None = None
    mac_changes: int = 0
    app: App | None = None
    reason: FlowEnd | None = None

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
        """Return the flow as plain values, by the names of docs/events.md.

        Times are text (RFC 3339), durations seconds. What does not apply is left out, and so is a
        rare counter that is 0.
        """
        return flow_record(self)


def flow_record(flow: Flow, reason: FlowEnd | None = None) -> dict[str, object]:
    """Return the fields of a flow, in the order of ``fields.RECORD``.

    ``reason``: of its end, if the flow does not tell.
    """
    key = flow.key
    reason = reason or flow.reason
    record: dict[str, object] = {
        "id": count(flow.id),
        "proto": key.proto_name,
        "orig_addr": key.orig.text,
        "orig_port": key.orig.port,
        "resp_addr": key.resp.text,
        "resp_port": key.resp.port,
        "vlans": list(key.vlans),
    }
    if key.proto in _ICMP:
        record["icmp_id"] = key.icmp_id
    if key.network is not None:
        record["network"] = key.network
    record["start"] = time_text(flow.start)
    record["last"] = time_text(flow.last)
    record["duration"] = seconds(flow.duration)
    _add_side(record, "orig", flow.orig, key.proto == _TCP)
    _add_side(record, "resp", flow.resp, key.proto == _TCP)
    record["history"] = flow.history
    record["conn_state"] = flow.conn_state
    if len(key.orig.packed) != _MAC:
        record["community_id"] = key.community_id()
    if reason is not None:
        record["reason"] = reason.value
    if flow.icmp_errors:
        record["icmp_errors"] = flow.icmp_errors
        error = flow.icmp_error or (0, 0)
        record["icmp_error_type"], record["icmp_error_code"] = error
    if flow.tunnel is not None:
        _add_tunnel(record, flow.tunnel)
    if flow.one_sided:
        record["one_sided"] = True
    if flow.resp.name is not None:
        record["resp_name"] = flow.resp.name
    if flow.macs is not None:
        record["orig_mac"], record["resp_mac"] = (mac.hex(":") for mac in flow.macs)
    if flow.mac_changes:
        record["mac_changes"] = flow.mac_changes
    if flow.app is not None:
        record.update(app_fields(flow.app))
    _add_measured(record, flow)
    return record


def _add_side(record: dict[str, object], side: str, counters: Counters, is_tcp: bool) -> None:
    for name in _COUNTED:
        record[f"{side}_{name}"] = count(getattr(counters, name))
    for name in ("first", "last"):
        if ts := getattr(counters, name):
            record[f"{side}_{name}"] = time_text(ts)
    if counters.rtt:
        record[f"{side}_rtt"] = seconds(counters.rtt)
    for name in _RARELY_COUNTED:
        if number := getattr(counters, name):
            record[f"{side}_{name}"] = count(number)
    if is_tcp:
        record[f"{side}_state"] = counters.tcp_state.name.lower()
        record[f"{side}_tcp_flags"] = counters.tcp_flags
        if counters.fin_acked:
            record[f"{side}_fin_acked"] = True
    if counters.fragments:
        record[f"{side}_fragments"] = count(counters.fragments)


def _add_tunnel(record: dict[str, object], tunnel: Tunnel) -> None:
    record["tunnel_kind"] = tunnel.kind.value
    record["tunnel_id"] = tunnel.id
    if tunnel.flow_id:
        record["tunnel_flow_id"] = count(tunnel.flow_id)
    for side, end in (("orig", tunnel.orig), ("resp", tunnel.resp)):
        record[f"tunnel_{side}_addr"] = end.text
        record[f"tunnel_{side}_port"] = end.port


def _add_measured(record: dict[str, object], flow: Flow) -> None:
    for side, measured in zip(("orig", "resp"), flow.statistics or (), strict=False):
        for name, value in measured.size._asdict().items():
            record[f"{side}_size_{name}"] = value
        for name, value in measured.gap._asdict().items():
            record[f"{side}_gap_{name}"] = seconds(value)
    if flow.first_packets:
        record["first_packet_sizes"] = [packet.size for packet in flow.first_packets]
        record["first_packet_gaps"] = [seconds(packet.gap) for packet in flow.first_packets]
