"""Tells whether an interface is a capture port: one that nobody but a capture uses.

Redirecting takes frames away from everybody else, so it needs an interface that is shown to have
no other user. Each function here judges one answer of the kernel and returns in words how the
interface is used, or None. The words complete the sentence "redirect the traffic of X: …".

- kind: a physical interface or a veth. Frames of any other kind are for somebody else.
- master, upper devices: they take the frames of the interface.
- addresses, routes: the host uses it. The kernel's own link-local ones do not count.
- the unicast filter list: it has the address of a macvlan or a macvtap, whichever namespace the
  child lives in.
- the multicast list: a device over the interface joins the group of all hosts once more.
- AF_PACKET sockets, promiscuity, IFLA_ALLMULTI: somebody listens, or a macvlan is in passthru mode.
- tc filters, and chains of nftables at its ingress: they may send frames elsewhere.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netring_bpf.errors import SyscallError
from netring_bpf.interface.interface import Interface, kind_of
from netring_bpf.interface.netlink import NETLINK_NETFILTER, Chain, Netlink

__all__ = [
    "NOTHING_OF_OURS",
    "OwnMarks",
    "how_addresses_use",
    "how_chains_use",
    "how_filters_use",
    "how_it_is_used",
    "how_kind_uses",
    "how_listeners_use",
    "how_multicast_uses",
    "how_promiscuity_uses",
    "how_routes_use",
    "how_the_host_uses",
    "how_unicast_uses",
    "how_uppers_use",
]

_IFF_LOOPBACK, _IFF_PROMISC = 0x8, 0x100
_SCOPE_LINK = 253
_RTPROT_KERNEL = 2
_NTF_SELF = 0x2
_KERNELS_OWN: Final = (ipaddress.ip_network("fe80::/10"), ipaddress.ip_network("ff00::/8"))
_ALL_HOSTS: Final = {"01005e000001", "333300000001"}
_PEERS = {"veth", "netkit", "vxcan"}  # they name their peer where an upper device names its lower
_MULTICAST_TABLE = Path("/proc/thread-self/net/dev_mcast")
_PACKET_TABLE = Path("/proc/thread-self/net/packet")


@dataclass(frozen=True, slots=True)
class OwnMarks:
    """The marks that our own capture leaves on the interface, which are not held against it."""

    promiscuity: int = 0  #: the number of our promiscuous memberships
    sockets: frozenset[int] = frozenset()  #: inodes of our AF_PACKET sockets
    programs: frozenset[int] = frozenset()  #: ids of our programs on the interface


NOTHING_OF_OURS: Final = OwnMarks()


def how_it_is_used(interface: Interface, own: OwnMarks = NOTHING_OF_OURS) -> str | None:
    """Say in words how others use the interface; None if it is shown that nobody does.

    Takes about ten small requests. If the kernel does not answer one, the words say so.
    """
    try:
        with Netlink() as kernel:
            link = kernel.link(index=interface.index)
            return (
                _how_the_host_uses(kernel, link)
                or how_listeners_use(interface.index, _read(_PACKET_TABLE), own)
                or how_promiscuity_uses(link, own)
                or how_filters_use(kernel.ingress_filters(interface.index))
                or how_chains_use(interface.name, _chains())
            )
    except SyscallError as error:
        return f"the kernel does not tell who uses it ({error})"


def how_the_host_uses(interface: Interface) -> str | None:
    """Say in words how the interface carries traffic of the host or of a guest; None if it is not.

    Unlike ``how_it_is_used``, this leaves out those that only listen. Raises ``SyscallError``.
    """
    with Netlink() as kernel:
        return _how_the_host_uses(kernel, kernel.link(index=interface.index))


def _how_the_host_uses(kernel: Netlink, link: Any) -> str | None:
    index = link["index"]
    master = link.get_attr("IFLA_MASTER")
    return (
        how_kind_uses(link, _name_of(kernel, master) if master else None)
        or how_addresses_use(kernel.addresses(index))
        or how_routes_use(kernel.routes(index))
        or how_uppers_use(index, kernel.links_over(index))
        or how_unicast_uses(link, kernel.hardware_addresses(index))
        or how_multicast_uses(index, _read(_MULTICAST_TABLE))
    )


def _read(table: Path) -> str:
    try:
        return table.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and table.parent.is_dir():
            return ""  # the module is not loaded, so there is nothing of its kind
        raise SyscallError(f"read {table}", error.errno or errno.EIO) from error


def _chains() -> list[Chain]:
    """Return the chains of nftables; none if the kernel has no nftables, or has not loaded it."""
    try:
        with Netlink(NETLINK_NETFILTER) as kernel:
            return kernel.chains()
    except SyscallError as error:
        if error.errno in {errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL}:
            return []
        raise


def _name_of(kernel: Netlink, index: int) -> str:
    try:
        return str(kernel.link(index=index).get_attr("IFLA_IFNAME"))
    except SyscallError:  # it is gone meanwhile
        return "another interface"


def how_kind_uses(link: Any, master: str | None = None) -> str | None:
    """Judge the link itself; ``master`` is the name of its master."""
    if link["flags"] & _IFF_LOOPBACK:
        return "it is the loopback interface, which carries the host's own traffic"
    if link.get_attr("IFLA_MASTER"):
        return f"it is a port of {master or 'another interface'}"
    kind = kind_of(link)
    if kind not in {None, "veth"}:
        return f"it is of the kind {kind}, whose frames are for somebody else"
    return None


def how_addresses_use(addresses: Iterable[Any]) -> str | None:
    """Judge the addresses of the interface."""
    for address in addresses:
        if address["family"] == socket.AF_INET6 and address["scope"] == _SCOPE_LINK:
            continue
        given = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        return f"it has the address {given}/{address['prefixlen']}"
    return None


def how_routes_use(routes: Iterable[Any]) -> str | None:
    """Judge routes over the interface, up to the first that counts."""
    for route in routes:
        destination = route.get_attr("RTA_DST")
        if (
            route["family"] == socket.AF_INET6
            and route["proto"] == _RTPROT_KERNEL
            and destination is not None
            and any(ipaddress.ip_address(destination) in own for own in _KERNELS_OWN)
        ):
            continue
        return f"a route goes over it ({destination or 'default'}/{route['dst_len']})"
    return None


def how_uppers_use(index: int, links: Iterable[Any]) -> str | None:
    """Judge the links that name this index as the link that they run over."""
    for link in links:
        if index in _lowers(link):
            return f"{link.get_attr('IFLA_IFNAME')} runs over it"
    return None


def _lowers(link: Any) -> set[int]:
    """Return the indexes of the links that a link runs over, in its own namespace."""
    found: set[int] = set()
    kind = kind_of(link)
    if kind not in _PEERS and link.get_attr("IFLA_LINK_NETNSID") is None:
        found.add(link.get_attr("IFLA_LINK") or 0)
    if kind == "vxlan":
        data = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
        found.add((data.get_attr("IFLA_VXLAN_LINK") if data is not None else None) or 0)
    return found


def how_unicast_uses(link: Any, entries: Iterable[Any]) -> str | None:
    """Judge the filter list of the interface: other unicast addresses than its own."""
    own = link.get_attr("IFLA_ADDRESS")
    for entry in entries:
        address = entry.get_attr("NDA_LLADDR")
        if entry["ifindex"] != link["index"] or not entry["flags"] & _NTF_SELF or not address:
            continue
        if int(address[:2], 16) & 1 or address == own:
            continue
        return (
            f"it takes frames for the hardware address {address} of another device (a macvlan or "
            "macvtap, maybe in another namespace)"
        )
    return None


def how_listeners_use(index: int, table: str, own: OwnMarks) -> str | None:
    """Judge /proc/net/packet, the AF_PACKET sockets of the namespace.

    A socket of protocol 0 receives nothing. One of no interface receives from all.
    """
    for line in table.splitlines()[1:]:
        _, _, _, protocol, bound_to, _, _, user, inode = line.split()[:9]
        if int(bound_to) in {0, index} and int(protocol, 16) and int(inode) not in own.sockets:
            where = "it" if int(bound_to) else "all interfaces"
            return (
                f"an AF_PACKET socket of user {user} listens on {where} (inode {inode}), as "
                "tcpdump's does, and would go blind"
            )
    return None


def how_multicast_uses(index: int, table: str) -> str | None:
    """Judge /proc/net/dev_mcast: how often the groups of all hosts were joined."""
    for line in table.splitlines():
        bound_to, _, users, _, address = line.split()[:5]
        if int(bound_to) == index and address in _ALL_HOSTS and int(users) > 1:
            return (
                f"another device runs over it, maybe in another namespace (the group {address} "
                f"has {users} users)"
            )
    return None


def how_promiscuity_uses(link: Any, own: OwnMarks) -> str | None:
    """Judge the counters of those that made the interface take in more than its own frames.

    IFLA_ALLMULTI came with Linux 6.0; an older kernel says nothing by leaving it out.
    """
    by_the_administrator = bool(link["flags"] & _IFF_PROMISC)
    promiscuity = link.get_attr("IFLA_PROMISCUITY")
    if promiscuity is None:
        return "the kernel does not tell who made it promiscuous"
    others = promiscuity - by_the_administrator - own.promiscuity
    if others > 0:
        return (
            f"somebody made it promiscuous ({others} more than the administrator): a capture, a "
            "bridge, or a macvlan or macvtap in passthru mode"
        )
    if link.get_attr("IFLA_ALLMULTI"):
        return "somebody receives every multicast frame of it (IFLA_ALLMULTI)"
    return None


def how_filters_use(filters: Iterable[Any]) -> str | None:
    """Judge the tc filters of the frames that the interface receives."""
    for one in filters:
        kind = one.get_attr("TCA_KIND") or "unknown"
        return f"a tc filter ({kind}) handles what it receives"
    return None


def how_chains_use(name: str, chains: Iterable[Chain]) -> str | None:
    """Judge the chains of nftables at the ingress of devices."""
    for chain in chains:
        if name in chain.devices or name.startswith(tuple(chain.prefixes)):
            return f"a chain of nftables ({chain.name}) handles what it receives"
    return None
