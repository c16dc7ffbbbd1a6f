"""``Netring.replay(devices=…)``: the devices of a capture file, their events and their file."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, IPv6
from scapy.layers.l2 import ARP, Ether

from netring_bpf import (
    DeviceChanged,
    DeviceOptions,
    DeviceSeen,
    FlowEnded,
    FlowKey,
    FlowOptions,
    Netring,
)
from netring_bpf.errors import DeviceFileError, OptionError
from netring_bpf.events.event import Event
from tests.support.frames import tcp, udp
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap

PC, PHONE, ROUTER = "00:16:3e:00:00:0a", "02:16:3e:00:00:0b", "00:16:3e:00:00:01"


def arp(mac: str, address: str) -> bytes:
    return bytes(
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=1, hwsrc=mac, psrc=address, pdst="192.168.1.1")
    )


def frames() -> list[bytes]:
    found = [arp(mac, f"192.168.1.{n}") for n, mac in ((1, ROUTER), (5, PC), (6, PHONE))]
    found.append(
        bytes(
            Ether(src=ROUTER, dst="33:33:00:00:00:01")
            / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
            / ICMPv6ND_RA()
            / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64)
        )
    )
    for n in range(1, 5):
        far = f"203.0.113.{n}"
        found.append(tcp("192.168.1.5", far, 4000 + n, 443, smac=PC, dmac=ROUTER))
        found.append(tcp(far, "192.168.1.5", 443, 4000 + n, b"x" * 100, flags="SA", ack=1,
                         smac=ROUTER, dmac=PC))  # fmt: skip
    found.append(udp("192.168.1.6", "192.168.1.5", 5353, 5353, b"x", smac=PHONE, dmac=PC))
    return found


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "devices.pcap"
    path.write_bytes(pcap([Frame(f, START + n * SECOND // 10) for n, f in enumerate(frames())]))
    return path


def read(path: Path, devices: DeviceOptions | bool = True) -> tuple[list[Event], Netring]:
    async def all_of() -> tuple[list[Event], Netring]:
        ring = Netring.replay(path, devices=devices, flow=FlowOptions(update_interval=None))
        events = ring.subscribe()
        async with ring:
            found = [event async for event in events]
        return found, ring

    return asyncio.run(all_of())


def test_a_file_has_its_devices(capture: Path) -> None:
    events, ring = read(capture)
    shown = {
        device.mac: (
            [str(known.address) for known in device.addresses],
            device.is_gateway,
            device.flows,
        )
        for device in ring.devices
    }
    assert shown == {
        ROUTER: (["192.168.1.1", "fe80::1"], True, 5),
        PC: (["192.168.1.5"], False, 5),
        PHONE: (["192.168.1.6"], False, 1),
    }
    assert [str(prefix) for prefix in ring.devices.prefixes] == ["192.168.1.0/24", "2001:db8::/64"]
    seen = [event.device.mac for event in events if isinstance(event, DeviceSeen)]
    assert sorted(seen) == sorted(shown)
    assert any(isinstance(event, DeviceChanged) for event in events)
    assert ring.statistics().balanced
    sent = sum(device.sent for device in ring.devices)
    bytes_of_flows = sum(e.flow.bytes for e in events if isinstance(e, FlowEnded))
    assert sent == bytes_of_flows


def test_the_vendor_is_that_of_the_registry(capture: Path) -> None:
    _, ring = read(capture)
    pc, phone = ring.devices.get(PC), ring.devices.get(PHONE)
    assert pc is not None
    assert phone is not None
    assert (pc.vendor is not None, pc.random, phone.vendor, phone.random) == (
        True, False, None, True,
    )  # fmt: skip


def test_a_restart_greets_nobody_anew(capture: Path, tmp_path: Path) -> None:
    options = DeviceOptions(state=tmp_path / "devices.json")
    first, _ = read(capture, options)
    again, ring = read(capture, options)
    assert sum(isinstance(event, DeviceSeen) for event in first) == 3
    assert sum(isinstance(event, DeviceSeen) for event in again) == 0
    pc = ring.devices.get(PC)
    assert pc is not None
    assert pc.flows == 10


def test_a_broken_file_of_devices_ends_the_entry(capture: Path, tmp_path: Path) -> None:
    state = tmp_path / "devices.json"
    state.write_text("{}")
    state.chmod(0o600)
    with pytest.raises(DeviceFileError, match="move it away"):
        read(capture, DeviceOptions(state=state))
    assert state.read_text() == "{}"


def test_every_event_is_json(capture: Path) -> None:
    events, _ = read(capture)
    names = {json.loads(event.to_json())["event"] for event in events}
    assert names >= {"device_seen", "device_changed", "neighbour", "ended"}


def test_a_slow_subscriber_of_a_file_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flood.pcap"
    flood = [
        Frame(arp(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", f"192.168.{n >> 8}.{n & 255}"),
              START + n * SECOND // 50)
        for n in range(1, 1500)
    ]  # fmt: skip
    path.write_bytes(pcap(flood))

    async def slowly() -> tuple[int, bool]:
        ring = Netring.replay(path, buffer=64, devices=DeviceOptions(max_devices=16))
        events = ring.subscribe(name="slow")
        count = 0
        async with ring:
            async for _ in events:
                count += 1
                if count % 10 == 0:
                    await asyncio.sleep(0)
        return events.statistics().lagged, ring.statistics().balanced

    assert asyncio.run(slowly()) == (0, True)


def test_without_the_option_there_is_no_table(capture: Path) -> None:
    _, ring = read(capture, devices=False)
    with pytest.raises(OptionError, match="devices=True"):
        _ = ring.devices


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (FlowOptions(), None),
        (FlowOptions(names="service"), 'names="service" reads none; names="all" does'),
        (FlowOptions(names="off"), 'names="off" reads none; names="all" does'),
        (FlowOptions(key=FlowKey.HOST_PAIR), "flows by FlowKey.HOST_PAIR are not read"),
    ],
)
def test_a_notice_says_why_devices_have_no_names(
    capture: Path, flow: FlowOptions, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def opened(devices: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        ring = Netring.replay(capture, devices=devices, flow=flow)
        before = ring.notices
        async with ring:
            return before, ring.notices

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(opened(devices=False)) == ((), ())
        assert caplog.messages == []
        before, notices = asyncio.run(opened(devices=True))
    assert before == ()
    if reason is None:
        assert (notices, caplog.messages) == ((), [])
        return
    [notice] = notices
    assert notice.startswith("devices have no names: ")
    assert notice.endswith(reason)
    assert caplog.messages == [f"{capture}: {notice}"]


REQUEST_OF_A_NAME = bytes(
    Ether(src=PC, dst="ff:ff:ff:ff:ff:ff")
    / IP(src="0.0.0.0", dst="255.255.255.255")
    / UDP(sport=68, dport=67)
    / BOOTP(chaddr=bytes.fromhex(PC.replace(":", "")), xid=7)
    / DHCP(options=[("message-type", "request"), ("hostname", b"lamp"), "end"])
)


@pytest.mark.parametrize(("names", "shown"), [("all", ["lamp"]), ("service", []), ("off", [])])
def test_the_command_reads_names_as_its_flag_says(
    tmp_path: Path, names: str, shown: list[str]
) -> None:
    path = tmp_path / "named.pcap"
    sent = [*frames(), REQUEST_OF_A_NAME]
    path.write_bytes(pcap([Frame(frame, START + n) for n, frame in enumerate(sent)]))
    command = [Path(sys.executable).with_name("netring-bpf"), "devices", "-r", path, "--json"]
    ran = subprocess.run(
        [*command, "--names", names], capture_output=True, text=True, timeout=60, check=True
    )
    devices = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {device["mac"] for device in devices} == {ROUTER, PC, PHONE}
    assert [name["name"] for device in devices for name in device["names"]] == shown
    said = "" if shown else f'devices have no names: names="{names}" reads none'
    assert said in ran.stderr
    assert ("no names" in ran.stderr) == (not shown)
