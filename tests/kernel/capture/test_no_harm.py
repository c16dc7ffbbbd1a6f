"""``auto`` takes no frame away from anybody: each other user of an interface goes on as before.

Every case counts the frames that the other user gets before a capture, during it and after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from netring_bpf import Capture, TpacketOptions, XdpOptions
from netring_bpf._core import ffi, lib
from netring_bpf.errors import InterfaceInUseError
from netring_bpf.interface import Interface
from netring_bpf.interface.netlink import NETLINK_NETFILTER
from tests.support.frames import udp
from tests.support.lab import Namespace, VethPair, tap, xdp_attached
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

SMALL = XdpOptions(ring_size=64, chunks=128)
LITTLE = TpacketOptions(block_size=1 << 16, block_count=2)
CHILD_MAC = "02:00:00:00:00:77"
COUNT = 20
_ETH_P_ALL = 3


def capture(namespace: Namespace, **options: object) -> Capture:
    return Capture(PORT, netns=namespace.path, xdp=SMALL, tpacket=LITTLE, **options)  # type: ignore[arg-type]


class Listener:
    """An AF_PACKET socket in a namespace, as tcpdump's: what arrives at an interface."""

    def __init__(self, namespace: Namespace, ifname: str) -> None:
        with namespace.enter():
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)
            )
        self._socket.bind((ifname, _ETH_P_ALL))

    def count(self, frame: bytes, wanted: int) -> int:
        """How many of the frame came; waits for ``wanted``, and a moment for one too many."""
        return count_frames(self._socket.fileno(), self._socket.recv, frame, wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def count_frames(fd: int, read: Callable[[int], bytes], frame: bytes, wanted: int) -> int:
    found, deadline = 0, time.monotonic() + PATIENCE
    while select.select([fd], [], [], 0.2 if found >= wanted else 1.0)[0] or found < wanted:
        if time.monotonic() > deadline:
            break
        if select.select([fd], [], [], 0)[0] and frame in read(1 << 16):
            found += 1
    return found


def assert_unharmed(
    namespace: Namespace, reason: str, frame: bytes, count: Callable[[bytes, int], int]
) -> None:
    """The other user gets all frames before, during and after a capture, which sees them too."""

    def offer() -> int:
        sent = send_frames(namespace, SENDER, [frame] * COUNT)
        return count(frame, sent)

    assert offer() == COUNT
    with pytest.raises(InterfaceInUseError) as caught:
        capture(namespace, backend="af_xdp").open()
    assert reason in str(caught.value)
    # The other device also sends: the reports of its own IPv6.
    with capture(namespace, filter="ip") as port:
        assert port.backend == "tpacket_v3"
        assert reason in str(port.fallback_reason)
        assert not xdp_attached(namespace, PORT)
        assert offer() == COUNT
        seen = [p.data for p in port.packets(count=COUNT, timeout=PATIENCE)]
        assert seen == [frame] * COUNT
    assert offer() == COUNT


@pytest.mark.parametrize("mode", ["bridge", "passthru"])
def test_a_macvlan_child_in_another_namespace_keeps_its_frames(mode: str) -> None:
    with wire() as namespace, Namespace() as elsewhere:
        namespace.ip(f"link add mv0 link {PORT} type macvlan mode {mode}")
        namespace.ip(f"link set mv0 netns {elsewhere.pid}")
        if mode == "bridge":
            elsewhere.ip(f"link set mv0 address {CHILD_MAC}")
        elsewhere.ip("link set mv0 up")
        reason = {
            "bridge": f"it takes frames for the hardware address {CHILD_MAC} of another device",
            "passthru": "redirect the traffic of vb: ",
        }[mode]
        with Listener(elsewhere, "mv0") as child:
            frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"to the child", dmac=CHILD_MAC)
            assert_unharmed(namespace, reason, frame, child.count)


@pytest.mark.parametrize("mode", ["bridge", "passthru"])
def test_a_virtual_machine_on_a_macvtap_keeps_its_frames(mode: str) -> None:
    with wire() as namespace, macvtap(namespace, mode) as device:
        frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"to the machine", dmac=CHILD_MAC)
        reason = "mt0 runs over it"

        def count(frame: bytes, wanted: int) -> int:
            return count_frames(device, lambda size: os.read(device, size), frame, wanted)

        assert_unharmed(namespace, reason, frame, count)


@contextlib.contextmanager
def macvtap(namespace: Namespace, mode: str) -> Iterator[int]:
    """The character device of a macvtap, as a virtual machine has it."""
    namespace.ip(f"link add mt0 link {PORT} address {CHILD_MAC} type macvtap mode {mode}")
    namespace.ip("link set mt0 up")
    show = "mount -t sysfs none /sys && cat /sys/class/net/mt0/tap*/dev"
    major, minor = namespace.run(["unshare", "-m", "sh", "-c", show]).stdout.split(":")
    path = Path(f"/tmp/netring-tap-{os.getpid()}")
    os.mknod(path, 0o600 | 0o020000, os.makedev(int(major), int(minor)))
    try:
        with namespace.enter():
            device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        path.unlink()
    try:
        yield device
    finally:
        os.close(device)


