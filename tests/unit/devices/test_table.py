"""The table of devices, fed with events made by hand."""

from __future__ import annotations

import ipaddress

import pytest

from netring_bpf import (
    App,
    AppEvent,
    Counters,
    DeviceChanged,
    DeviceGone,
    DeviceOptions,
    DeviceSeen,
    DeviceTable,
    Endpoint,
    FiveTuple,
    Flow,
    FlowEnd,
    FlowEnded,
    FlowStarted,
    FlowUpdated,
    NeighbourBy,
    NeighbourSeen,
    Tunnel,
    TunnelKind,
)
from netring_bpf.errors import OptionError
from netring_bpf.events.app import DhcpDetails, DnsAnswer, DnsDetails

SECOND = 1_000_000_000
T = 1_700_000_000 * SECOND
PC, PHONE, ROUTER = "00:16:3e:00:00:0a", "02:16:3e:00:00:0b", "00:16:3e:00:00:01"
GROUP = "ff:ff:ff:ff:ff:ff"


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def flow(
    src: str,
    dst: str,
    macs: tuple[str, str] | None,
    *,
    ident: int = 1,
    orig: tuple[int, int] = (1, 100),
    resp: tuple[int, int] = (0, 0),
    at: int = T,
    **more: object,
) -> Flow:
    key = FiveTuple(
        6,
        Endpoint(ipaddress.ip_address(src).packed, 4000),
        Endpoint(ipaddress.ip_address(dst).packed, 443),
        (7,),
    )
    return Flow(
        ident,
        key,
        at,
        at,
        Counters(*orig, first=at, last=at if orig[0] else 0),
        Counters(*resp, first=at, last=at if resp[0] else 0),
        "",
        macs=None if macs is None else (packed(macs[0]), packed(macs[1])),
        **more,  # type: ignore[arg-type]
    )


def ended(*args: object, at: int = T, **more: object) -> FlowEnded:
    return FlowEnded(at, flow(*args, at=at, **more), FlowEnd.FIN)  # type: ignore[arg-type]


def told(
    address: str, mac: str, how: NeighbourBy = NeighbourBy.ARP_REPLY, at: int = T
) -> NeighbourSeen:
    return NeighbourSeen(at, ipaddress.ip_address(address), mac, how)


def table(vendor: str | None = None, **options: object) -> DeviceTable:
    made = DeviceOptions(change_interval=0, **options)  # type: ignore[arg-type]
    return DeviceTable(made, vendor=lambda mac: vendor)


def addresses(devices: DeviceTable, mac: str) -> list[str]:
    device = devices.get(mac)
    assert device is not None
    return [str(known.address) for known in device.addresses]


def test_a_device_is_seen_once_and_then_changes() -> None:
    devices = table(vendor="Maker")
    [seen] = devices.observe([told("10.0.0.5", PC)])
    assert isinstance(seen, DeviceSeen)
    assert (seen.device.mac, seen.device.vendor, seen.device.random) == (PC, "Maker", False)
    assert [str(known.address) for known in seen.device.addresses] == ["10.0.0.5"]
    assert devices.observe([told("10.0.0.5", PC, at=T + 1)]) == []
    [more] = devices.observe([told("fe80::5", PC)])
    assert isinstance(more, DeviceChanged)
    assert more.changed == ("addresses",)
    assert addresses(devices, PC) == ["10.0.0.5", "fe80::5"]
    assert devices.of("fe80::5") == devices.get(PC)


def test_a_made_up_address_is_random_and_has_no_vendor() -> None:
    devices = table(vendor="Maker")
    devices.observe([told("10.0.0.5", PHONE)])
    device = devices.get(PHONE.upper())
    assert device is not None
    assert (device.random, device.vendor) == (True, None)


def test_both_sides_count_what_they_sent_and_received() -> None:
    devices = table()
    devices.observe([ended("10.0.0.5", "10.0.0.6", (PC, PHONE), orig=(3, 300), resp=(2, 5000))])
    pc, phone = devices.get(PC), devices.get(PHONE)
    assert pc is not None
    assert phone is not None
    assert (pc.packets_sent, pc.sent, pc.packets_received, pc.received) == (3, 300, 2, 5000)
    assert (phone.packets_sent, phone.sent) == (2, 5000)
    assert (phone.packets_received, phone.received) == (3, 300)
    assert (pc.flows, phone.flows, pc.vlans) == (1, 1, (7,))


