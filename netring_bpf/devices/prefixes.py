"""The prefixes of the link: addresses outside of them are behind a router."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from netring_bpf.devices.options import MAX_PREFIXES, Network
from netring_bpf.events.device import Address

__all__ = ["Prefixes"]

_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_AROUND: Final = {4: 24, 6: 64}  # bits taken for a link's prefix around an address of it


class Prefixes:
    """Given prefixes, or learned ones: those that routers and DHCP tell, and guessed ones.

    Around an address of the link that ARP or neighbour discovery tells, 24 bits (IPv6: 64) are
    guessed. Bounded: the least recently told prefix makes room.
    """

    def __init__(self, given: Iterable[Network] = ()) -> None:
        self._given = tuple(given)
        self._learned: OrderedDict[Network, None] = OrderedDict()
        self._by_length: dict[tuple[int, int], set[int]] = {}
        self._index(self._given)

    @property
    def all(self) -> Sequence[Network]:
        """The prefixes, given or learned."""
        return (*self._given, *self._learned)

    @property
    def are_known(self) -> bool:
        """Whether there are any."""
        return bool(self._given or self._learned)

    def learn(self, network: Network) -> None:
        """Take a prefix that somebody told, unless prefixes are given."""
        bits = network.prefixlen
        if self._given or not bits >= 8 or network.is_multicast or network.is_loopback:
            return
        if network in self._learned:
            self._learned.move_to_end(network)
            return
        self._learned[network] = None
        if len(self._learned) > MAX_PREFIXES:
            self._learned.popitem(last=False)
            self._by_length.clear()
            self._index(self._learned)
        else:
            self._index((network,))

    def learn_around(self, address: Address) -> None:
        """Take the prefix around an address of the link, unless it is in a known one."""
        if not self.has(address):
            self.learn(ipaddress.ip_network((address, _AROUND[address.version]), strict=False))

    def has(self, address: Address) -> bool:
        """Whether the address is of the link."""
        version, number = address.version, int(address)
        width = address.max_prefixlen
        if number >> (width - _LINK_LOCAL_BITS[version][0]) == _LINK_LOCAL_BITS[version][1]:
            return True
        return any(
            number >> (width - bits) in found
            for (of, bits), found in self._by_length.items()
            if of == version
        )

    def _index(self, networks: Iterable[Network]) -> None:
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            found = self._by_length.setdefault((network.version, network.prefixlen), set())
            found.add(int(network.network_address) >> shift)


_LINK_LOCAL_BITS: Final = {
    net.version: (net.prefixlen, int(net.network_address) >> (net.max_prefixlen - net.prefixlen))
    for net in _LINK_LOCAL
}
