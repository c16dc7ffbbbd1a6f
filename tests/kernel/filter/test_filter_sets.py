"""Sets of addresses in the kernel: in XDP and in a socket's filter, swapped, counted, refused."""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import Capture, Filter, TpacketOptions
from netring_bpf.bpf import program as program_module
from netring_bpf.bpf.engines import EngineName, open_engine
from netring_bpf.errors import FilterError
from tests.support.frames import ethernet, tcp, udp
from tests.support.grammar import Frames
from tests.support.ordinary_user import OrdinaryUser
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

F = Filter
THREE_CAPABILITIES = 1 << 12 | 1 << 13 | 1 << 39
V4 = ["10.0.0.1", "10.1.2.3", "8.8.8.8", "224.0.0.1"]
V6 = ["2001:db8::1", "fe80::1", "2001:db8:1::53"]
NETS = ["10.0.0.0/31", "172.16.0.0/12", "2001:db8::/64", "192.168.1.1"]
CASES = {
    "hosts": F.hosts(V4 + V6),
    "nets": F.nets(NETS),
    "combined": (F.src_hosts(V4) | F.nets(NETS)) & ~F.port(53),
    "behind a tag": F.vlan() & F.hosts(V4 + V6),
    "behind a chain": F("ip6 proto 44 or tcp") & F.dst_nets(NETS),
    "empty": F.hosts([]) | F.arp,
    "behind labels": F.mpls() & F.hosts(V4),
}
QUICK = TpacketOptions(block_size=1 << 16, block_count=2, retire_timeout=0.005)


def options(way: str) -> dict[str, Any]:
    return {"tpacket": QUICK, **WAYS[way].options()}


def frames(count: int, source: str = "10.0.0.1", port: int = 7, **more: Any) -> list[bytes]:
    target = "10.250.0.2" if ":" not in source else "2001:db8:ffff::2"
    return [udp(source, target, 4000 + n, port, **more) for n in range(count)]


@functools.cache
def drawn(seed: int) -> tuple[bytes, ...]:
    return tuple(Frames(seed).batch(size(1500, 15_000)))


def held_by(engine: EngineName) -> list[int]:
    return [-1, THREE_CAPABILITIES] if engine == "xdp" else [-1]