def test_counters_of_a_living_flow_count_once() -> None:
    devices = table()
    ends = ("10.0.0.5", "10.0.0.6", (PC, PHONE))
    devices.observe(
        [
            FlowStarted(T, flow(*ends, orig=(1, 60))),
            FlowUpdated(T, flow(*ends, orig=(10, 1000), resp=(4, 400))),
            FlowUpdated(T, flow(*ends, orig=(10, 1000), resp=(4, 400))),
            ended(*ends, orig=(12, 1200), resp=(4, 400)),
            ended(*ends, ident=2, orig=(1, 60)),
        ]
    )
    pc = devices.get(PC)
    assert pc is not None
    assert (pc.packets_sent, pc.sent, pc.packets_received, pc.received) == (13, 1260, 4, 400)
    assert pc.flows == 2


def test_flows_beyond_the_kept_ones_count_at_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netring_bpf.devices.table._MAX_FLOWS", 2)
    devices = table()
    for ident in range(4):
        ends = ("10.0.0.5", "10.0.0.6", (PC, PHONE))
        devices.observe([FlowUpdated(T, flow(*ends, ident=ident, orig=(5, 500)))])
    for ident in range(4):
        devices.observe([ended(*ends, ident=ident, orig=(6, 600))])
    pc = devices.get(PC)
    assert pc is not None
    assert (pc.packets_sent, pc.sent, pc.flows) == (24, 2400, 4)
    assert devices.statistics().flows_late == 2


def test_groups_and_silent_targets_are_no_devices() -> None:
    devices = table()
    devices.observe(
        [
            ended("10.0.0.5", "10.0.0.255", (PC, GROUP)),
            ended("10.0.0.5", "10.0.0.6", (PC, PHONE), ident=2),
            ended("127.0.0.1", "127.0.0.1", None, ident=3),
        ]
    )
    assert [device.mac for device in devices] == [PC]


def test_addresses_from_elsewhere_are_of_the_gateway() -> None:
    devices = table(prefixes=["10.0.0.0/24"])
    far = [f"203.0.113.{n}" for n in range(1, 5)]
    events = devices.observe(
        [
            ended("10.0.0.5", address, (PC, ROUTER), ident=n, resp=(1, 100))
            for n, address in enumerate(far)
        ]
    )
    assert addresses(devices, PC) == ["10.0.0.5"]
    assert addresses(devices, ROUTER) == []
    router = devices.get(ROUTER)
    assert router is not None
    assert router.is_gateway
    assert ("is_gateway",) in [e.changed for e in events if isinstance(e, DeviceChanged)]
    assert all(devices.of(address) is None for address in far)


def test_a_private_net_behind_a_router_is_not_of_the_link() -> None:
    devices = table()
    devices.observe([told("192.168.1.1", ROUTER), told("192.168.1.5", PC)])
    devices.observe(
        [
            ended(f"192.168.9.{n}", "192.168.1.5", (ROUTER, PC), ident=n, resp=(1, 60))
            for n in range(1, 10)
        ]
    )
    assert addresses(devices, ROUTER) == ["192.168.1.1"]
    assert addresses(devices, PC) == ["192.168.1.5"]
    assert [str(prefix) for prefix in devices.prefixes] == ["192.168.1.0/24"]


def test_without_any_prefix_a_private_address_is_guessed_until_there_are_many() -> None:
    devices = table()
    devices.observe([ended("10.1.0.5", "10.2.0.1", (PC, ROUTER), resp=(1, 60))])
    assert addresses(devices, PC) == ["10.1.0.5"]
    assert addresses(devices, ROUTER) == ["10.2.0.1"]
    devices.observe(
        [ended("10.1.0.5", f"10.{n}.0.1", (PC, ROUTER), ident=n, resp=(1, 60)) for n in range(3, 6)]
    )
    router = devices.get(ROUTER)
    assert router is not None
    assert router.is_gateway
    assert router.addresses == ()
    assert devices.of("10.2.0.1") is None


def test_a_router_that_carries_a_stations_packets_does_not_take_its_address() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC), told("10.0.0.1", ROUTER)])
    devices.observe([ended("10.0.0.5", "10.0.0.9", (ROUTER, PHONE))])
    assert addresses(devices, PC) == ["10.0.0.5"]
    assert addresses(devices, ROUTER) == ["10.0.0.1"]


def test_an_address_that_another_station_has_now_moves() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC), told("10.0.0.5", PHONE)])
    assert addresses(devices, PC) == []
    assert addresses(devices, PHONE) == ["10.0.0.5"]


