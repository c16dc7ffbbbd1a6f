"""The judgement of an interface, by netlink messages written after the kernel's headers.

The kinds that the kernel at hand lacks (bond, team, VLAN, IPVLAN, PPP, WireGuard, …) are here.
Layouts: linux/if_link.h, linux/rtnetlink.h, linux/if_addr.h, linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from netring_bpf.interface import OwnMarks
from netring_bpf.interface.capture_port import (
    how_addresses_use,
    how_filters_use,
    how_kind_uses,
    how_listeners_use,
    how_multicast_uses,
    how_promiscuity_uses,
    how_routes_use,
    how_unicast_uses,
    how_uppers_use,
)
from netring_bpf.interface.netlink import parse

PORT = 7
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWTFILTER = 16, 20, 24, 28, 44
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 5, 10, 18
IFLA_PROMISCUITY, IFLA_LINK_NETNSID, IFLA_ALLMULTI = 30, 37, 61
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_VXLAN_LINK = 1, 2, 3
IFF_UP, IFF_LOOPBACK, IFF_PROMISC = 0x1, 0x8, 0x100
OWN_MAC = bytes.fromhex("020000000001")
NOTHING = OwnMarks()


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes) -> Any:
    [parsed] = parse(struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body)
    return parsed


def link(
    index: int = PORT,
    *,
    name: str = "eth1",
    kind: str | None = None,
    flags: int = IFF_UP,
    data: bytes = b"",
    promiscuity: int | None = 0,
    allmulti: int | None = 0,
    **attributes: int,
) -> Any:
    """An RTM_NEWLINK: struct ifinfomsg, and attributes."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 1, index, flags, 0)
    body += attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_ADDRESS, OWN_MAC)
    if kind is not None:
        info = attribute(IFLA_INFO_KIND, kind.encode() + b"\0")
        body += attribute(IFLA_LINKINFO, info + (attribute(IFLA_INFO_DATA, data) if data else b""))
    for number, value in ((IFLA_PROMISCUITY, promiscuity), (IFLA_ALLMULTI, allmulti)):
        if value is not None:
            body += attribute(number, u32(value))
    for name_, value in attributes.items():
        body += attribute(globals()[f"IFLA_{name_.upper()}"], u32(value))
    return message(RTM_NEWLINK, body)


# -- the link itself --


@pytest.mark.parametrize("kind", [None, "veth"])
def test_hardware_and_a_veth_can_be_capture_ports(kind: str | None) -> None:
    assert how_kind_uses(link(kind=kind)) is None


@pytest.mark.parametrize(
    "kind",
    [
        "bond", "team", "vlan", "ipvlan", "ipvtap", "macvlan", "macvtap", "tun", "bridge", "ppp",
        "wireguard", "vxlan", "geneve", "gre", "gretap", "macsec", "vrf", "dummy", "ifb", "netkit",
        "hsr", "openvswitch", "xfrm", "a kind that nobody knows yet",
    ],
)  # fmt: skip
def test_no_other_kind_can(kind: str) -> None:
    assert how_kind_uses(link(kind=kind)) == (
        f"it is of the kind {kind}, whose frames are for somebody else"
    )


@pytest.mark.parametrize("master", ["bond0", "team0", "br0", "vrf-blue", "ovs-system"])
def test_the_port_of_a_master_is_none(master: str) -> None:
    assert how_kind_uses(link(master=3), master) == f"it is a port of {master}"
    assert how_kind_uses(link(master=3)) == "it is a port of another interface"


def test_the_loopback_is_none() -> None:
    assert how_kind_uses(link(1, name="lo", flags=IFF_UP | IFF_LOOPBACK)) == (
        "it is the loopback interface, which carries the host's own traffic"
    )


# -- devices over it --


@pytest.mark.parametrize(
    "kind", ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "dsa", "gretap", None]
)
def test_a_device_over_it_uses_it(kind: str | None) -> None:
    upper = link(9, name="upper", kind=kind, link=PORT)
    assert how_uppers_use(PORT, [link(8, name="other", kind="vlan", link=6), upper]) == (
        "upper runs over it"
    )


