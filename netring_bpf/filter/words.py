"""The words of the filter language as typed values, which ``Filter`` offers beside strings.

Each word checks its values and renders to an expression, so that there is one compiler and one
meaning: libpcap's. No text from outside goes into an expression unchecked.
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from netring_bpf.errors import OptionError
from netring_bpf.filter.address_set import Address, AddressSet, Network

__all__ = ["Address", "FilterWords", "Network"]

_F = TypeVar("_F", bound="FilterWords")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_FLAGS = ("fin", "syn", "rst", "push", "ack", "urg", "ece", "cwr")


class _Word:
    """A class attribute that is a filter, such as ``Filter.tcp``."""

    def __init__(self, expression: str, doc: str) -> None:
        self._expression = expression
        self.__doc__ = doc

    def __get__(self, _: Any, owner: type[_F]) -> _F:
        return owner._of(self._expression)  # noqa: SLF001 - a part of the class


class FilterWords(ABC):
    """The primitives of pcap-filter(7), and ``&``, ``|`` and ``~`` to combine them.

    Every method raises ``OptionError`` for a value that the protocol does not have.
    """

    __slots__ = ()

    ip: _Word = _Word("ip", "IPv4.")
    ip6: _Word = _Word("ip6", "IPv6.")
    arp: _Word = _Word("arp", "ARP.")
    tcp: _Word = _Word("tcp", "TCP over IPv4 or IPv6.")
    udp: _Word = _Word("udp", "UDP over IPv4 or IPv6.")
    sctp: _Word = _Word("sctp", "SCTP over IPv4 or IPv6.")
    icmp: _Word = _Word("icmp", "ICMP, which is IPv4's.")
    icmp6: _Word = _Word("icmp6", "ICMPv6.")
    broadcast: _Word = _Word("ether broadcast", "Sent to the Ethernet broadcast address.")
    multicast: _Word = _Word("ether multicast", "Sent to an Ethernet group address.")

    @classmethod
    @abstractmethod
    def _of(cls, expression: str, *sets: AddressSet) -> Self:
        """Return the filter of a valid expression, which may name sets."""

    @classmethod
    def host(cls, address: Address) -> Self:
        """Frames from or to an IP address."""
        return cls._of(f"host {_address(address)}")

    @classmethod
    def src_host(cls, address: Address) -> Self:
        """Frames from an IP address."""
        return cls._of(f"src host {_address(address)}")

    @classmethod
    def dst_host(cls, address: Address) -> Self:
        """Frames to an IP address."""
        return cls._of(f"dst host {_address(address)}")

    @classmethod
    def net(cls, network: Network) -> Self:
        """Frames from or to a network, such as ``"10.0.0.0/8"``, without host bits."""
        return cls._of(f"net {_network(network)}")

    @classmethod
    def src_net(cls, network: Network) -> Self:
        """Frames from a network."""
        return cls._of(f"src net {_network(network)}")

    @classmethod
    def dst_net(cls, network: Network) -> Self:
        """Frames to a network."""
        return cls._of(f"dst net {_network(network)}")

    # -- thousands of them: docs/filters.md --

    @classmethod
    def hosts(cls, addresses: Iterable[Address] | Path) -> Self:
        """Frames from or to one of these IP addresses, or of those in a file, one in a line."""
        return cls._of_set("", AddressSet.of_hosts(addresses))

    @classmethod
    def src_hosts(cls, addresses: Iterable[Address] | Path) -> Self:
        """Frames from one of these IP addresses."""
        return cls._of_set("src ", AddressSet.of_hosts(addresses))

    @classmethod
    def dst_hosts(cls, addresses: Iterable[Address] | Path) -> Self:
        """Frames to one of these IP addresses."""
        return cls._of_set("dst ", AddressSet.of_hosts(addresses))

    @classmethod
    def nets(cls, networks: Iterable[Network] | Path) -> Self:
        """Frames from or to one of these networks and addresses, or of those in a file."""
        return cls._of_set("", AddressSet.of_nets(networks))

    @classmethod
    def src_nets(cls, networks: Iterable[Network] | Path) -> Self:
        """Frames from one of these networks and addresses."""
        return cls._of_set("src ", AddressSet.of_nets(networks))

    @classmethod
    def dst_nets(cls, networks: Iterable[Network] | Path) -> Self:
        """Frames to one of these networks and addresses."""
        return cls._of_set("dst ", AddressSet.of_nets(networks))

    @classmethod
    def _of_set(cls, direction: str, addresses: AddressSet) -> Self:
        return cls._of(f"{direction}host in {addresses.name}", addresses)

    @classmethod
    def port(cls, port: int) -> Self:
        """Frames from or to a port of TCP, UDP or SCTP."""
        return cls._of(f"port {_number('port', port, 0, 65_535)}")

    @classmethod
    def src_port(cls, port: int) -> Self:
        """Frames from a port of TCP, UDP or SCTP."""
        return cls._of(f"src port {_number('port', port, 0, 65_535)}")

    @classmethod
    def dst_port(cls, port: int) -> Self:
        """Frames to a port of TCP, UDP or SCTP."""
        return cls._of(f"dst port {_number('port', port, 0, 65_535)}")

    @classmethod
    def port_range(cls, first: int, last: int) -> Self:
        """Frames from or to a port within ``first`` to ``last``, both included."""
        _number("first", first, 0, 65_535)
        return cls._of(f"portrange {first}-{_number('last', last, first, 65_535)}")

    @classmethod
    def ether_host(cls, mac: str) -> Self:
        """Frames from or to a MAC address, such as ``"02:00:00:00:00:0a"``."""
        if not isinstance(mac, str) or not _MAC.fullmatch(mac):
            raise OptionError(f"mac={mac!r}: must be six pairs of hex digits", option="mac")
        return cls._of(f"ether host {mac.lower()}")

    @classmethod
    def ether_type(cls, ethertype: int) -> Self:
        """Frames with an ethertype, such as 0x88cc; for VLAN tags see ``vlan``."""
        return cls._of(f"ether proto {_number('ethertype', ethertype, 0x600, 0xFFFF)}")

    @classmethod
    def ip_protocol(cls, number: int) -> Self:
        """Frames with an IP protocol number, directly behind an IPv4 or IPv6 header."""
        proto = _number("number", number, 0, 255)
        return cls._of(f"(ip proto {proto} or ip6 proto {proto})")

    @classmethod
    def tcp_flags(cls, *names: str) -> Self:
        """TCP over IPv4 with all of these flags set: fin syn rst push ack urg ece cwr."""
        if not names or not set(names) <= set(_FLAGS):
            raise OptionError(f"names={names!r}: some of {', '.join(_FLAGS)}", option="names")
        bits = sum(1 << _FLAGS.index(name) for name in set(names))
        return cls._of(f"tcp[13] & {bits} = {bits}")

    @classmethod
    def vlan(cls, vlan_id: int | None = None) -> Self:
        """Frames with a VLAN tag, or with one of this id.

        Every later part of the expression looks behind that tag (pcap-filter(7)), so its place
        matters: ``Filter.vlan(100) & Filter.tcp``.
        """
        number = "" if vlan_id is None else f" {_number('vlan_id', vlan_id, 0, 4095)}"
        return cls._of(f"vlan{number}")

    @classmethod
    def mpls(cls, label: int | None = None) -> Self:
        """Frames with an MPLS label stack; later parts look behind it, as with ``vlan``."""
        number = "" if label is None else f" {_number('label', label, 0, 0xFFFFF)}"
        return cls._of(f"mpls{number}")

    @classmethod
    def at_least(cls, length: int) -> Self:
        """Frames of at least so many bytes on the wire (``greater``)."""
        return cls._of(f"greater {_number('length', length, 0, 1 << 20)}")

    @classmethod
    def at_most(cls, length: int) -> Self:
        """Frames of at most so many bytes on the wire (``less``)."""
        return cls._of(f"less {_number('length', length, 0, 1 << 20)}")


def _address(value: Address) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError as error:
        raise OptionError(f"address={value!r}: {error}", option="address") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise OptionError(f"address={value!r}: a frame has no scope", option="address")
    return str(address)


def _network(value: Network) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise OptionError(f"network={value!r}: {error}", option="network") from None


def _number(option: str, value: int, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise OptionError(
            f"{option}={value!r}: must be a whole number from {low} to {high}", option=option
        )
    return value