def test_prefixes_come_from_routers_and_options_stand_alone() -> None:
    learns, given = table(), table(prefixes=["192.168.0.0/16"])
    advertised = NeighbourSeen(
        T, ipaddress.ip_address("2001:db8::"), ROUTER, NeighbourBy.PREFIX, (), 48
    )
    for devices in (learns, given):
        devices.observe([told("fe80::1", ROUTER, NeighbourBy.ROUTER), advertised])
        router = devices.get(ROUTER)
        assert router is not None
        assert router.is_gateway
    assert [str(prefix) for prefix in learns.prefixes] == ["2001:db8::/48"]
    assert [str(prefix) for prefix in given.prefixes] == ["192.168.0.0/16"]
    learns.observe([ended("2001:db8:0:5::5", "2001:db9::1", (PC, ROUTER))])
    assert addresses(learns, PC) == ["2001:db8:0:5::5"]


def test_the_inside_of_a_tunnel_is_of_no_station() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC)])
    over_udp = Tunnel(TunnelKind.VXLAN, 7, *flow("10.0.0.5", "10.0.0.6", None).key[1:3], 9)
    over_ip = over_udp._replace(kind=TunnelKind.GRE, flow_id=0)
    for ident, around in enumerate((over_udp, over_ip)):
        devices.observe([ended("10.0.0.77", "10.0.0.78", (PC, PHONE), ident=ident, tunnel=around)])
    assert addresses(devices, PC) == ["10.0.0.5"]


def inside(app: App, src: str = "10.0.0.5", macs: tuple[str, str] = (PC, ROUTER)) -> AppEvent:
    return AppEvent(T, flow(src, "10.0.0.1", macs, resp=(1, 100), app=app), app)


def test_dhcp_tells_address_name_prefix_and_router() -> None:
    devices = table()
    given = DhcpDetails(
        mac=PC,
        host_name="pc",
        assigned=("10.0.1.5",),
        routers=("10.0.0.1",),
        prefix_length=16,
    )
    devices.observe([inside(App("dhcp", details=given), src="0.0.0.0")])
    device = devices.get(PC)
    assert device is not None
    assert (addresses(devices, PC), device.name) == (["10.0.1.5"], "pc")
    assert [str(prefix) for prefix in devices.prefixes] == ["10.0.0.0/16"]
    devices.observe([told("10.0.0.1", ROUTER)])
    router = devices.get(ROUTER)
    assert router is not None
    assert router.is_gateway


@pytest.mark.parametrize(
    ("src", "dst", "sender"),
    [("0.0.0.0", "255.255.255.255", PC), ("10.0.0.1", "255.255.255.255", ROUTER)],
)
def test_dhcp_clients_that_share_a_flow_have_their_own_names(
    src: str, dst: str, sender: str
) -> None:
    devices = table()
    for mac, name, given in ((PC, "pc", "10.0.1.5"), (PHONE, "phone", "10.0.1.6")):
        details = DhcpDetails(mac=mac, host_name=name, assigned=(given,))
        app = App("dhcp", details=details)
        of_the_first = flow(src, dst, (sender, "ff:ff:ff:ff:ff:ff"), resp=(1, 100), app=app)
        devices.observe([AppEvent(T, of_the_first, app)])
        device = devices.get(mac)
        assert device is not None
        assert (addresses(devices, mac), device.name) == ([given], name)


def test_a_dhcp_client_behind_a_relay_is_no_device() -> None:
    devices = table()
    given = DhcpDetails(mac="00:16:3f:00:00:99", host_name="far", assigned=("10.9.0.5",))
    devices.observe([inside(App("dhcp", details=given))])
    assert {device.mac for device in devices} == {PC, ROUTER}


def test_answers_name_the_devices_that_have_the_addresses() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC)])
    answers = tuple(
        DnsAnswer("alias.example", "A", 60, data, chained=chained)
        for data, chained in (("10.0.0.5", True), ("10.0.0.77", True), ("no address", True))
    )
    dns = App("dns", details=DnsDetails(query="pc.example", answers=answers))
    mdns = App("mdns", details=DnsDetails(answers=(DnsAnswer("pc.local", "A", 60, "10.0.0.5"),)))
    devices.observe([inside(dns), inside(mdns)])
    device = devices.get(PC)
    assert device is not None
    assert {(n.name, n.source) for n in device.names} == {
        ("pc.example", "dns"), ("pc.local", "mdns"),
    }  # fmt: skip