def test_a_vxlan_names_the_link_that_it_runs_over_in_its_data() -> None:
    vxlan = link(9, name="vx0", kind="vxlan", data=attribute(IFLA_VXLAN_LINK, u32(PORT)))
    assert how_uppers_use(PORT, [vxlan]) == "vx0 runs over it"
    assert how_uppers_use(PORT + 1, [vxlan]) is None


def test_a_peer_or_a_link_of_another_namespace_is_no_device_over_it() -> None:
    links = [
        link(8, name="peer", kind="veth", link=PORT),
        link(9, name="moved in", kind="vlan", link=PORT, link_netnsid=0),
    ]
    assert how_uppers_use(PORT, links) is None


# -- addresses and routes --


def address(family: int, value: str, length: int, scope: int = 0, local: str = "") -> Any:
    body = struct.pack("=BBBBI", family, length, 0, scope, PORT)
    body += attribute(1, socket.inet_pton(family, value))
    if local:
        body += attribute(2, socket.inet_pton(family, local))
    return message(RTM_NEWADDR, body)


def test_only_a_link_local_address_of_ipv6_is_no_use() -> None:
    link_local = address(socket.AF_INET6, "fe80::1", 64, scope=253)
    assert how_addresses_use([]) is None
    assert how_addresses_use([link_local]) is None
    for used, said in (
        (address(socket.AF_INET, "10.9.0.1", 24), "10.9.0.1/24"),
        (address(socket.AF_INET, "169.254.0.9", 16, scope=253), "169.254.0.9/16"),
        (address(socket.AF_INET6, "2001:db8::1", 64), "2001:db8::1/64"),
        (address(socket.AF_INET, "10.0.0.2", 32, local="10.0.0.1"), "10.0.0.1/32"),
    ):
        assert how_addresses_use([link_local, used]) == f"it has the address {said}"


def route(family: int, destination: str | None, length: int, protocol: int, **more: int) -> Any:
    """An RTM_NEWROUTE: struct rtmsg, and RTA_DST (1), RTA_OIF (4) or RTA_NH_ID (30)."""
    body = struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, protocol, 0, 1, 0)
    if destination is not None:
        body += attribute(1, socket.inet_pton(family, destination))
    for number, value in (("oif", 4), ("nh_id", 30)):
        if number in more:
            body += attribute(value, u32(more[number]))
    return message(RTM_NEWROUTE, body)


KERNEL, BOOT, STATIC, BGP = 2, 3, 4, 186


def test_only_the_kernels_own_link_local_and_multicast_routes_are_no_use() -> None:
    own = [
        route(socket.AF_INET6, "fe80::", 64, KERNEL, oif=PORT),
        route(socket.AF_INET6, "fe80::1", 128, KERNEL, oif=PORT),
        route(socket.AF_INET6, "ff00::", 8, KERNEL, oif=PORT),
    ]
    assert how_routes_use(own) is None
    for used, said in (
        (route(socket.AF_INET, "10.7.0.0", 16, STATIC, oif=PORT), "10.7.0.0/16"),
        (route(socket.AF_INET, None, 0, BOOT, oif=PORT), "default/0"),
        (route(socket.AF_INET, "10.7.0.0", 16, KERNEL, oif=PORT), "10.7.0.0/16"),
        (route(socket.AF_INET, "224.0.0.0", 4, BOOT, oif=PORT), "224.0.0.0/4"),
        (route(socket.AF_INET6, "fe80::", 64, BOOT, oif=PORT), "fe80::/64"),
        (route(socket.AF_INET6, "2001:db8::", 32, BGP, oif=PORT), "2001:db8::/32"),
        # With nexthop_compat_mode=0 a route by an object has no RTA_OIF.
        (route(socket.AF_INET, "10.8.0.0", 16, STATIC, nh_id=5), "10.8.0.0/16"),
    ):
        assert how_routes_use([*own, used]) == f"a route goes over it ({said})"


# -- those who listen --


def neighbour(mac: str, flags: int = 2, index: int = PORT) -> Any:
    body = struct.pack("=BxxxiHBB", socket.AF_BRIDGE, index, 0x80, flags, 0)
    return message(RTM_NEWNEIGH, body + attribute(2, bytes.fromhex(mac.replace(":", ""))))


