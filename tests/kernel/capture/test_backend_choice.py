"""The choice of the backend: the host's own traffic, other owners, missing rights."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from netring_bpf import Capture, FlowOptions, Netring, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.bpf.link import XdpLink
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program
from netring_bpf.capture.backend import Opened
from netring_bpf.errors import (
    InterfaceDownError,
    InterfaceInUseError,
    InterfaceNotFoundError,
    KernelFeatureError,
    MemlockError,
    OptionError,
    QueueBusyError,
    XdpBusyError,
)
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.reader import Reader
from tests.support.frames import udp
from tests.support.lab import Namespace, link, xdp_attached
from tests.support.ordinary_user import OrdinaryUser
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

SMALL = XdpOptions(ring_size=64, chunks=128)
LITTLE = TpacketOptions(block_size=1 << 16, block_count=2)

USES = {
    "an IPv4 address": ("addr add 10.9.0.1/24 dev vb", "the address 10.9.0.1/24"),
    "an IPv6 address": ("addr add 2001:db8::1/64 dev vb nodad", "the address 2001:db8::1/64"),
    "a route": ("route add 10.7.0.0/16 dev vb", "a route goes over it (10.7.0.0/16)"),
    "a default route": ("route add default dev vb", "a route goes over it (default/0)"),
    "a macvlan": ("link add mv link vb type macvlan", "mv runs over it"),
    "a bridge": ("link set vb master br0", "a port of br0"),
}


def capture(namespace: Namespace, **options: object) -> Capture:
    return Capture(PORT, netns=namespace.path, xdp=SMALL, tpacket=LITTLE, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", USES)
def test_an_interface_the_host_uses_is_not_redirected_without_its_word(use: str) -> None:
    command, reason = USES[use]
    with wire() as namespace:
        namespace.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/vb/disable_ipv6"])
        namespace.ip("link add br0 type bridge")
        namespace.ip(command)
        with pytest.raises(InterfaceInUseError, match="steal=True") as caught:
            capture(namespace, backend="af_xdp").open()
        assert reason in str(caught.value)
        assert not xdp_attached(namespace, PORT)
        with capture(namespace) as auto:
            assert auto.backend == "tpacket_v3"
            assert auto.fallback_reason is not None
            assert reason in auto.fallback_reason
            assert not xdp_attached(namespace, PORT)
        with capture(namespace, backend="af_xdp", steal=True) as taken:
            assert (taken.backend, taken.fallback_reason) == ("af_xdp", None)
            assert xdp_attached(namespace, PORT)
        assert not xdp_attached(namespace, PORT)


def test_a_capture_port_needs_no_word_whatever_link_local_address_it_has() -> None:
    with wire() as namespace:
        namespace.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/vb/disable_ipv6"])
        namespace.ip("addr add fe80::1/64 dev vb nodad")
        with capture(namespace) as port:
            assert (port.backend, port.attach, port.fallback_reason) == ("af_xdp", "native", None)


def test_the_backend_is_told_from_opening_on_and_after_closing() -> None:
    with wire() as namespace:
        port = capture(namespace, backend="af_xdp")
        assert port.opened == Netring(PORT).opened == Opened()
        with port:
            opened = port.opened
            assert opened == Opened(
                backend="af_xdp", attach="native", xdp=dataclasses.replace(SMALL, chunk_size=2048)
            )
        assert port.opened == opened
        for field in dataclasses.fields(Opened):
            assert getattr(port, field.name) == getattr(opened, field.name)


@contextlib.contextmanager
def everything() -> Iterator[Program]:
    """A program of ours that is on no interface yet."""
    with Maps(1) as maps, Program.load(FilterSet.of(None), maps) as program:
        yield program


def test_another_owner_s_program_is_left_alone() -> None:
    with wire() as namespace, namespace.enter(), everything() as foreign:
        interface = Interface.find(PORT)
        with IPRoute() as route:
            route.link("set", index=interface.index, xdp_fd=foreign.fd)
        before = link(namespace, PORT)["xdp"]["prog"]["id"]
        with pytest.raises(XdpBusyError) as caught:
            capture(namespace, backend="af_xdp").open()
        assert caught.value.program_id == before
        assert f"program id {before}" in str(caught.value)
        with pytest.raises(XdpBusyError, match=f"program id {before}"):
            capture(namespace).open()
        assert link(namespace, PORT)["xdp"]["prog"]["id"] == before


def test_two_captures_by_redirecting_cannot_share_an_interface() -> None:
    with wire() as namespace:
        with capture(namespace, backend="af_xdp") as first:
            for backend in ("af_xdp", "auto"):
                with pytest.raises(XdpBusyError) as caught:
                    capture(namespace, backend=backend).open()
                assert caught.value.pids == (os.getpid(),)
            send_frames(namespace, SENDER, [udp("10.0.0.1", "10.0.0.2", 1, 2)])
            assert len(list(first.packets(count=1, timeout=PATIENCE))) == 1
        with capture(namespace, backend="af_xdp") as again:
            assert again.backend == "af_xdp"


def test_a_queue_that_is_bound_already_is_named() -> None:
    sized = dataclasses.replace(SMALL, chunk_size=2048)
    with wire() as namespace, Reader(FlowOptions()) as other:
        with namespace.enter():
            other.add_xsk(Interface.find(PORT).index, 0, sized, snaplen=65_535)
        # Its owner may attach a program at any time, and then TPACKET_V3 would see nothing.
        for backend in ("af_xdp", "auto"):
            with pytest.raises(QueueBusyError, match="backend='tpacket_v3'") as caught:
                capture(namespace, backend=backend).open()
            assert (caught.value.interface, caught.value.queue) == (PORT, 0)


def test_a_large_mtu_gives_generic_mode_and_says_why() -> None:
    with wire() as namespace:
        namespace.ip(f"link set {SENDER} mtu 9000")
        namespace.ip(f"link set {PORT} mtu 9000")
        with capture(namespace, backend="af_xdp") as port:
            assert port.attach == "generic"
            assert port.attach_reason is not None
            assert "native mode refused" in port.attach_reason
            assert "MTU of 9000" in port.attach_reason
        native = XdpOptions(ring_size=64, chunks=128, mode=XdpMode.NATIVE)
        with pytest.raises(KernelFeatureError, match="MTU of 9000"):
            Capture(PORT, netns=namespace.path, backend="af_xdp", xdp=native).open()
        with Capture(PORT, netns=namespace.path, xdp=native, tpacket=LITTLE) as auto:
            assert auto.backend == "tpacket_v3"


@pytest.mark.parametrize("name", ["nosuch0", "", "x" * 40, "x" * 200, "v\0b", "v\ud800"])
def test_what_no_interface_can_be_called_is_not_found(name: str) -> None:
    with wire() as namespace, pytest.raises(InterfaceNotFoundError) as caught:
        Capture(name, netns=namespace.path).open()
    assert caught.value.interface == name


@pytest.mark.parametrize("name", ["other", "another-and-a-longer-name-of-it"])
def test_an_interface_is_captured_by_another_of_its_names(name: str) -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1000, 53)
    with wire() as namespace:
        namespace.ip(f"link property add dev {PORT} altname {name}")
        with Capture(name, netns=namespace.path, backend="af_xdp", xdp=SMALL) as port:
            send_frames(namespace, SENDER, [frame])
            assert [packet.data for packet in port.packets(count=1, timeout=PATIENCE)] == [frame]


def test_no_such_interface_and_one_that_is_down_are_errors_of_every_backend() -> None:
    with wire() as namespace:
        with pytest.raises(InterfaceNotFoundError, match="`ip link` lists them"):
            Capture("nosuch0", netns=namespace.path).open()
        namespace.ip(f"link set {PORT} down")
        with pytest.raises(InterfaceDownError, match=f"ip link set dev {PORT} up"):
            capture(namespace).open()


def test_no_such_queue_is_an_error_and_no_reason_to_fall_back() -> None:
    with wire() as namespace:
        options = XdpOptions(queues=(5,), ring_size=64, chunks=128)
        for backend in ("af_xdp", "auto"):
            with pytest.raises(OptionError, match="the interface has 1") as caught:
                Capture(PORT, netns=namespace.path, backend=backend, xdp=options).open()  # type: ignore[arg-type]
            assert caught.value.option == "queues"
        assert not xdp_attached(namespace, PORT)


CHILD = """
import sys
from netring_bpf import Capture, TpacketOptions, XdpOptions
xdp = eval(sys.argv[1]) if len(sys.argv) > 1 else None
little = TpacketOptions(block_size=1 << 16, block_count=2)
with Capture("vb", tpacket=little, xdp=xdp) as capture:
    sizes = capture.xdp and (capture.xdp.ring_size, capture.xdp.chunks, capture.xdp.chunk_size)
    print(capture.backend, capture.fallback_reason, sizes, capture.notices, sep="|")
