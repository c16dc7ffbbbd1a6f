"""Asks the kernel by netlink and by ethtool's ioctl. The only file that imports pyroute2.

pyroute2's sockets run an asyncio loop of their own, which a thread that runs a loop cannot have.
So this file takes pyroute2's messages and parsers, and sends and receives by itself.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, Self

from pyroute2 import netns
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from netring_bpf.errors import SyscallError

__all__ = [
    "RTMGRP_LINK",
    "Netlink",
    "enter_namespace",
    "link_speed",
    "offloads",
    "parse",
    "receive_queues",
]

RTMGRP_LINK: Final = 1
_SOL_NETLINK, _STRICT_CHECK = 270, 12
_REQUEST, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_BUFFER = 1 << 17
_TRIES = 4
_PATIENCE = 5.0  # seconds; the kernel answers at once
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_AT_INGRESS = 0xFFFF_FFF2  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
_HEADER: Final = struct.Struct("=IHHII")
_CODE: Final = struct.Struct("=i")
_ATTRIBUTE: Final = struct.Struct("=HHI")  # of 32 bits
_IFLA_LINK, _IFLA_VXLAN_LINK = 5, 3
_SPEED_UNKNOWN = 0xFFFF_FFFF
_marshal = MarshalRtnl()


class Netlink:
    """A socket for requests to rtnetlink, in the calling thread's network namespace.

    ``messages``: the number of messages received so far. Every method raises ``SyscallError``.
    """

    def __init__(self) -> None:
        self.messages = 0
        self._interrupted = False
        self._sequence = itertools.count(1)
        self._socket = _open_socket()

    def link(self, *, index: int = 0, name: str = "", other_name: str = "") -> Any:
        """Return the link of this index, name or alternative name."""
        request = ifinfmsg()
        request["index"] = index
        names = (("IFLA_IFNAME", name), ("IFLA_ALT_IFNAME", other_name))
        request["attrs"] = [[attribute, value] for attribute, value in names if value]
        for message in self._ask("look for an interface", rtnl.RTM_GETLINK, request):
            return message
        raise SyscallError("look for an interface", errno.ENODEV)

    def links_over(self, index: int) -> list[Any]:
        """Return the links that name this index as their link, as an upper device does."""
        request = ifinfmsg()
        request["attrs"] = [["IFLA_EXT_MASK", _SKIP_STATISTICS]]
        # A host can have thousands of links: only those that have the index are parsed.
        marks = [_ATTRIBUTE.pack(8, kind, index) for kind in (_IFLA_LINK, _IFLA_VXLAN_LINK)]
        return self._all("list the interfaces", rtnl.RTM_GETLINK, request, marks)

    def addresses(self, index: int) -> list[Any]:
        """Return the IPv4 and IPv6 addresses of a link."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = ifaddrmsg()
            request["family"], request["index"] = family, index
            found += self._all("list addresses", rtnl.RTM_GETADDR, request)
        return found

    def routes(self, index: int) -> Iterator[Any]:
        """Yield the IPv4 and IPv6 routes over a link, of all tables; the kernel selects them.

        The kernel resolves nexthop objects, and groups of them, for the selection. Routes that
        change meanwhile may come twice.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            request = rtmsg()
            request["family"] = family
            request["attrs"] = [["RTA_OIF", index]]
            for _ in range(_TRIES):
                yield from self._ask("list routes", rtnl.RTM_GETROUTE, request, _DUMP)
                if not self._interrupted:
                    break
            else:
                raise SyscallError("list routes", errno.EINTR)

    def hardware_addresses(self, index: int) -> list[Any]:
        """Return the addresses that a link filters for, beside its own, and those of its bridge."""
        request = ndmsg()
        request["family"], request["ifindex"] = socket.AF_BRIDGE, index
        return self._all("list the hardware addresses of an interface", rtnl.RTM_GETNEIGH, request)

    def ingress_filters(self, index: int) -> list[Any]:
        """Return the tc filters of what a link receives; none if the kernel has no tc."""
        request = tcmsg()
        request["index"], request["parent"] = index, _AT_INGRESS
        try:
            return self._all("list tc filters", rtnl.RTM_GETTFILTER, request)
        except SyscallError as error:
            if error.errno == errno.EOPNOTSUPP:
                return []
            raise

    def _all(
        self, what: str, kind: int, request: Any, marks: Sequence[bytes] | None = None
    ) -> list[Any]:
        """Return a whole dump; one that changes meanwhile is asked for again."""
        for _ in range(_TRIES):
            found = list(self._ask(what, kind, request, _DUMP, marks))
            if not self._interrupted:
                return found
        raise SyscallError(what, errno.EINTR)

    def _ask(
        self,
        what: str,
        kind: int,
        request: Any,
        flags: int = 0,
        marks: Sequence[bytes] | None = None,
    ) -> Iterator[Any]:
        """Yield the parsed answers; of a dump with ``marks``, those that contain one of them."""
        sequence = next(self._sequence)
        request["header"]["type"] = kind
        request["header"]["flags"] = _REQUEST | flags
        request["header"]["sequence_number"] = sequence
        request.reset()
        request.encode()
        self._interrupted = False
        ended = False
        try:
            self._socket.send(request.data)
            while not ended:
                data = self._socket.recv(_BUFFER)
                for one, key, their_flags, their_sequence in _split(data):
                    if their_sequence != sequence:
                        continue
                    if key in {_ERROR, _DONE}:
                        ended = True
                        if code := _code(one):
                            raise SyscallError(what, code)
                        break
                    self.messages += 1
                    self._interrupted |= bool(their_flags & _DUMP_INTERRUPTED)
                    ended = not flags
                    if marks is None or any(mark in one for mark in marks):
                        yield from parse(one)
        except OSError as error:
            if isinstance(error, SyscallError):
                raise
            raise SyscallError(what, error.errno or errno.ETIMEDOUT) from error
        finally:
            if not ended:  # the kernel has more to say, and takes no other request until then
                self._socket.close()
                self._socket = _open_socket()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_socket() -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        opened.settimeout(_PATIENCE)
        opened.bind((0, 0))
        # Without strict checking the kernel ignores what a dump is restricted to.
        opened.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
    except OSError as error:
        opened.close()
        raise SyscallError("open a netlink socket", error.errno or 0) from error
    return opened


def parse(data: bytes) -> Iterator[Any]:
    """Yield the messages of rtnetlink in ``data``, parsed."""
    yield from _marshal.parse(data)


def _split(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield each message with its type, its flags and its sequence number."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield data[at : at + size], kind, flags, sequence
        at += (size + 3) & ~3


def _code(message: bytes) -> int:
    """Return the errno of an error or of the end of a dump; 0 for none."""
    if len(message) < _HEADER.size + 4:
        return 0
    code: int = _CODE.unpack_from(message, _HEADER.size)[0]
    return -code


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread to a network namespace. Raises ``OSError``."""
    netns.setns(descriptor, flags=0)


# -- ethtool --


def receive_queues(name: str) -> int:
    """Return the number of receive queues; 1 if the driver does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            channels = ethtool.get_channels()
    except (EthtoolError, OSError):  # the driver lacks the call
        return 1
    return max(1, int(channels.combined_count or 0) + int(channels.rx_count or 0))


def link_speed(name: str) -> int | None:
    """Return the speed in Mbit/s; None if the driver does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            speed = int(ethtool.get_link_settings().speed)
    except (EthtoolError, OSError):
        return None
    return speed if 0 < speed < _SPEED_UNKNOWN else None


def offloads(name: str) -> frozenset[str]:
    """Return the active offload features, by the kernel's names; none if it does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            features = ethtool.get_features()
            return frozenset(filter(features.is_active, features.keys()))
    except (EthtoolError, OSError):
        return frozenset()
