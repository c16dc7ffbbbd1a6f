"""The table of devices, made of flow events and of what ARP and neighbour discovery tell.

Pure: no clock, no input or output but ``save()`` and ``load()``. Whatever the traffic, the table
stays within its bounds, and counts what it left out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, get_args

from netring_bpf.devices.options import DeviceOptions, Network
from netring_bpf.devices.prefixes import Prefixes
from netring_bpf.devices.state import State, read_state, write_state
from netring_bpf.devices.station import Station, is_host, is_station
from netring_bpf.devices.vendors import vendor_of
from netring_bpf.events.app import DhcpDetails, DnsDetails
from netring_bpf.events.device import (
    Address,
    Device,
    DeviceChanged,
    DeviceEvent,
    DeviceGone,
    DeviceSeen,
)
from netring_bpf.events.event import (
    AppEvent,
    Event,
    FlowEnded,
    FlowEvent,
    NeighbourBy,
    NeighbourSeen,
)
from netring_bpf.events.flow import Counters, Flow
from netring_bpf.events.select import LazyBatch

__all__ = ["DUE_PER_EVENT", "DeviceStatistics", "DeviceTable"]

#: With each event that is taken in, so many are told that were due before.
DUE_PER_EVENT: Final = 2
_SECOND: Final = 1_000_000_000
_SETTLED: Final = 60 * _SECOND  # seen for so long, a device is no passing one
_PASSING_PART: Final = 4  # passing devices have this part of the table at least
_MAX_FLOWS: Final = 262_144  # live flows whose counters are kept
_MAX_ROUTERS: Final = 64
_MAX_HELD: Final = 4096  # devices whose changes wait for their time
_DUE_AT_ONCE: Final = 1024  # events of one tick
_ETHERNET: Final = 6  # bytes of a MAC address


@dataclass(frozen=True, slots=True)
class DeviceStatistics:
    """The books of a table of devices: seen + loaded = known + gone, summed.

    ``known``: devices in the table. ``seen``, ``loaded``: those that came, anew or from a file.
    ``gone``: devices that were silent for long. ``evicted``: devices that made room for others.
    ``left_out``: new ones beyond those that a second may bring. ``flows_late``: live flows beyond
    those whose counters are kept, which count at their end.
    """

    known: int
    seen: int
    loaded: int
    gone: int
    evicted: int
    left_out: int
    flows_late: int


class DeviceTable:
    """The devices of a link.

    ``Netring(devices=True)`` has one, and feeds it. To make one of other events, call
    ``observe()``. Iterate it for the devices, the latest seen one last.

    ``vendor``: returns the vendor of a MAC address, or None.
    """

    def __init__(
        self,
        options: DeviceOptions | None = None,
        *,
        vendor: Callable[[str], str | None] = vendor_of,
    ) -> None:
        self._options = options or DeviceOptions()
        self._vendor = vendor
        self._prefixes = Prefixes(self._options.networks)
        self._passing: OrderedDict[str, Station] = OrderedDict()
        self._settled: OrderedDict[str, Station] = OrderedDict()
        self._owners: dict[Address, str] = {}  # of the addresses of all devices
        self._routers: OrderedDict[Address, None] = OrderedDict()
        self._flows: OrderedDict[int, tuple[int, int, int, int]] = OrderedDict()
        self._held: OrderedDict[str, None] = OrderedDict()
        self._found: list[DeviceEvent] = []
        self._greeted: list[Station] = []  # new by the present event, which tells more of them
        self._now = 0
        self._next = 0  # when to look again for what is due
        self._second = 0
        self._new = 0  # in that second
        self._seen = self._loaded = self._gone = self._evicted = self._left_out = 0
        self._late = 0

    # -- reading --

    def __len__(self) -> int:
        return len(self._passing) + len(self._settled)

    def __iter__(self) -> Iterator[Device]:
        stations = [*self._passing.values(), *self._settled.values()]
        return iter([s.device() for s in sorted(stations, key=lambda station: station.last)])

    def get(self, mac: str) -> Device | None:
        """Return the device of a MAC address; None if it is not known."""
        station = self._find(mac.lower())
        return None if station is None else station.device()

    def of(self, address: str | Address) -> Device | None:
        """Return the device that has an IP address; None if none is known to have it."""
        mac = self._owners.get(ipaddress.ip_address(address))
        return None if mac is None else self.get(mac)

    def seen_since(self, ts: int) -> int:
        """Return how many devices were seen at this time or later."""
        found = 0
        for stations in (self._passing, self._settled):
            for station in reversed(stations.values()):  # the latest seen one is the last
                if station.last < ts:
                    break
                found += 1
        return found

    @property
    def prefixes(self) -> Sequence[Network]:
        """The prefixes of the link: given, or learned so far."""
        return self._prefixes.all

    def statistics(self) -> DeviceStatistics:
        """Return the books."""
        return DeviceStatistics(
            known=len(self),
            seen=self._seen,
            loaded=self._loaded,
            gone=self._gone,
            evicted=self._evicted,
            left_out=self._left_out,
            flows_late=self._late,
        )

    # -- feeding --

    def observe(self, events: Iterable[Event]) -> list[DeviceEvent]:
        """Take events in; returns what happened to the devices. Other events are passed over."""
        if isinstance(events, LazyBatch):
            places = events.places((*_FLOW_EVENTS, NeighbourSeen))
            events = events.at(places)
        taken = 0
        for taken, event in enumerate(events, 1):  # noqa: B007 - their number
            if isinstance(event, NeighbourSeen):
                self._on_neighbour(event)
            elif isinstance(event, _FLOW_EVENTS):
                self._on_flow(event)
                if isinstance(event, AppEvent):
                    self._on_app(event)
            if self._greeted:
                self._greet()
        if self._now >= self._next:
            self._tell_due(DUE_PER_EVENT * taken)
        return self._told()

    def tick(self, ts: int) -> list[DeviceEvent]:
        """Tell what is due by this time: devices that are gone, changes that had to wait."""
        self._advance(ts)
        self._tell_due(_DUE_AT_ONCE)
        return self._told()

    def finish(self) -> list[DeviceEvent]:
        """Tell the changes that still wait, at the end."""
        for mac in self._held:
            if (station := self._find(mac)) is not None:
                self._tell_change(station)
        self._held.clear()
        return self._told()

    def learn_name(self, who: str | Address, name: str, source: str, ts: int) -> None:
        """Give a device a name. ``who``: its MAC address, or an IP address of its own.

        A name of a device that is not known is passed over.
        """
        mac = self._owners.get(who) if not isinstance(who, str) else who.lower()
        station = self._find(mac) if mac is not None else None
        if station is not None and name:
            station.add_name(name, source, ts)
            self._note_change(station)

    def learn_prefix(self, network: Network) -> None:
        """Take a prefix of the link, which somebody told who knows it; given ones stay alone."""
        self._prefixes.learn(network)

    def learn_gateway(self, address: Address) -> None:
        """Take the device of this address for a gateway, now or once it is known."""
        self._routers[address] = None
        if len(self._routers) > _MAX_ROUTERS:
            self._routers.popitem(last=False)
        mac = self._owners.get(address)
        if mac is not None and (station := self._find(mac)) is not None:
            station.become_gateway()
            self._note_change(station)

    def learn_address(self, mac: str, address: Address, ts: int) -> None:
        """Take an address of the link that a device was given, or said to have."""
        if is_station(mac) and is_host(address) and (station := self._at(mac, ts)) is not None:
            self._prefixes.learn_around(address)
            self._bind(station, address, ts, is_told=True)
            self._note_change(station)

    # -- events --

    def _on_neighbour(self, event: NeighbourSeen) -> None:
        self._advance(event.ts)
        if event.how is NeighbourBy.PREFIX:
            assert event.prefix_length is not None
            network = ipaddress.ip_network((event.address, event.prefix_length), strict=False)
            self._prefixes.learn(network)
            return
        self.learn_address(event.mac, event.address, event.ts)
        station = self._find(event.mac)
        if station is not None:
            station.add_vlans(event.vlans)
            if event.how is NeighbourBy.ROUTER:
                station.become_gateway()
            self._note_change(station)

    def _on_flow(self, event: FlowEvent) -> None:
        flow = event.flow
        self._advance(event.ts)
        if flow.macs is None or (flow.tunnel is not None and flow.tunnel.flow_id):
            return  # the tunnel's own flow has the addresses and the bytes of the frames
        is_new = flow.id not in self._flows
        gained = self._gained(flow, ended=isinstance(event, FlowEnded))
        if gained is None:
            return
        orig_packets, orig_bytes, resp_packets, resp_bytes = gained
        service = None if flow.app is None else flow.app.protocol
        for side, mac, counters in (
            ("orig", flow.macs[0], flow.orig),
            ("resp", flow.macs[1], flow.resp),
        ):
            station = self._of_side(mac.hex(":"), counters, flow)
            if station is None:
                continue
            if side == "orig":
                station.packets_sent += orig_packets
                station.sent += orig_bytes
                station.packets_received += resp_packets
                station.received += resp_bytes
            else:
                station.packets_sent += resp_packets
                station.sent += resp_bytes
                station.packets_received += orig_packets
                station.received += orig_bytes
            station.flows += is_new
            self._follow_address(station, flow, side, counters)
            if service and not station.is_gateway and counters.packets:
                station.add_service(service, offers=side == "resp")
            self._note_change(station)

    def _on_app(self, event: AppEvent) -> None:
        details, protocol = event.app.details, event.app.protocol
        if isinstance(details, DhcpDetails):
            self._on_dhcp(event, details, protocol)
        elif isinstance(details, DnsDetails):
            for answer in details.answers:
                if answer.type in _ADDRESSES and (answer.chained or protocol != "dns"):
                    asked = details.query if protocol == "dns" else answer.owner
                    self._name_address(answer.data, asked, protocol, event.ts)

    def _on_dhcp(self, event: AppEvent, details: DhcpDetails, protocol: str) -> None:
        """Take what a client was given. One behind a relay is not on this link."""
        mac = details.mac
        if mac is None or not _is_of_this_link(event.flow, mac):
            return
        for text in details.assigned:
            address = _address_of(text)
            if address is None:
                continue
            if details.prefix_length is not None and details.prefix_length <= address.max_prefixlen:
                self.learn_prefix(
                    ipaddress.ip_network((address, details.prefix_length), strict=False)
                )
            self.learn_address(mac, address, event.ts)
        for text in details.routers:
            if (router := _address_of(text)) is not None:
                self.learn_gateway(router)
        for name in (details.host_name, details.client_fqdn):
            if name:
                self.learn_name(mac, name, protocol, event.ts)

    def _name_address(self, text: str, name: str | None, source: str, ts: int) -> None:
        address = _address_of(text)
        if address is not None and name:
            self.learn_name(address, name, source, ts)

    def _gained(self, flow: Flow, *, ended: bool) -> tuple[int, int, int, int] | None:
        """Return what the flow's counters have gained since its last event.

        None: nothing is counted now, but all of it at the flow's end.
        """
        now = (flow.orig.packets, flow.orig.bytes, flow.resp.packets, flow.resp.bytes)
        before = self._flows.pop(flow.id, (0, 0, 0, 0))
        if not ended:
            if before == (0, 0, 0, 0) and len(self._flows) >= _MAX_FLOWS:
                self._late += 1
                return None
            self._flows[flow.id] = now
        return (now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3])

    def _of_side(self, mac: str, counters: Counters, flow: Flow) -> Station | None:
        """Return the station of a side, if it is one: one that has sent nothing is not new."""
        if not is_station(mac):
            return None
        if counters.packets == 0:
            return self._find(mac)
        station = self._at(mac, counters.last or flow.last)
        if station is not None:
            station.add_vlans(flow.key.vlans)
        return station

    def _follow_address(self, station: Station, flow: Flow, side: str, counters: Counters) -> None:
        """Note the address of this side: it is the station's own, or somewhere behind it."""
        around, key = flow.tunnel, flow.key
        ends = key if around is None else around
        packed = ends.orig.packed if side == "orig" else ends.resp.packed
        if len(packed) == _ETHERNET:
            return
        address = ipaddress.ip_address(packed)
        if not is_host(address) or self._owners.get(address) == station.mac:
            if is_host(address):
                station.add_address(address, flow.last, is_told=False)
            return
        owner = self._owners.get(address)
        if owner is not None and self._is_told(owner, address):
            return  # a router carries the packets of another station of the link
        if self._prefixes.has(address):
            if counters.packets and not station.is_gateway:
                self._bind(station, address, flow.last, is_told=False)
        elif self._prefixes.are_known or address.is_global or not counters.packets:
            station.note_remote(address)
        else:
            self._take_guess(station, address, flow.last)

    def _take_guess(self, station: Station, address: Address, ts: int) -> None:
        """Take a private address for the station's own, as long as nothing is known of the link.

        Several of one version are behind a router.
        """
        guessed = [known for known in station.untold() if known.version == address.version]
        if station.is_gateway:
            return
        if len(guessed) < _GUESSES:
            self._bind(station, address, ts, is_told=False)
            return
        station.become_gateway()
        for known in guessed:
            self._unbind(station, known)

    def _is_told(self, mac: str, address: Address) -> bool:
        station = self._find(mac)
        return station is not None and address not in station.untold()

    # -- stations --

    def _find(self, mac: str) -> Station | None:
        return self._passing.get(mac) or self._settled.get(mac)

    def _at(self, mac: str, ts: int) -> Station | None:
        """Return the station, which was there at this time; None: a new one has no room now."""
        station = self._find(mac)
        if station is None:
            return self._begin(mac, ts)
        station.see(ts)
        if mac in self._settled:
            self._settled.move_to_end(mac)
        elif station.last - station.first >= _SETTLED:
            del self._passing[mac]
            self._settled[mac] = station
        else:
            self._passing.move_to_end(mac)
        return station

    def _begin(self, mac: str, ts: int) -> Station | None:
        second = self._now // _SECOND
        if second != self._second:
            self._second, self._new = second, 0
        if self._new >= self._options.new_per_second:
            self._left_out += 1
            return None
        self._new += 1
        while len(self) >= self._options.max_devices:
            self._forget(self._victim(), "evicted")
        station = Station(mac, ts, None if int(mac[:2], 16) & 2 else self._vendor(mac))
        self._passing[mac] = station
        self._seen += 1
        self._greeted.append(station)
        return station

    def _victim(self) -> Station:
        """Return the device that makes room: a passing one, once those have their part.

        A flood of made-up addresses pushes no settled device out.
        """
        part = max(1, self._options.max_devices // _PASSING_PART)
        if len(self._passing) >= part or not self._settled:
            return next(iter(self._passing.values()))
        return next(iter(self._settled.values()))

    def _forget(self, station: Station, reason: str) -> None:
        self._passing.pop(station.mac, None)
        self._settled.pop(station.mac, None)
        self._held.pop(station.mac, None)
        self._greet()
        device = station.device()
        for known in device.addresses:
            if self._owners.get(known.address) == station.mac:
                del self._owners[known.address]
        if reason == "evicted":
            self._evicted += 1
        else:
            self._gone += 1
        self._found.append(DeviceGone(self._now, device, reason))

    def _bind(self, station: Station, address: Address, ts: int, *, is_told: bool) -> None:
        """Give the address to the station, and take it from another."""
        owner = self._owners.get(address)
        if owner is not None and owner != station.mac:
            other = self._find(owner)
            if other is not None:
                other.drop_address(address)
        self._owners[address] = station.mac
        if address in self._routers:
            station.become_gateway()
        dropped = station.add_address(address, ts, is_told=is_told)
        if dropped is not None and self._owners.get(dropped) == station.mac:
            del self._owners[dropped]

    def _unbind(self, station: Station, address: Address) -> None:
        station.drop_address(address)
        if self._owners.get(address) == station.mac:
            del self._owners[address]

    # -- telling --

    def _advance(self, ts: int) -> None:
        self._now = max(self._now, ts)

    def _greet(self) -> None:
        """Tell the new devices, with what is known of them by now."""
        for station in self._greeted:
            station.pending.clear()
            station.told = self._now
            self._found.append(DeviceSeen(self._now, station.device()))
        self._greeted.clear()

    def _told(self) -> list[DeviceEvent]:
        self._greet()
        found, self._found = self._found, []
        return found

    def _tell_due(self, most: int) -> None:
        """Tell at most so many of what is due; the rest comes with the next call."""
        left = most
        for mac in list(islice(self._held, most)):
            station = self._find(mac)
            if station is None or not station.pending:
                del self._held[mac]
            elif self._is_time(station):
                del self._held[mac]
                self._tell_change(station)
                left -= 1
            else:
                self._held.move_to_end(mac)
        if self._options.gone_after is not None:
            before = self._now - int(self._options.gone_after * _SECOND)
            for stations in (self._passing, self._settled):
                while left > 0 and stations:
                    oldest = next(iter(stations.values()))
                    if oldest.last >= before:
                        break
                    self._forget(oldest, "silent")
                    left -= 1
        if left > 0:
            self._next = self._now + _SECOND

    def _is_time(self, station: Station) -> bool:
        return self._now - station.told >= int(self._options.change_interval * _SECOND)

    def _note_change(self, station: Station) -> None:
        """Tell a change now, or once the interval since the latest event has passed."""
        if not station.pending or station in self._greeted:
            return
        if self._is_time(station):
            self._held.pop(station.mac, None)
            self._tell_change(station)
        else:
            self._hold(station)

    def _hold(self, station: Station) -> None:
        if station.mac not in self._held and len(self._held) < _MAX_HELD:
            self._held[station.mac] = None

    def _tell_change(self, station: Station) -> None:
        if station.pending:
            changed = tuple(station.pending)
            station.pending.clear()
            station.told = self._now
            self._found.append(DeviceChanged(self._now, station.device(), changed))

    # -- the file --

    def save(self, path: str | Path) -> None:
        """Write the table to a file that only its owner can read, in one step.

        Raises ``DeviceFileError``.
        """
        write_state(Path(path), self.state())

    def state(self) -> State:
        """Return what ``save()`` writes, for a thread to write it."""
        return State(tuple(self), self._prefixes.all, self._now)

    def load(self, path: str | Path) -> None:
        """Take in the devices of a saved file, without events. Known devices stay as they are.

        Raises ``DeviceFileError`` if the file is not there, is not one of ours, or is broken.
        """
        state = read_state(Path(path))
        for network in state.prefixes:
            self._prefixes.learn(network)
        room = self._options.max_devices - len(self)
        for device in state.devices[-room:] if room > 0 else ():
            if self._find(device.mac) is not None:
                continue
            station = Station.of(device)
            self._settled[device.mac] = station
            for known in device.addresses:
                self._owners.setdefault(known.address, device.mac)
            self._loaded += 1


def _is_of_this_link(flow: Flow, client: str) -> bool:
    """Return whether a DHCP message came from the client, or to it, without a relay.

    Clients without an address, and all that is sent to each of them, share one flow. So its MAC
    addresses are those of the first of them.
    """
    ends = {mac.hex(":") for mac in flow.macs or ()}
    shares = not any(flow.key.orig.packed) or flow.key.resp.packed == _BROADCAST
    return client in ends or shares


def _address_of(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_ADDRESSES: Final = frozenset({"A", "AAAA", "NB"})
_BROADCAST: Final = bytes([255] * 4)
_GUESSES: Final = 2  # addresses of one version that a device may have before anything is known
_FLOW_EVENTS: Final[tuple[type[FlowEvent], ...]] = get_args(FlowEvent)
