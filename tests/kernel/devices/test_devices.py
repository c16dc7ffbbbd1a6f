"""Three stations and a router on a link, as the kernel makes them talk: who is there, and where."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netring_bpf import DeviceOptions, DeviceSeen, FlowOptions, Netring
from netring_bpf.cli.device_printer import HEADER
from tests.kernel.cli.command import COMMAND, LIMIT
from tests.kernel.cli.terminal import Terminal
from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns")

ROUTER, *STATIONS = (f"00:16:3e:00:00:{n:02x}" for n in (1, 10, 11, 12))
LISTENER = "02:00:00:00:00:77"


@dataclass
class Link:
    """``listener`` hears all frames on its ``tap``; ``far`` is behind the router."""

    listener: Namespace
    router: Namespace
    stations: list[Namespace]
    far: Namespace


def _answer_all(host: Namespace) -> None:
    """Have the host answer each datagram, however many come."""
    host.run(["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"])


def _plug(switch: Namespace, host: Namespace, name: str, mac: str) -> None:
    switch.ip(f"link add {name} type veth peer name eth0 address {mac} netns {host.pid}")
    switch.ip(f"link set {name} master br0 up")
    host.run(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0"])
    _answer_all(host)
    host.ip("link set lo up")
    host.ip("link set eth0 up")


@pytest.fixture
def link() -> Iterator[Link]:
    with contextlib.ExitStack() as stack:
        switch, listener, router, far, *stations = (
            stack.enter_context(Namespace()) for _ in range(7)
        )
        # Without ageing the bridge learns nothing: it is a hub.
        switch.ip("link add br0 type bridge ageing_time 0 mcast_snooping 0")
        switch.ip("link set br0 up")
        _plug(switch, listener, "tap", LISTENER)
        listener.run(["sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"])
        _plug(switch, router, "r", ROUTER)
        router.ip("addr add 192.168.7.1/24 dev eth0")
        router.ip(f"link add up0 type veth peer name eth0 netns {far.pid}")
        router.ip("addr add 198.51.100.1/24 dev up0")
        router.ip("link set up0 up")
        router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        _answer_all(far)
        for n in range(2, 6):
            far.ip(f"addr add 198.51.100.{n}/24 dev eth0")
        far.ip("link set eth0 up")
        far.ip("route add default via 198.51.100.1")
        for n, station in enumerate(stations):
            _plug(switch, station, f"s{n}", STATIONS[n])
            station.ip(f"addr add 192.168.7.{10 + n}/24 dev eth0")
            station.ip("route add default via 192.168.7.1")
        yield Link(listener, router, stations, far)


def knock(at: Namespace, address: str) -> None:
    """Send a datagram to a port where nobody listens, and wait for the host to say so."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with at.enter(), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(20)
        scope = (0, socket.if_nametoindex("eth0")) if ":" in address else ()
        sender.connect((address, 9, *scope))
        sender.send(b"knock")
        with pytest.raises(ConnectionRefusedError):
            sender.recv(1)


def talk(link: Link) -> None:
    """The stations knock at each other, the router, and addresses behind it."""
    for n in range(2, 6):
        knock(link.stations[0], f"198.51.100.{n}")
    knock(link.stations[1], "192.168.7.12")
    knock(link.stations[2], "192.168.7.1")
    knock(link.stations[1], "fe80::216:3eff:fe00:c")


@pytest.mark.parametrize("backend", ["af_xdp", "tpacket_v3"])
def test_the_stations_of_a_link(link: Link, backend: str, tmp_path: Path) -> None:
    state = tmp_path / "devices.json"

    async def watch() -> tuple[Netring, list[DeviceSeen]]:
        ring = Netring(
            "eth0",
            netns=link.listener.path,
            backend=backend,  # type: ignore[arg-type]
            steal=True,
            flow=FlowOptions(update_interval=0.5),
            devices=DeviceOptions(state=state),
        )
        seen = ring.subscribe(kinds=DeviceSeen)
        async with ring:
            await asyncio.to_thread(talk, link)
        return ring, [event async for event in seen if isinstance(event, DeviceSeen)]

    ring, seen = asyncio.run(watch())
    found = {device.mac: device for device in ring.devices}
    assert set(found) >= {ROUTER, *STATIONS}
    assert {event.device.mac for event in seen} == set(found)
    assert [mac for mac, device in found.items() if device.is_gateway] == [ROUTER]
    for n, mac in enumerate(STATIONS):
        addresses = {str(known.address) for known in found[mac].addresses}
        assert f"192.168.7.{10 + n}" in addresses
        assert not {a for a in addresses if a.startswith("198.")}
    assert "fe80::216:3eff:fe00:c" in {str(a.address) for a in found[STATIONS[2]].addresses}
    assert found[STATIONS[0]].packets_sent >= 4
    assert found[ROUTER].sent > 0
    assert ring.statistics().balanced
    again, greeted = asyncio.run(watch())
    assert {event.device.mac for event in greeted} & set(found) == set()
    assert len(again.devices) >= len(found)


def test_the_command_prints_them(link: Link) -> None:
    command = [COMMAND, "devices", "-i", "eth0", "--backend", "tpacket_v3", "--json"]
    running = link.listener.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stderr is not None
    assert running.stdout is not None
    while "capturing on" not in (said := running.stderr.readline()):
        assert said != ""
    talk(link)
    running.terminate()
    out, _ = running.communicate(timeout=60)
    macs = {json.loads(line)["mac"] for line in out.splitlines()}
    assert macs >= {ROUTER, *STATIONS}


def test_on_a_terminal_the_table_is_drawn_again_as_it_changes(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    command = ["setsid", "--ctty", COMMAND, "devices", "-i", "eth0", "--backend", "tpacket_v3"]
    with Terminal(200) as terminal:
        running = link.listener.popen(
            command, stdin=terminal.line, stdout=terminal.line, stderr=subprocess.PIPE
        )
        terminal.hand_over()
        try:
            terminal.wait_for(HEADER[:60])  # an empty table comes first
            talk(link)
            for mac in (ROUTER, *STATIONS):
                terminal.wait_for(mac)
            live = terminal.shown
            terminal.type(b"\x03")
            terminal.read_to_the_end()
            assert running.wait(LIMIT) == 0
        finally:
            running.kill()
            _, said = running.communicate()
        shown = terminal.shown
    assert "capturing on eth0" in said
    assert live.count(HEADER[:60]) >= 2
    assert "\x1b[2K" in live  # the one before was erased
    table = shown[shown.rindex(HEADER) :].splitlines()  # printed a last time
    assert {line.split()[0] for line in table[1:]} >= {ROUTER, *STATIONS}
    assert not any("\x1b" in line for line in table)