def test_services_offered_and_used() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC), told("10.0.0.6", PHONE)])
    ends = ("10.0.0.5", "10.0.0.6", (PC, PHONE))
    devices.observe([ended(*ends, resp=(1, 60), app=App("ssh"))])
    pc, phone = devices.get(PC), devices.get(PHONE)
    assert pc is not None
    assert phone is not None
    assert (pc.uses, pc.offers, phone.uses, phone.offers) == (("ssh",), (), (), ("ssh",))


def test_names_by_source_and_the_best_of_them() -> None:
    devices = table()
    devices.observe([told("10.0.0.5", PC)])
    devices.learn_name(PC, "pc.example", "dns", T)
    devices.learn_name(ipaddress.ip_address("10.0.0.5"), "old", "dhcp", T)
    devices.learn_name(PC, "new", "dhcp", T + 1)
    devices.learn_name("00:00:5e:00:00:01", "nobody", "dhcp", T)
    device = devices.get(PC)
    assert device is not None
    assert [(n.name, n.source) for n in device.names] == [
        ("pc.example", "dns"), ("old", "dhcp"), ("new", "dhcp"),
    ]  # fmt: skip
    assert device.name == "new"


def test_changes_of_a_device_wait_for_the_interval() -> None:
    devices = DeviceTable(DeviceOptions(change_interval=10), vendor=lambda mac: None)
    assert [type(e) for e in devices.observe([told("10.0.0.5", PC)])] == [DeviceSeen]
    assert devices.observe([told("fe80::5", PC, at=T + 2 * SECOND)]) == []
    assert devices.tick(T + 9 * SECOND) == []
    [changed] = devices.tick(T + 11 * SECOND)
    assert isinstance(changed, DeviceChanged)
    assert changed.changed == ("addresses",)
    assert devices.tick(T + 30 * SECOND) == []
    devices.learn_name(PC, "a", "dhcp", T + 30 * SECOND)
    devices.learn_name(PC, "b", "dhcp", T + 30 * SECOND)
    assert len(devices.observe([])) == 1
    [last] = devices.finish()
    assert [n.name for n in last.device.names] == ["a", "b"]


def test_a_silent_device_is_gone() -> None:
    devices = table(gone_after=60)
    devices.observe([told("10.0.0.5", PC), told("10.0.0.6", PHONE, at=T + 50 * SECOND)])
    [gone] = devices.tick(T + 61 * SECOND)
    assert isinstance(gone, DeviceGone)
    assert (gone.device.mac, gone.reason) == (PC, "silent")
    assert devices.of("10.0.0.5") is None
    assert isinstance(devices.observe([told("10.0.0.5", PC, at=T + 70 * SECOND)])[0], DeviceSeen)


def test_a_flood_of_stations_pushes_no_settled_one_out() -> None:
    devices = table(max_devices=8)
    devices.observe([told("10.0.0.5", PC), told("10.0.0.5", PC, at=T + 60 * SECOND)])
    flood = [
        told(f"10.0.{n >> 8}.{n & 255}", f"00:16:3f:00:{n >> 8:02x}:{n & 255:02x}",
             at=T + 60 * SECOND + n * SECOND // 50)
        for n in range(1, 2000)
    ]  # fmt: skip
    events = devices.observe(flood)
    books = devices.statistics()
    assert len(devices) == books.known == 8
    assert devices.get(PC) is not None
    assert books.seen == books.known + books.evicted
    assert [e.reason for e in events if isinstance(e, DeviceGone)] == ["evicted"] * books.evicted
    assert len(devices._owners) <= 8


def test_more_new_stations_than_a_second_may_bring_are_counted() -> None:
    devices = table(new_per_second=10)
    devices.observe([told(f"10.0.0.{n}", f"00:16:3f:00:00:{n:02x}") for n in range(1, 31)])
    assert (len(devices), devices.statistics().left_out) == (10, 20)


def test_one_station_with_any_number_of_everything_is_bounded() -> None:
    devices = table()
    for n in range(1, 1000):
        devices.observe([told(f"10.0.{n >> 8}.{n & 255}", PC)])
        devices.learn_name(PC, f"name{n}" * 100, "mdns", T)
    device = devices.get(PC)
    assert device is not None
    assert (len(device.addresses), len(device.names), len(device.name or "")) == (32, 16, 256)
    assert len(devices._owners) == 32


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_devices": 0},
        {"gone_after": 0.0},
        {"prefixes": "10.0.0.0/8"},
        {"prefixes": ["10.0.0.0/33"]},
        {"new_per_second": 0},
        {"change_interval": -1},
        {"save_interval": 0},
    ],
    ids=str,
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        DeviceOptions(**wrong)  # type: ignore[arg-type]