def test_a_macvtap_in_another_namespace_is_found_by_its_address() -> None:
    with wire() as namespace, Namespace() as elsewhere:
        namespace.ip(f"link add mt0 link {PORT} address {CHILD_MAC} type macvtap mode bridge")
        namespace.ip(f"link set mt0 netns {elsewhere.pid}")
        elsewhere.ip("link set mt0 up")
        with capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert f"the hardware address {CHILD_MAC}" in str(port.fallback_reason)


def test_who_listened_first_goes_on_listening() -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"for both")
    with wire() as namespace, Listener(namespace, PORT) as first:
        assert_unharmed(
            namespace, "an AF_PACKET socket of user 0 listens on it", frame, first.count
        )


@pytest.mark.requires("tcpdump")
@pytest.mark.parametrize("flags", [(), ("-p",)], ids=["promiscuous", "not promiscuous"])
def test_a_tcpdump_that_was_there_first_goes_on(flags: tuple[str, ...], tmp_path: Path) -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"for both", dmac="ff:ff:ff:ff:ff:ff")
    count = 3 * COUNT
    with wire() as namespace:
        argv = ["tcpdump", "-n", "-l", "-c", str(count), *flags, "-i", PORT]
        tcpdump = namespace.popen(argv, stdout=-1, stderr=-1)
        assert tcpdump.stderr is not None
        while "listening on" not in tcpdump.stderr.readline():
            assert tcpdump.poll() is None
        send_frames(namespace, SENDER, [frame] * COUNT)
        with capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert "an AF_PACKET socket of user" in str(port.fallback_reason)
            send_frames(namespace, SENDER, [frame] * COUNT)
        send_frames(namespace, SENDER, [frame] * COUNT)
        printed, _ = tcpdump.communicate(timeout=PATIENCE)
        assert tcpdump.returncode == 0
        assert printed.count("10.0.0.1.1 > 10.0.0.2.2") == count


def test_a_socket_that_listens_on_every_interface_counts_too() -> None:
    with wire() as namespace:
        with namespace.enter():
            everywhere = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        with everywhere, capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert "listens on all interfaces" in str(port.fallback_reason)
        with capture(namespace) as port:
            assert port.backend == "af_xdp"


def test_a_listener_of_another_interface_or_one_that_only_sends_does_not_count() -> None:
    with wire() as namespace, Listener(namespace, SENDER), contextlib.ExitStack() as stack:
        with namespace.enter():
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        stack.enter_context(sender)
        sender.bind((PORT, 0))
        with capture(namespace) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


def test_the_administrators_promiscuity_is_nobody_who_listens() -> None:
    with wire() as namespace:
        namespace.ip(f"link set {PORT} promisc on")
        with capture(namespace) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


def test_an_interface_that_takes_every_multicast_frame_is_in_use() -> None:
    with wire() as namespace:
        namespace.ip(f"link set {PORT} allmulticast on")
        with capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert "IFLA_ALLMULTI" in str(port.fallback_reason)


@pytest.mark.parametrize(
    "hops",
    [
        ("nexthop add id 1 dev vb", "route add 10.7.0.0/16 nhid 1"),
        (
            "nexthop add id 1 dev va",
            "nexthop add id 2 dev vb",
            "nexthop add id 3 group 1/2",
            "route add 10.7.0.0/16 nhid 3",
        ),
        ("nexthop add id 1 dev vb", "-6 route add 2001:db8::/64 nhid 1"),
        ("route add 10.7.0.0/16 nexthop dev va nexthop dev vb",),
        ("route add 10.7.0.0/16 dev vb table 100",),
        ("-6 route add 2001:db8::/64 dev vb table 100",),
    ],
    ids=["object", "group", "IPv6 object", "multipath", "other table", "other table, IPv6"],
)
@pytest.mark.parametrize("compatible", [0, 1])
def test_each_way_to_route_over_an_interface_counts(hops: tuple[str, ...], compatible: int) -> None:
    with wire() as namespace:
        shell = (
            f"echo {compatible} >/proc/sys/net/ipv4/nexthop_compat_mode; "
            f"echo 0 >/proc/sys/net/ipv6/conf/{PORT}/disable_ipv6"
        )
        namespace.run(["sh", "-c", shell])
        for hop in hops:
            # Of an object of IPv6 its family must be told.
            family = "-6 " if hops[-1].startswith("-6") and hop.startswith("nexthop") else ""
            namespace.ip(family + hop)
        with capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert "a route goes over it (" in str(port.fallback_reason)