@pytest.mark.parametrize("name", size(["hosts", "combined", "behind a tag"], list(CASES)))
@pytest.mark.parametrize("engine", ["xdp", "tpacket"])
def test_in_the_kernel_a_set_decides_as_on_bytes(
    name: str, engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = CASES[name]
    arp = ethernet(0x0806, bytes(14) + bytes(map(int, V4[1].split("."))) + bytes(12))
    some = [*drawn(3), arp]
    expected = [wanted.matches(frame) for frame in some]
    assert any(expected)
    for held in held_by(engine):
        monkeypatch.setattr(program_module, "effective", lambda held=held: held)
        with open_engine(engine, wanted) as runs:
            assert [runs.matches(frame, len(frame)) for frame in some] == expected


@pytest.mark.parametrize("name", size(["hosts", "behind a tag"], list(CASES)))
def test_a_live_filter_with_a_set_sees_frames_without_their_tag(name: str) -> None:
    wanted = CASES[name].for_interface("lo")
    some = drawn(4)
    with open_engine("xdp", wanted) as runs:
        said = [runs.matches(frame, len(frame)) for frame in some]
    assert said == [wanted.matches(frame) for frame in some]
    assert any(said)


def test_libpcap_has_no_sets() -> None:
    with pytest.raises(FilterError, match="libpcap does not know"):
        open_engine("libpcap", CASES["hosts"])


@pytest.mark.parametrize("way", WAYS)
def test_a_capture_takes_what_is_in_the_set_and_swaps_it(way: str) -> None:
    first = F.hosts(["10.0.0.1", "2001:db8::1"]) & F.udp
    second = F.nets(["10.1.0.0/16", "2001:db8:2::/48", "10.0.0.3"]) & F.udp
    offered = [
        *frames(3, "10.0.0.1"), *frames(5, "10.1.7.7"), *frames(7, "2001:db8::1"),
        *frames(11, "2001:db8:2::9"), *frames(13, "10.0.0.3"), *frames(17, "10.2.0.1"),
        *frames(2, "10.0.0.1", vlans=(7,)), *frames(4, "2001:db8::1", vlans=(7,)),
        tcp("10.0.0.1", "10.1.0.1", 1, 2), tcp("10.1.0.1", "10.0.0.3", 1, 2),
    ]  # fmt: skip

    def takes(port: Capture, count: int) -> list[bytes]:
        send_frames(namespace, SENDER, offered)
        return [packet.data for packet in port.packets(count=count, timeout=PATIENCE)]

    with (
        wire() as namespace,
        Capture(PORT, filter=first, netns=namespace.path, **options(way)) as port,
    ):
        expected = [*offered[:3], *offered[8:15], *offered[56:62]]
        assert takes(port, len(expected)) == expected
        port.set_filter(second)
        expected = [*offered[3:8], *offered[15:39]]
        assert takes(port, len(expected)) == expected
        port.set_filter("tcp")
        assert takes(port, 2) == offered[62:]
        port.set_filter({"one": F.src_hosts(["10.0.0.1"]), "all": F.nets(["10.0.0.0/8"])})
        expected = [f for f in offered if f[12:14] == b"\x08\0" or f[16:18] == b"\x08\0"]
        assert takes(port, len(expected)) == expected
        assert port.statistics().matches == {"one": 6, "all": len(expected)}
        books = port.statistics()
        assert books.received == 16 + 29 + 2 + len(expected)
    assert [str(law) for law in port.statistics().equations() if not law.holds] == []
    if way != "tpacket_v3":
        [queue] = port.statistics().queues
        assert (queue.seen, queue.redirected) == (4 * len(offered), books.received)


def test_a_hundred_thousand_networks_are_in_force_within_two_seconds() -> None:
    networks = [str(ipaddress.ip_network((0x0B00_0000 + 512 * n, 24))) for n in range(100_000)]
    with wire() as namespace, Capture(PORT, filter=F.nets(networks[:2]), netns=namespace.path,
                 **options("native")) as port:  # fmt: skip
        begin = time.monotonic()
        port.set_filter(F.nets(networks))
        took = time.monotonic() - begin
        last = ipaddress.ip_network(networks[-1])
        inside, outside = str(last[9]), str(last.network_address + 256)
        send_frames(namespace, SENDER, frames(3, outside) + frames(2, inside))
        taken = [p.data for p in port.packets(count=2, timeout=PATIENCE)]
        assert taken == frames(2, inside)
    # The bound is for a machine with nothing else to do; it takes half a second there.
    assert took < size(20, 2)


CHILD = """
import sys
from netring_bpf import Capture, Filter
from netring_bpf.errors import PermissionDeniedError
for backend in ("af_xdp", "tpacket_v3"):
    try:
        Capture(sys.argv[1], filter=Filter.hosts(["10.0.0.1"]), backend=backend, steal=True).open()
    except PermissionDeniedError as error:
        print(error.capability)
"""


def test_a_set_without_the_capability_is_an_error_that_names_it() -> None:
    with wire() as namespace, OrdinaryUser.with_a_copy() as user:
        held = ("net_raw", "net_admin")
        done = namespace.run(user.command(CHILD, PORT, capabilities=held))
    assert done.stdout == "CAP_BPF\nCAP_BPF\n"


REFUSED = """
import errno, sys
from netring_bpf import Filter
from netring_bpf.bpf.set_maps import SetMaps
from tests.support.seccomp import BPF, deny
deny(BPF, int(sys.argv[1]), first_argument=int(sys.argv[2]))
try:
    SetMaps(Filter.nets(["10.0.0.0/8", "11.0.0.1"]).sets)
except Exception as error:
    print(type(error).__name__, getattr(error, "resource", getattr(error, "capability", None)))
    print(error)
"""


@pytest.mark.parametrize(
    ("error", "command", "kind", "remedy"),
    [
        (12, 0, "ResourceLimitError memory", "name fewer hosts and nets"),
        (12, 2, "ResourceLimitError memory", "name fewer hosts and nets"),
        (7, 0, "ResourceLimitError memory", "MemoryMax="),
        (1, 0, "PermissionDeniedError ", "seccomp"),
        (1, 2, "PermissionDeniedError ", "seccomp"),
        (38, 0, "KernelFeatureError", "seccomp"),
        (22, 0, "SyscallError", "make a set of 1 hosts in the kernel"),
    ],
)
def test_a_map_that_the_kernel_refuses_is_an_error_with_the_remedy(
    error: int, command: int, kind: str, remedy: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(error), str(command)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    first, told = done.stdout.splitlines()
    assert first.startswith(kind)
    assert remedy in told


def maps_open() -> int:
    """The descriptors of maps in this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "bpf-map" in os.readlink(descriptor)
    return found


def test_a_swap_leaves_no_map_open() -> None:
    with wire() as namespace:
        settings = {"netns": namespace.path, **options("native")}
        before = maps_open()
        with Capture(PORT, filter=F.hosts(V4), **settings) as port:
            opened = maps_open()
            for n in range(4):
                port.set_filter(F.hosts(V4[n % 2 :]))
            assert maps_open() == opened
        assert maps_open() == before
