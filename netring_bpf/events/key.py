"""Flow keys, which tell one flow from another."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from netring_bpf.events.community_id import community_id

__all__ = ["Endpoint", "FiveTuple", "protocol_name"]

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


def protocol_name(number: int) -> str:
    """Return the usual name of a protocol of IP, such as ``"tcp"``, or its number as text."""
    return _PROTOCOL_NAMES.get(number, str(number))


class Endpoint(NamedTuple):
    """One end of a flow: the address as 4 or 16 bytes in network order, and the port.

    ``port`` is 0 if the protocol or the kind of key has none. For ICMP the originator's port is
    the message type and the responder's the code. ``packed`` is 6 bytes for the end of a pair of
    stations (``FlowKey.MAC_PAIR``).
    """

    packed: bytes
    port: int

    @property
    def addr(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """The address as an ``ipaddress`` object, made on access. Raises ``ValueError`` for MAC."""
        return ipaddress.ip_address(self.packed)

    @property
    def text(self) -> str:
        """The address as text, of any kind; IPv6 as in RFC 5952."""
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
    """The key of a flow: its protocol, its two ends, and the network around them.

    The originator (``orig``) sent the first packet, or the SYN if there was one; ``resp`` is the
    responder. ``proto`` is the IP protocol number. ``vlans``: the ids of the VLANs, outermost
    first, at most two numbers. ``icmp_id`` is the identifier of an ICMP echo, timestamp or mask
    exchange, so that two pings between the same hosts are two flows; 0 otherwise. ``network`` is
    the VNI of the virtual network (VXLAN, GENEVE) around the flow. For pairs of hosts and of
    stations ``proto`` and the ports are 0.
    """

    proto: int
    orig: Endpoint
    resp: Endpoint
    vlans: tuple[int, ...] = ()
    icmp_id: int = 0
    network: int | None = None

    @property
    def proto_name(self) -> str:
        """The protocol's usual name, such as ``"tcp"``, or its number as text."""
        return protocol_name(self.proto)

    def community_id(self, seed: int = 0) -> str:
        """Return the Community ID, version 1, as ``"1:…"``; the same for both directions.

        ``seed``: 0 to 65535; tools that compare identifiers share it. Raises ``ValueError`` for a
        pair of stations. Source: the specification, github.com/corelight/community-id-spec.
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