def test_a_route_over_another_interface_does_not_count() -> None:
    with wire() as namespace:
        namespace.ip(f"route add 10.7.0.0/16 dev {SENDER}")
        namespace.ip(f"nexthop add id 1 dev {SENDER}")
        namespace.ip("route add 10.8.0.0/16 nhid 1")
        with capture(namespace) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


@pytest.mark.parametrize("kind", ["bridge", "tap", "macvlan", "vxlan"])
def test_a_kind_that_carries_others_traffic_is_no_capture_port(kind: str) -> None:
    with wire() as namespace, contextlib.ExitStack() as stack:
        match kind:
            case "tap":
                stack.enter_context(tap(namespace, "x0"))
            case "macvlan":
                namespace.ip(f"link add x0 link {SENDER} type macvlan")
            case "vxlan":
                namespace.ip("link add x0 type vxlan id 5 remote 10.0.0.9 dstport 4789")
            case _:
                namespace.ip(f"link add x0 type {kind}")
        namespace.ip("link set x0 up")
        shown = {"tap": "tun"}.get(kind, kind)
        with Capture("x0", netns=namespace.path, tpacket=LITTLE) as port:
            assert port.backend == "tpacket_v3"
            assert f"it is of the kind {shown}" in str(port.fallback_reason)
        with pytest.raises(InterfaceInUseError, match=f"it is of the kind {shown}"):
            Capture("x0", netns=namespace.path, backend="af_xdp").open()


def test_a_bridge_with_steal_is_not_redirected_where_that_loses() -> None:
    with wire() as namespace:
        namespace.ip("link add x0 type bridge")
        namespace.ip("link set x0 up")
        with Capture("x0", netns=namespace.path, tpacket=LITTLE, steal=True) as port:
            assert port.backend == "tpacket_v3"
            assert "in generic mode a virtual link (bridge)" in str(port.fallback_reason)


def test_a_vxlan_over_the_interface_counts() -> None:
    with wire() as namespace:
        namespace.ip(f"link add vx0 type vxlan id 5 remote 10.0.0.9 dstport 4789 dev {PORT}")
        with capture(namespace) as port:
            assert port.backend == "tpacket_v3"
            assert "vx0 runs over it" in str(port.fallback_reason)


def test_a_tc_filter_keeps_the_frames_that_it_sends_elsewhere() -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"mirrored")
    with wire() as namespace, Namespace() as elsewhere:
        VethPair(namespace, "out", elsewhere, "in")
        namespace.run(["tc", "qdisc", "add", "dev", PORT, "clsact"])
        with capture(namespace) as port:  # the place alone does nothing
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)
        redirect = "u32 match u32 0 0 action mirred egress redirect dev out"
        where = ["tc", "filter", "add", "dev", PORT, "ingress", "protocol", "all"]
        namespace.run([*where, *redirect.split()])
        with Listener(elsewhere, "in") as target:
            assert_unharmed(namespace, "a tc filter (u32) handles what it", frame, target.count)


def nla(kind: int, value: bytes | str | int) -> bytes:
    """An attribute of nftables: its numbers have the byte order of the network."""
    if isinstance(value, int):
        value = struct.pack("!I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def forward_by_nftables(namespace: Namespace, hook: bytes, out: int) -> None:
    """A chain of nftables at a device's ingress, with the rule ``fwd to`` another."""
    netdev, nested, request, ack, create = 5, 0x8000, 0x1, 0x4, 0x400
    chain = nla(1, "t") + nla(3, "c") + nla(4 | nested, hook) + nla(7, "filter")
    immediate = nla(1, 1) + nla(2 | nested, nla(1, struct.pack("=I", out)))
    expressions = (("immediate", immediate), ("fwd", nla(1, 1)))
    elements = b"".join(nla(1 | nested, nla(1, n) + nla(2 | nested, d)) for n, d in expressions)
    rule = nla(1, "t") + nla(2, "c") + nla(4 | nested, elements)
    batch, nftables = struct.pack("!BBH", 0, 0, 10), struct.pack("!BBH", netdev, 0, 0)
    messages = [(16, batch)]
    messages += [(10 << 8, nftables + nla(1, "t"))]
    messages += [(10 << 8 | 3, nftables + chain), (10 << 8 | 6, nftables + rule), (17, batch)]
    data = b""
    for sequence, (kind, body) in enumerate(messages):
        flags = request | (create | ack if kind > 17 else 0)
        data += struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    with namespace.enter():
        netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    with netfilter:
        netfilter.bind((0, 0))
        netfilter.send(data)
        for _ in range(3):
            error = -struct.unpack_from("=i", netfilter.recv(1 << 16), 16)[0]
            if error in {errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT}:
                pytest.skip(f"this kernel has no such chains: {os.strerror(error)}")
            assert error == 0, os.strerror(error)


@pytest.mark.parametrize("by", ["name", "names", "prefix"])
def test_a_chain_of_nftables_keeps_the_frames_that_it_forwards(by: str) -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"forwarded")
    device = {
        "name": nla(3, PORT),
        "names": nla(4 | 0x8000, nla(1, PORT)),
        "prefix": nla(4 | 0x8000, nla(2, "v")),
    }[by]
    with wire() as namespace, Namespace() as elsewhere:
        VethPair(namespace, "out", elsewhere, "in")
        with namespace.enter():
            out = Interface.find("out").index
        forward_by_nftables(namespace, nla(1, 0) + nla(2, 0) + device, out)
        with Listener(elsewhere, "in") as target:
            reason = "a chain of nftables (t c) handles what it receives"
            assert_unharmed(namespace, reason, frame, target.count)
        with capture(namespace, backend="af_xdp", steal=True) as port:
            assert port.backend == "af_xdp"


