"""A network interface as the kernel sees it. The only file that imports pyroute2.

Everything here is about the network namespace of the calling thread; ``in_namespace`` moves the
thread to another. sysfs is of no use: it shows the namespace that it was mounted in.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute, netns
from pyroute2.ethtool import Ethtool
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from netring_bpf.errors import InterfaceNotFoundError, SyscallError
from netring_bpf.privileges import explain_refusal

__all__ = ["Interface", "LinkChange", "LinkWatch", "Promiscuous", "in_namespace"]

_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_SCOPE_LINK = 253
_IFNAMSIZ = 16
_TABLE_LOCAL = 255
_RTMGRP_LINK = 1
_UPPER_KINDS = {"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"}
_SPEED_UNKNOWN = 0xFFFF_FFFF
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 263, 1, 1


@contextlib.contextmanager
def in_namespace(namespace: str | None) -> Iterator[None]:
    """Run the block with the calling thread in ``namespace``; with None, the thread stays.

    ``namespace``: a name, as in ``ip netns``, or a path such as ``/proc/PID/ns/net``. Sockets
    opened in the block belong to that namespace for life. Needs CAP_SYS_ADMIN. Raises
    ``SyscallError``, ``PermissionDeniedError``.
    """
    if namespace is None:
        yield
        return
    path = Path(namespace) if "/" in namespace else Path("/var/run/netns") / namespace
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SyscallError(f"open network namespace {path}", error.errno or 0) from error
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(target, str(path))
        try:
            yield
        finally:
            _enter(home, "the namespace it came from")
    finally:
        os.close(target)
        os.close(home)


def _enter(descriptor: int, name: str) -> None:
    try:
        netns.setns(descriptor, flags=0)
    except OSError as error:
        what, number = f"enter network namespace {name}", error.errno or 0
        within = "; or start it inside the namespace (ip netns exec)"
        denied = explain_refusal(what, number, "CAP_SYS_ADMIN", instead=within)
        raise (denied or SyscallError(what, number)) from error


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface, in the state of the moment it was looked up."""

    name: str
    index: int
    mtu: int
    up: bool
    ethernet: bool  #: its frames have an Ethernet header
    loopback: bool
    kind: str | None  #: "veth", "bridge", … ; None for hardware

    @classmethod
    def find(cls, name: str) -> Self:
        """Look ``name`` up. Raises ``InterfaceNotFoundError``."""
        with IPRoute() as route:
            link = _link(route, name)
        return cls(
            name=link.get_attr("IFLA_IFNAME"),  # ``name`` may be an alternative name
            index=link["index"],
            mtu=link.get("mtu") or 0,
            up=bool(link["flags"] & _IFF_UP),
            ethernet=link["ifi_type"] in {_ARPHRD_ETHER, _ARPHRD_LOOPBACK},
            loopback=bool(link["flags"] & _IFF_LOOPBACK),
            kind=_kind(link),
        )

    def rx_queues(self) -> int:
        """Return the number of receive queues that the interface has now."""
        # Ethtool() makes the same call, but opens netlink sockets as well, which takes longer.
        try:
            with contextlib.closing(IoctlEthtool(self.name)) as ethtool:
                channels = ethtool.get_channels()
        except (EthtoolError, OSError):  # the driver lacks the call
            return 1
        return max(1, int(channels.combined_count or 0) + int(channels.rx_count or 0))

    def speed(self) -> int | None:
        """Return the link's speed in Mbit/s; None if it is unknown.

        Virtual links report an invented speed, so theirs is unknown.
        """
        if self.kind is not None or self.loopback:
            return None
        try:
            with Ethtool() as ethtool:
                speed = ethtool.get_link_mode(self.name).speed
        except Exception:  # noqa: BLE001 - the driver lacks the call; pyroute2 has no one class
            return None
        return int(speed) if speed and 0 < int(speed) < _SPEED_UNKNOWN else None

    def xdp_program_id(self) -> int | None:
        """Return the id of the attached XDP program; None if the kernel reports none."""
        with IPRoute() as route:
            links = route.get_links(self.index)
        xdp = links[0].get_attr("IFLA_XDP") if links else None
        if xdp is None:
            return None
        for attribute in ("DRV_PROG_ID", "SKB_PROG_ID", "PROG_ID", "HW_PROG_ID"):
            program_id = xdp.get_attr(f"IFLA_XDP_{attribute}")
            if program_id:
                return int(program_id)
        return None

    def host_traffic(self) -> str | None:
        """Say in words how the interface carries the host's own traffic; None if it does not.

        A link-local IPv6 address does not count, as the kernel gives one to every interface.
        """
        with IPRoute() as route:
            return (
                _address_on(route, self.index)
                or _route_over(route, self.index)
                or _stacked_on(route, self.index)
            )