def test_another_unicast_address_in_the_filter_list_is_a_child() -> None:
    quiet = [
        neighbour("33:33:00:00:00:01"),
        neighbour("01:00:5e:00:00:01"),
        neighbour("02:00:00:00:00:01"),  # its own
        neighbour("02:00:00:00:00:99", flags=4),  # what a bridge has learned behind it
        neighbour("02:00:00:00:00:99", index=PORT + 1),
    ]
    assert how_unicast_uses(link(), quiet) is None
    assert how_unicast_uses(link(), [*quiet, neighbour("02:00:00:00:00:77")]) == (
        "it takes frames for the hardware address 02:00:00:00:00:77 of another device (a macvlan "
        "or macvtap, maybe in another namespace)"
    )


PACKETS = """\
sk               RefCnt Type Proto  Iface R Rmem   User   Inode
0000000000000000 3      3    {proto}   {bound}     1 0      {user}   4711
"""


@pytest.mark.parametrize(
    ("proto", "bound", "said"),
    [
        ("0003", PORT, "listens on it"),
        ("0800", PORT, "listens on it"),
        ("0003", 0, "listens on all interfaces"),
        ("0003", PORT + 1, None),
        ("0000", PORT, None),
        ("0000", 0, None),
    ],
)
def test_a_socket_that_receives_is_somebody_who_listens(
    proto: str, bound: int, said: str | None
) -> None:
    table = PACKETS.format(proto=proto, bound=bound, user=1000)
    expected = said and (
        f"an AF_PACKET socket of user 1000 {said} (inode 4711), as tcpdump's does, and would go "
        "blind"
    )
    assert how_listeners_use(PORT, table, NOTHING) == expected
    assert how_listeners_use(PORT, table, OwnMarks(sockets=frozenset({4711}))) is None


@pytest.mark.parametrize(
    ("counted", "flags", "ours", "others"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (1, IFF_PROMISC, 0, 0),
        (2, IFF_PROMISC, 0, 1),
        (1, 0, 1, 0),
        (2, IFF_PROMISC, 1, 0),
        (4, IFF_PROMISC, 1, 2),
    ],
)
def test_promiscuity_counts_without_the_administrator_and_us(
    counted: int, flags: int, ours: int, others: int
) -> None:
    said = how_promiscuity_uses(
        link(promiscuity=counted, flags=IFF_UP | flags), OwnMarks(promiscuity=ours)
    )
    if others:
        assert said is not None
        assert said.startswith(f"somebody made it promiscuous ({others} more than")
    else:
        assert said is None


def test_allmulti_counts_and_a_kernel_that_lacks_it_says_nothing() -> None:
    assert how_promiscuity_uses(link(allmulti=None), NOTHING) is None
    assert how_promiscuity_uses(link(allmulti=1), NOTHING) == (
        "somebody receives every multicast frame of it (IFLA_ALLMULTI)"
    )
    assert how_promiscuity_uses(link(promiscuity=None), NOTHING) == (
        "the kernel does not tell who made it promiscuous"
    )


def test_two_users_of_the_group_of_all_hosts_are_two_devices() -> None:
    alone = (
        "7    eth1            1     0     333300000001\n"
        "7    eth1            1     0     01005e000001\n"
        "7    eth1            2     0     0180c200000e\n"
        "8    eth2            2     0     01005e000001\n"
    )
    assert how_multicast_uses(PORT, alone) is None
    assert how_multicast_uses(PORT + 1, alone) == (
        "another device runs over it, maybe in another namespace (the group 01005e000001 has 2 "
        "users)"
    )


@pytest.mark.parametrize("kind", ["u32", "bpf", "matchall", "flower"])
def test_any_filter_of_tc_counts(kind: str) -> None:
    body = struct.pack("=BxxxiIII", 0, PORT, 1, 0xFFFF_FFF2, 0)
    one = message(RTM_NEWTFILTER, body + attribute(1, kind.encode() + b"\0"))
    assert how_filters_use([]) is None
    assert how_filters_use([one]) == f"a tc filter ({kind}) handles what it receives"