def test_a_tc_filter_of_what_the_host_sends_does_not_count() -> None:
    with wire() as namespace:
        namespace.run(["tc", "qdisc", "add", "dev", PORT, "clsact"])
        where = ["tc", "filter", "add", "dev", PORT, "egress", "protocol", "all"]
        namespace.run(
            [*where, *f"u32 match u32 0 0 action mirred egress mirror dev {SENDER}".split()]
        )
        with capture(namespace) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


@contextlib.contextmanager
def tcx(namespace: Namespace, ifname: str, target: str) -> Iterator[None]:
    """A tcx program at the ingress of an interface that redirects all frames out of another."""
    with namespace.enter():
        source, out = Interface.find(ifname).index, Interface.find(target).index
        code = b"".join(
            struct.pack("<BBhi", *one)
            for one in (
                (0xB7, 1, 0, out),  # r1 = out
                (0xB7, 2, 0, 0),  # r2 = 0: leave by it
                (0x85, 0, 0, 23),  # r0 = bpf_redirect(r1, r2)
                (0x95, 0, 0, 0),  # return r0
            )
        )
        sched_cls, count = 3, len(code) // 8
        program = lib.nr_program_load(sched_cls, ffi.from_buffer(code), count, ffi.NULL, 0)
        assert program >= 0, os.strerror(-program)
        attribute = struct.pack("=IIII32x", program, source, 46, 0)  # BPF_TCX_INGRESS
        libc = ctypes.CDLL(None, use_errno=True)
        link = libc.syscall(321, 28, attribute, len(attribute))  # bpf(BPF_LINK_CREATE)
        error = ctypes.get_errno()
    os.close(program)
    if link < 0 and error == errno.EINVAL:
        pytest.skip("this kernel has no tcx")
    assert link >= 0, os.strerror(error)
    try:
        yield
    finally:
        os.close(link)


def test_a_tcx_program_keeps_the_frames_that_it_sends_elsewhere() -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, b"redirected")
    with wire() as namespace, Namespace() as elsewhere:
        VethPair(namespace, "out", elsewhere, "in")
        with tcx(namespace, PORT, "out"), Listener(elsewhere, "in") as target:
            assert_unharmed(namespace, "a tcx program (id ", frame, target.count)
        with capture(namespace) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


@pytest.mark.parametrize(("mtu", "reason"), [
    (9000, "frames of its MTU of 9000 are longer than the 3840 bytes that a chunk of 4096 carries"),
    (3700, "in generic mode a virtual link (veth) brings segments"),
])  # fmt: skip
def test_auto_takes_no_way_that_is_known_to_lose(mtu: int, reason: str) -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(mtu - 28))
    with wire() as namespace:
        namespace.ip(f"link set {SENDER} mtu {mtu}")
        namespace.ip(f"link set {PORT} mtu {mtu}")
        with Capture(PORT, netns=namespace.path, xdp=SMALL) as port:
            assert port.backend == "tpacket_v3"
            assert reason in str(port.fallback_reason)
            send_frames(namespace, SENDER, [frame] * COUNT)
            seen = [p.data for p in port.packets(count=COUNT, timeout=PATIENCE)]
            assert seen == [frame] * COUNT


def test_a_chunk_that_is_asked_for_is_judged_by_its_own_size() -> None:
    small = XdpOptions(ring_size=64, chunks=128, chunk_size=2048)
    with wire() as namespace:
        namespace.ip(f"link set {SENDER} mtu 2000")
        namespace.ip(f"link set {PORT} mtu 2000")
        with Capture(PORT, netns=namespace.path, xdp=small, tpacket=LITTLE) as port:
            assert port.backend == "tpacket_v3"
            assert "1792 bytes that a chunk of 2048 carries" in str(port.fallback_reason)
        with Capture(PORT, netns=namespace.path, xdp=SMALL, tpacket=LITTLE) as port:
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)