"""


def as_a_user(
    user: OrdinaryUser, namespace: Namespace, *capabilities: str, xdp: str = "None"
) -> subprocess.CompletedProcess[str]:
    """A capture as an ordinary user that has these capabilities, and the usual limits."""
    command = user.command(CHILD, xdp, capabilities=capabilities)
    return namespace.run(["prlimit", "--memlock=8388608:8388608", *command], check=False)


def test_without_cap_bpf_auto_listens_and_says_what_is_missing(ordinary_user: OrdinaryUser) -> None:
    with wire() as namespace:
        done = as_a_user(ordinary_user, namespace, "net_raw")
        assert done.stderr.count("\n") == 1, done.stderr  # the warning, once
        backend, reason, sizes, _ = done.stdout.split("|")
        assert (backend, sizes) == ("tpacket_v3", "None")
        assert "CAP_BPF" in reason


def test_over_the_memory_lock_limit_auto_listens_and_names_limit_and_remedy(
    ordinary_user: OrdinaryUser,
) -> None:
    with wire() as namespace:
        asked = "XdpOptions(ring_size=16384, chunks=32768)"
        done = as_a_user(ordinary_user, namespace, "bpf", "net_admin", "net_raw", xdp=asked)
        backend, reason, _, _ = done.stdout.split("|")
        assert backend == "tpacket_v3"
        assert "UMEM of 65536 KiB is over the memory-lock limit of 8192 KiB" in reason
        assert "ulimit -l" in reason


def test_sizes_that_nobody_gave_are_made_to_fit_under_the_limit_in_words(
    ordinary_user: OrdinaryUser,
) -> None:
    with wire() as namespace:
        done = as_a_user(ordinary_user, namespace, "bpf", "net_admin", "net_raw")
        backend, _, sizes, notices = done.stdout.split("|")
        assert (backend, sizes) == ("af_xdp", "(4096, 4096, 2048)")
        assert "instead of 16384 and 16384: the memory-lock limit is 8192 KiB" in notices
        assert done.stderr.count("\n") == 1, done.stderr  # the warning, once


def test_the_memory_lock_error_has_both_figures() -> None:
    error = MemlockError("", needed=2, limit=1)
    assert (error.needed, error.limit) == (2, 1)


def test_a_refused_attachment_leaves_the_mode_that_was_asked_for() -> None:
    with wire() as namespace, namespace.enter(), everything() as program:
        interface = Interface.find(PORT)
        for mode in XdpMode:
            with XdpLink.attach(interface, program.fd, mode) as attached:
                assert (attached.mode, attached.reason) == (mode, None)
                shown = link(namespace, PORT)["xdp"]["mode"]
                assert shown == {XdpMode.NATIVE: 1, XdpMode.GENERIC: 2}[mode]
            assert not xdp_attached(namespace, PORT)
