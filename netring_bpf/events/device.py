"""The devices of a link, as values, and the events about them."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple, TypeAlias

from netring_bpf.events.plain import count, json_text, text, time_text

__all__ = [
    "Device",
    "DeviceAddress",
    "DeviceChanged",
    "DeviceEvent",
    "DeviceGone",
    "DeviceName",
    "DeviceSeen",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class DeviceAddress(NamedTuple):
    """An address of a device.

    ``address``: an ``ipaddress`` object. ``first``, ``last``: when it was first and latest seen
    with it, in nanoseconds since the Unix epoch. ``is_told``: ARP, neighbour discovery or DHCP said
    so, not only a packet's header.
    """

    address: Address
    first: int
    last: int
    is_told: bool = False


class DeviceName(NamedTuple):
    """A name of a device.

    ``name``: as it was told. ``source``: the protocol that told it, such as ``"dhcp"``. ``first``,
    ``last``: when it was first and latest told, in nanoseconds since the Unix epoch.
    """

    name: str
    source: str
    first: int
    last: int


class Device(NamedTuple):
    """A station of the link, known by its MAC address.

    ``mac``: as ``"02:00:00:00:00:0a"``. ``vendor``: of the address's block, if a registry is
    installed and has it. ``random``: the address is made up by the device itself (locally
    administered), as phones do. ``first``, ``last``: the first and the latest time it was seen, in
    nanoseconds since the Unix epoch. ``addresses``: its IP addresses. ``names``: its names.
    ``vlans``: the VLAN ids of its frames. ``sent`` and ``received``: bytes of whole frames.
    ``packets_sent``, ``packets_received``: frames. ``flows``: the number of those it takes part in.
    ``offers``, ``uses``: application protocols in which it answers, and asks. ``is_gateway``: it is
    the way to addresses that are not of the link.
    """

    mac: str
    first: int
    last: int
    vendor: str | None = None
    random: bool = False
    is_gateway: bool = False
    addresses: tuple[DeviceAddress, ...] = ()
    names: tuple[DeviceName, ...] = ()
    vlans: tuple[int, ...] = ()
    packets_sent: int = 0
    packets_received: int = 0
    sent: int = 0
    received: int = 0
    flows: int = 0
    offers: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The best name: that of DHCP, then mDNS, NetBIOS, DNS, and others; the latest of each."""
        return min(self.names, key=_rank).name if self.names else None

    def to_dict(self) -> dict[str, object]:
        """Return the device as plain values, by the names of docs/events.md."""
        record: dict[str, object] = {"mac": self.mac}
        if self.name is not None:
            record["name"] = text(self.name)
        if self.vendor is not None:
            record["vendor"] = text(self.vendor)
        return record | {
            "random": self.random,
            "is_gateway": self.is_gateway,
            "first": time_text(self.first),
            "last": time_text(self.last),
            "addresses": [str(known.address) for known in self.addresses],
            "names": [{"name": text(n.name), "source": text(n.source)} for n in self.names],
            "vlans": list(self.vlans),
            "packets_sent": count(self.packets_sent),
            "packets_received": count(self.packets_received),
            "bytes_sent": count(self.sent),
            "bytes_received": count(self.received),
            "flows": count(self.flows),
            "offers": list(self.offers),
            "uses": list(self.uses),
        }

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


_SOURCES = ("dhcp", "dhcpv6", "mdns", "netbios", "dns")


def _rank(name: DeviceName) -> tuple[int, int]:
    source = _SOURCES.index(name.source) if name.source in _SOURCES else len(_SOURCES)
    return source, -name.last


class DeviceSeen(NamedTuple):
    """A device that was not known is on the link.

    ``ts``: when, in nanoseconds since the Unix epoch. ``device``: all that is known of it.
    """

    ts: int
    device: Device

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("device_seen", self.ts, self.device)

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


class DeviceChanged(NamedTuple):
    """Something new is known of a device.

    ``ts``: when, in nanoseconds since the Unix epoch. ``device``: all that is known of it.
    ``changed``: the fields of ``Device`` that are new.
    """

    ts: int
    device: Device
    changed: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("device_changed", self.ts, self.device) | {"changed": list(self.changed)}

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


class DeviceGone(NamedTuple):
    """A device is forgotten.

    ``ts``: when, in nanoseconds since the Unix epoch. ``device``: all that is known of it.
    ``reason``: ``"silent"``: not seen for long; ``"evicted"``: it made room for others.
    """

    ts: int
    device: Device
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("device_gone", self.ts, self.device) | {"reason": self.reason}

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


DeviceEvent: TypeAlias = DeviceSeen | DeviceChanged | DeviceGone


def _record(event: str, ts: int, device: Device) -> dict[str, object]:
    return {"event": event, "ts": time_text(ts), **device.to_dict()}
