"""VLAN filters on live traffic: tcpdump's count, and both backends' beside it."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import IO

import pytest

from netring_bpf import Capture, TpacketOptions
from tests.support.frames import ethernet, icmp_echo, tcp, udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE, wait_until
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc", "tcpdump")

# With the count that follows from the rule in docs/filters.md and the frames below.
EXPRESSIONS = {
    "vlan": 42,
    "vlan 100": 24,
    "vlan 100 and tcp port 80": 3,
    "vlan 200 and vlan 100": 9,
    "vlan and vlan": 18,
    "vlan 100 and vlan 200": 9,
    "tcp port 80": 9,
    "udp": 6,
    "ip6": 3,
    "not vlan": 9,
    "arp or (vlan 7 and arp)": 6,
    "greater 100": 5,
}


def frames() -> list[bytes]:
    """Untagged, tagged and double-tagged, among them a tag that the kernel leaves in place."""
    made: list[bytes] = []
    for vlans in ((), (100,), (7,), (200, 100), (100, 200)):
        made += [tcp("10.0.0.1", "10.0.0.2", n, 80, vlans=vlans) for n in (1, 2, 3)]
        made += [udp("10.0.0.1", "10.0.0.2", 1, 53, bytes(60), vlans=vlans)]
        made += [udp("10.0.0.1", "10.0.0.2", 1, 53, vlans=vlans)]
        made += [icmp_echo("2001:db8::1", "2001:db8::2", 1, 1, vlans=vlans)]
        made += [ethernet(0x0806, bytes(28), vlans=vlans)] * 2
        made += [ethernet(0x88CC, b"lldp", vlans=vlans)]
    old = udp("10.0.0.1", "10.0.0.2", 1, 53)
    made += [old[:12] + b"\x91\x00\x00\x64" + old[12:]] * 6
    return made


def end_of(stream: IO[str], mark: str) -> str:
    for line in stream:
        if mark in line:
            return line
    raise AssertionError(f"tcpdump never said {mark!r}")


def tcpdump_says(namespace: Namespace, expression: str) -> int:
    # With the snaplen it has by itself, tcpdump's ring of 2 MiB holds no more than 32 frames.
    command = ["tcpdump", "-i", PORT, "-n", "-s", "1500", "-w", "/dev/null"]
    command += ["--immediate-mode", "--print", "-l", expression]
    process = namespace.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        end_of(process.stderr, "listening on")
        send_frames(namespace, SENDER, frames())
        for _ in range(EXPRESSIONS[expression]):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    found = re.search(r"(\d+) packets? captured", said)
    received = re.search(r"(\d+) packets? received by filter", said)
    assert found is not None, said
    assert received is not None, said
    assert found[1] == received[1], said
    return int(found[1])


def capture_says(namespace: Namespace, way: str, expression: str) -> int:
    quick = TpacketOptions(block_size=1 << 16, block_count=4, retire_timeout=0.005)
    port = Capture(
        PORT, filter=expression, netns=namespace.path, tpacket=quick, **WAYS[way].options()
    )
    with port:
        offered = send_frames(namespace, SENDER, frames())
        taken = list(port.packets(count=EXPRESSIONS[expression], timeout=PATIENCE))
        taken += port.packets(timeout=0.05)  # there is nothing more
        if way != "tpacket_v3":
            wait_until(lambda: port.statistics().seen == offered)
        books = port.statistics()
    if way != "tpacket_v3":
        assert books.redirected == len(taken)
    assert books.lost == 0
    return len(taken)


@pytest.mark.parametrize("expression", size(list(EXPRESSIONS)[::3], list(EXPRESSIONS)))
def test_tcpdump_and_every_backend_count_the_same_frames(expression: str) -> None:
    with wire() as namespace:
        counts = {way: capture_says(namespace, way, expression) for way in WAYS}
        counts["tcpdump"] = tcpdump_says(namespace, expression)
    assert counts == dict.fromkeys(counts, EXPRESSIONS[expression])