def _link(route: IPRoute, name: str) -> Any:
    try:
        if _is_name(name):
            which = "ifname" if len(name.encode()) < _IFNAMSIZ else "altname"
            return route.link("get", **{which: name})[0]
    except NetlinkError as error:
        if error.code not in {errno.ENODEV, errno.ERANGE, errno.EINVAL}:  # the latter: too long
            raise SyscallError(f"look for the interface {name!r}", error.code) from error
    raise InterfaceNotFoundError(
        f"capture on {name!r}: there is no such interface in this network namespace; "
        "`ip link` lists them",
        interface=name,
    )


def _is_name(name: str) -> bool:
    """Whether netlink can carry the name: it must be UTF-8 without a NUL."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def _kind(link: Any) -> str | None:
    info = link.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND") if info is not None else None


def _address_on(route: IPRoute, index: int) -> str | None:
    for address in route.get_addr(index=index):
        if address["family"] == socket.AF_INET6 and address["scope"] == _SCOPE_LINK:
            continue
        return f"it has the address {address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
    return None


def _route_over(route: IPRoute, index: int) -> str | None:
    for entry in route.get_routes():
        hops = entry.get_attr("RTA_MULTIPATH") or ()
        if entry.get_attr("RTA_OIF") != index and all(hop["oif"] != index for hop in hops):
            continue
        destination = entry.get_attr("RTA_DST")
        if entry.get_attr("RTA_TABLE") == _TABLE_LOCAL or destination in {"fe80::", "ff00::"}:
            continue
        return f"a route goes over it ({destination or 'default'}/{entry['dst_len']})"
    return None


def _stacked_on(route: IPRoute, index: int) -> str | None:
    for link in route.get_links():
        if link["index"] == index and link.get_attr("IFLA_MASTER"):
            master = route.get_links(link.get_attr("IFLA_MASTER"))
            name = master[0].get_attr("IFLA_IFNAME") if master else "another interface"
            return f"it is a port of {name}"
        if link.get_attr("IFLA_LINK") == index and _kind(link) in _UPPER_KINDS:
            return f"{link.get_attr('IFLA_IFNAME')} runs over it"
    return None


class Promiscuous:
    """Keeps an interface promiscuous; ends with ``close()``, ``with``, or the process.

    The frames of a mirror port go to other hosts' addresses, so a driver would drop them.
    """

    def __init__(self, interface: Interface) -> None:
        # With protocol 0 the socket never receives a frame.
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            what = f"capture on {interface.name}: open a packet socket"
            number = error.errno or 0
            raise (
                explain_refusal(what, number, "CAP_NET_RAW") or SyscallError(what, number)
            ) from error
        membership = struct.pack("@iHH8s", interface.index, _PACKET_MR_PROMISC, 0, b"")
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        except OSError as error:
            self._socket.close()
            raise SyscallError(f"make {interface.name} promiscuous", error.errno or 0) from error

    def close(self) -> None:
        """Give up the membership. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LinkChange(enum.Enum):
    """A change of an interface's state."""

    UP = "up"
    DOWN = "down"  #: set down, or its carrier was lost
    GONE = "gone"  #: deleted, or moved to another namespace


class LinkWatch:
    """Reads the kernel's messages about one interface; readable when there may be a change."""

    def __init__(self, interface: Interface) -> None:
        self._index = interface.index
        self._running: bool | None = None
        self._gone = False
        self._marshal = MarshalRtnl()
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setblocking(False)
        self._socket.bind((0, _RTMGRP_LINK))
        with IPRoute() as route:
            self._running = self._state(route.get_links(interface.index)[0])

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def read(self) -> list[LinkChange]:
        """Return the changes since the last call, in order. Never blocks."""
        changes: list[LinkChange] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return changes
            except OSError as error:
                # Messages were lost: the next one, or the reader's own watchdog, has the state.
                if error.errno == errno.ENOBUFS:
                    continue
                raise SyscallError("read the kernel's link messages", error.errno or 0) from error
            for message in self._marshal.parse(data):
                changes += self._changes(message)

    @staticmethod
    def _state(message: Any) -> bool:
        return int(message["flags"]) & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING

    def _changes(self, message: Any) -> list[LinkChange]:
        # A bridge reports its ports in messages of its own family.
        if message.get("index") != self._index or message["family"] != socket.AF_UNSPEC:
            return []
        if self._gone:
            return []
        running = message["event"] == "RTM_NEWLINK" and self._state(message)
        changes = []
        if running != self._running:
            self._running = running
            changes.append(LinkChange.UP if running else LinkChange.DOWN)
        if message["event"] == "RTM_DELLINK":
            self._gone = True
            changes.append(LinkChange.GONE)
        return changes

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
