"""A device as the table keeps it: bounded, and changed by what is seen of it."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from netring_bpf.events.device import Address, Device, DeviceAddress, DeviceName

__all__ = ["MAX_ADDRESSES", "MAX_NAMES", "MAX_SERVICES", "MAX_TEXT", "Station"]

MAX_ADDRESSES: Final = 32  #: of a device
MAX_NAMES: Final = 16
MAX_SERVICES: Final = 32
MAX_VLANS: Final = 8
MAX_TEXT: Final = 256  #: characters of a name
_REMOTE: Final = 3  #: addresses from elsewhere behind one station that make it a gateway


class Station:
    """A station, by its MAC address. Each method returns whether it told something new."""

    __slots__ = (
        "_addresses", "_names", "_offers", "_remote", "_uses", "_vlans", "first", "flows",
        "is_gateway", "last", "mac", "packets_received", "packets_sent", "pending", "received",
        "sent", "told", "vendor",
    )  # fmt: skip

    def __init__(self, mac: str, ts: int, vendor: str | None) -> None:
        self.mac: str = mac
        self.vendor: str | None = vendor
        self.first: int = ts
        self.last: int = ts
        self.is_gateway: bool = False
        self.sent: int = 0
        self.received: int = 0
        self.packets_sent: int = 0
        self.packets_received: int = 0
        self.flows: int = 0
        self.pending: dict[str, None] = {}  # fields that are new since the latest event
        self.told: int = ts  # when the latest event about it was made
        self._addresses: OrderedDict[Address, DeviceAddress] = OrderedDict()
        self._names: OrderedDict[tuple[str, str], DeviceName] = OrderedDict()
        self._vlans: dict[int, None] = {}
        self._offers: dict[str, None] = {}
        self._uses: dict[str, None] = {}
        self._remote: set[Address] = set()

    @property
    def is_random(self) -> bool:
        """Whether the MAC address is a locally administered one."""
        return bool(int(self.mac[:2], 16) & 2)

    def see(self, ts: int) -> None:
        """Note that it was there."""
        self.first = min(self.first, ts)
        self.last = max(self.last, ts)

    def add_address(self, address: Address, ts: int, *, is_told: bool) -> Address | None:
        """Take an address; returns the one that made room for it."""
        known = self._addresses.pop(address, None)
        if known is None:
            self.pending["addresses"] = None
            known = DeviceAddress(address, ts, ts, is_told)
        self._addresses[address] = known._replace(
            last=max(known.last, ts), is_told=known.is_told or is_told
        )
        if len(self._addresses) <= MAX_ADDRESSES:
            return None
        return self._addresses.popitem(last=False)[0]

    def has_address(self, address: Address) -> bool:
        """Whether the address is one of its own."""
        return address in self._addresses

    def drop_address(self, address: Address) -> None:
        """Forget an address, which another station has now."""
        self._addresses.pop(address, None)

    def untold(self) -> list[Address]:
        """Return the addresses that only packets' headers had."""
        return [known.address for known in self._addresses.values() if not known.is_told]

    def note_remote(self, address: Address) -> None:
        """Note an address from elsewhere behind it; several make it a gateway."""
        if not self.is_gateway:
            self._remote.add(address)
            if len(self._remote) >= _REMOTE:
                self.become_gateway()

    def become_gateway(self) -> None:
        """Note that it forwards."""
        if not self.is_gateway:
            self.is_gateway = True
            self.pending["is_gateway"] = None
            self._remote.clear()

    def add_name(self, name: str, source: str, ts: int) -> None:
        """Take a name."""
        name, source = name[:MAX_TEXT], source[:MAX_TEXT]
        known = self._names.pop((name, source), None)
        if known is None:
            self.pending["names"] = None
            known = DeviceName(name, source, ts, ts)
        self._names[name, source] = known._replace(last=max(known.last, ts))
        if len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)

    def add_vlans(self, vlans: Iterable[int]) -> None:
        """Take the VLANs of a frame."""
        for vlan in vlans:
            if vlan not in self._vlans and len(self._vlans) < MAX_VLANS:
                self._vlans[vlan] = None

    def add_service(self, protocol: str, *, offers: bool) -> None:
        """Note a protocol in which it answers or asks."""
        services = self._offers if offers else self._uses
        if protocol not in services and len(services) < MAX_SERVICES:
            services[protocol] = None
            self.pending["offers" if offers else "uses"] = None

    def device(self) -> Device:
        """Return it as a value."""
        return Device(
            mac=self.mac,
            first=self.first,
            last=self.last,
            vendor=self.vendor,
            random=self.is_random,
            is_gateway=self.is_gateway,
            addresses=tuple(self._addresses.values()),
            names=tuple(self._names.values()),
            vlans=tuple(self._vlans),
            packets_sent=self.packets_sent,
            packets_received=self.packets_received,
            sent=self.sent,
            received=self.received,
            flows=self.flows,
            offers=tuple(self._offers),
            uses=tuple(self._uses),
        )

    @classmethod
    def of(cls, device: Device) -> Station:
        """Return the station of a value, as it was saved."""
        station = cls(device.mac, device.first, device.vendor)
        station.last = device.last
        station.is_gateway = device.is_gateway
        for known in device.addresses[-MAX_ADDRESSES:]:
            station._addresses[known.address] = known
        for name in device.names[-MAX_NAMES:]:
            station._names[name.name, name.source] = name
        station.add_vlans(device.vlans)
        station._offers = dict.fromkeys(device.offers[:MAX_SERVICES])
        station._uses = dict.fromkeys(device.uses[:MAX_SERVICES])
        station.packets_sent, station.packets_received = (
            device.packets_sent, device.packets_received,
        )  # fmt: skip
        station.sent, station.received = device.sent, device.received
        station.flows = device.flows
        return station


def is_station(mac: str) -> bool:
    """Whether a single station has this address: neither a group's, nor zero."""
    return not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00"


def is_host(address: Address) -> bool:
    """Whether a host may have this address."""
    if isinstance(address, ipaddress.IPv4Address):
        return 1 << 24 <= int(address) < 224 << 24 and not address.is_loopback
    return not (address.is_multicast or address.is_unspecified or address.is_loopback)
