"""What comes out: flow keys, flow records, and the events of the stream.

Times are integers, nanoseconds since the Unix epoch. Bytes are whole frames as on the wire
(link header and VLAN tags included, frame check sequence not), also when fewer were captured.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from netring_bpf.errors import NetringError

__all__ = [
    "CaptureError",
    "Counters",
    "Endpoint",
    "Event",
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
]

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

    FIN = "fin"  #: both sides closed the TCP connection
    RST = "rst"  #: one side reset the TCP connection
    IDLE = "idle"  #: nothing was seen for the protocol's idle timeout
    EVICTED = "evicted"  #: the table was full and this was the least recently used flow
    SHUTDOWN = "shutdown"  #: the capture ended while the flow was alive


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a flow: the address as 4 or 16 bytes in network order, and the port.

    ``port`` is 0 where the protocol has none. For ICMP the originator's port is the message
    type and the responder's the code.
    """

    packed: bytes
    port: int

    @property
    def addr(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address as an ``ipaddress`` object, made on access."""
        return ipaddress.ip_address(self.packed)

    def __str__(self) -> str:
        if len(self.packed) == 16:
            return f"[{self.addr}]:{self.port}"
        return f"{self.addr}:{self.port}"


@dataclass(frozen=True, slots=True)
class FiveTuple:
    """What tells one flow from another.

    The originator (``orig``) sent the first packet, or the SYN where one was seen; ``resp`` is
    the responder. ``proto`` is the IP protocol number. ``vlans`` are the VLAN ids, outermost
    first, at most two. ``icmp_id`` is the identifier of an ICMP echo, timestamp or mask
    exchange, so that two pings between the same hosts are two flows; 0 otherwise.
    """

    proto: int
    orig: Endpoint
    resp: Endpoint
    vlans: tuple[int, ...] = ()
    icmp_id: int = 0

    @property
    def proto_name(self) -> str:
        """The protocol's usual name, as ``"tcp"``; its number as text where it has none here."""
        return _PROTOCOL_NAMES.get(self.proto, str(self.proto))

    def __str__(self) -> str:
        vlans = "".join(f" vlan {vlan}" for vlan in self.vlans)
        ident = f" id {self.icmp_id}" if self.icmp_id else ""
        return f"{self.proto_name} {self.orig} > {self.resp}{ident}{vlans}"


@dataclass(frozen=True, slots=True)
class Counters:
    """One direction of a flow: frames, and their bytes on the wire."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as it stood when its event was made.

    ``id`` is unique within the capture. ``start`` and ``last`` are the times of its first and
    latest packet. ``orig`` counts what the originator sent, ``resp`` what the responder sent.
    ``history`` tells the TCP life: one letter at the first occurrence on each side, upper case
    for the originator: S a SYN, H a SYN+ACK, A a pure ACK, D payload, F a FIN, R a RST (the
    letters of Zeek's conn.log; repeats are not written). It is empty for other protocols
    except D.
    """

    id: int
    key: FiveTuple
    start: int
    last: int
    orig: Counters
    resp: Counters
    history: str

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


@dataclass(frozen=True, slots=True)
class FlowStarted:
    """The first packet of a flow was seen."""

    ts: int
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowEstablished:
    """The TCP handshake (SYN, SYN+ACK, ACK) was seen to complete."""

    ts: int
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowUpdated:
    """A live flow's counters, from a timer: silent flows are reported too."""

    ts: int
    flow: Flow


@dataclass(frozen=True, slots=True)
class FlowEnded:
    """The flow is over, with its final counters; ``reason`` says how it ended."""

    ts: int
    flow: Flow
    reason: FlowEnd


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The interface went down or lost its carrier; the capture waits for it to return."""

    ts: int
    interface: str


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The interface is up again and the capture goes on."""

    ts: int
    interface: str


@dataclass(frozen=True, slots=True)
class CaptureError:
    """The capture failed; the live flows' ends follow, then the stream ends."""

    ts: int
    error: NetringError


@dataclass(frozen=True, slots=True)
class Lagged:
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
