"""Questions to the kernel: few messages whatever the host is, and in any thread."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import Capture, TpacketOptions
from netring_bpf.capture.capture_port import why_not_capture_port
from netring_bpf.errors import SyscallError
from netring_bpf.interface import Interface, OwnMarks, Promiscuous
from netring_bpf.interface.capture_port import how_routes_use
from netring_bpf.interface.netlink import Netlink
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER, wire
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

LITTLE = TpacketOptions(block_size=1 << 16, block_count=2)
ROUTES = size(2_000, long=20_000)


def add_routes(namespace: Namespace, ifname: str, count: int) -> None:
    lines = (
        f"route add 10.{n >> 8 & 255}.{n & 255}.{n >> 16}/32 dev {ifname}" for n in range(count)
    )
    namespace.run(["ip", "-batch", "-"], input="\n".join(lines))


def test_of_a_router_s_routes_only_those_of_the_interface_are_received() -> None:
    with wire() as namespace, namespace.enter():
        add_routes(namespace, SENDER, ROUTES)
        port, other = Interface.find(PORT), Interface.find(SENDER)
        with Netlink() as kernel:
            assert list(kernel.routes(port.index)) == []
            assert kernel.messages == 0
        assert why_not_capture_port(port) is None
        namespace.ip(f"route add 192.0.2.0/24 dev {PORT}")
        with Netlink() as kernel:
            assert (
                how_routes_use(kernel.routes(port.index)) == "a route goes over it (192.0.2.0/24)"
            )
            assert kernel.messages == 1
        with Netlink() as kernel:
            assert len(list(kernel.routes(other.index))) == ROUTES
            assert kernel.messages == ROUTES


def test_the_reading_stops_at_the_first_route_that_counts() -> None:
    with wire() as namespace, namespace.enter():
        add_routes(namespace, PORT, ROUTES)
        port = Interface.find(PORT)
        with Netlink() as kernel:
            assert how_routes_use(kernel.routes(port.index)) == "a route goes over it (10.0.0.0/32)"
            assert kernel.messages == 1
            assert kernel.link(index=port.index).get_attr("IFLA_IFNAME") == PORT


def test_the_kernels_own_routes_do_not_count_and_another_s_do() -> None:
    with wire() as namespace, namespace.enter():
        namespace.run(["sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{PORT}/disable_ipv6"])
        namespace.ip(f"addr add fe80::1/64 dev {PORT} nodad")
        port = Interface.find(PORT)
        with Netlink() as kernel:
            own = {route.get_attr("RTA_DST") for route in kernel.routes(port.index)}
        assert {"fe80::", "ff00::"} <= own
        assert why_not_capture_port(port) is None
        namespace.ip(f"-6 route add fe80:1::/64 dev {PORT}")
        assert why_not_capture_port(port) == "a route goes over it (fe80:1::/64)"


def test_a_host_of_many_links_is_read_without_parsing_them() -> None:
    with wire() as namespace, namespace.enter():
        lines = (f"link add p{n} type veth peer name q{n}" for n in range(100))
        namespace.run(["ip", "-batch", "-"], input="\n".join(lines))
        port = Interface.find(PORT)
        with Netlink() as kernel:
            # The peer names the port as its link.
            [peer] = kernel.links_over(port.index)
            assert peer.get_attr("IFLA_IFNAME") == SENDER
            assert kernel.messages == 203  # and the loopback
        assert why_not_capture_port(port) is None


def test_our_own_marks_are_left_out_while_we_capture() -> None:
    with wire() as namespace, namespace.enter():
        port = Interface.find(PORT)
        with Promiscuous(port):
            assert why_not_capture_port(port, OwnMarks(promiscuity=1)) is None
            assert "made it promiscuous (1 more" in str(why_not_capture_port(port))
            with Promiscuous(port):
                why = why_not_capture_port(port, OwnMarks(promiscuity=1))
                assert "made it promiscuous (1 more" in str(why)
            namespace.ip(f"link set {PORT} promisc on")
            assert why_not_capture_port(port, OwnMarks(promiscuity=1)) is None
        assert why_not_capture_port(port) is None
        with Capture(PORT, tpacket=LITTLE) as capture:
            assert capture.backend == "af_xdp"
            assert why_not_capture_port(port, OwnMarks(promiscuity=1)) is None


def test_a_macvlan_elsewhere_with_the_ports_own_address_is_found_by_its_groups() -> None:
    with wire() as namespace, Namespace() as elsewhere, namespace.enter():
        port = Interface.find(PORT)
        namespace.ip(f"link add mv0 link {PORT} type macvlan mode passthru nopromisc")
        namespace.ip(f"link set mv0 netns {elsewhere.pid}")
        elsewhere.ip("link set mv0 up")
        why = why_not_capture_port(port)
        assert why is not None
        assert why.startswith("another device runs over it, maybe in another namespace (the group")


def test_what_the_kernel_does_not_answer_is_no_yes() -> None:
    with wire() as namespace, namespace.enter():
        port = Interface.find(PORT)
        namespace.ip(f"link del {PORT}")
        assert why_not_capture_port(port) == (
            "the kernel does not tell who uses it (look for an interface: No such device "
            "(errno 19))"
        )
        with Netlink() as kernel, pytest.raises(SyscallError, match="No such device"):
            kernel.link(index=port.index)


def test_a_capture_opens_in_a_thread_that_runs_an_event_loop() -> None:
    async def run(namespace: Namespace) -> list[str | None]:
        found = []
        for backend in ("auto", "tpacket_v3"):
            with Capture(PORT, netns=namespace.path, backend=backend, tpacket=LITTLE) as capture:  # type: ignore[arg-type]
                assert list(capture.packets(timeout=0.0)) == []
                found.append(capture.backend)
        return found

    with wire() as namespace:
        assert asyncio.run(run(namespace)) == ["af_xdp", "tpacket_v3"]
