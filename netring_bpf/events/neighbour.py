"""The stations of a link, as ARP and IPv6 neighbour discovery tell them."""

from __future__ import annotations

import enum
import ipaddress
from typing import NamedTuple

from netring_bpf.events.plain import json_text, time_text

__all__ = ["NeighbourBy", "NeighbourSeen"]


class NeighbourBy(enum.Enum):
    """The message that told a neighbour."""

    ARP_REQUEST = "arp_request"  #: the sender of a question, about itself
    ARP_REPLY = "arp_reply"  #: the sender of an answer
    ARP_ANNOUNCED = "arp_announced"  #: nobody had asked: gratuitous ARP
    NDP_SOLICITED = "ndp_solicited"  #: the sender of a neighbour or router solicitation
    NDP_ADVERTISED = "ndp_advertised"  #: the sender of a neighbour advertisement
    ROUTER = "router"  #: the sender of a router advertisement
    PREFIX = "prefix"  #: a router advertised a prefix of the link, not an address


class NeighbourSeen(NamedTuple):
    """A station said that an address is its own, or a router that a prefix is on the link.

    ``ts``: when it said so, in nanoseconds since the Unix epoch. ``vlans``: the VLAN ids of the
    frame, outermost first. ``mac``: the station or the router, as ``"02:00:00:00:00:0a"``. ``how``:
    the message that told it. ``prefix_length``: the bits of a prefix, whose first address is
    ``address``; else None. The same is told once a minute at most. ``FlowOptions.events`` asks for
    these events.
    """

    ts: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: str
    how: NeighbourBy
    vlans: tuple[int, ...] = ()
    prefix_length: int | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        record: dict[str, object] = {
            "event": "neighbour",
            "ts": time_text(self.ts),
            "address": _text(self.address),
            "mac": self.mac,
            "how": self.how.value,
        }
        if self.prefix_length is not None:
            record["prefix_length"] = self.prefix_length
        record["vlans"] = list(self.vlans)
        return record

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"  # Python does it from 3.13 on
