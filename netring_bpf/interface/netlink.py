"""Asks the kernel by netlink and by ethtool's ioctl. The only file that imports pyroute2.

pyroute2's sockets run an asyncio loop of their own, which a thread that runs a loop cannot have.
So this file takes pyroute2's messages and parsers, and sends and receives by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from pyroute2 import netns
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink import ctrlmsg, genlmsg, rtnl
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from netring_bpf.errors import SyscallError

__all__ = [
    "NETLINK_NETFILTER",
    "RTMGRP_LINK",
    "Chain",
    "Driver",
    "Netlink",
    "ReceiveHash",
    "driver_of",
    "enter_namespace",
    "link_speed",
    "offloads",
    "parse",
    "receive_hash",
    "receive_queues",
    "xdp_features",
]

NETLINK_NETFILTER: Final = 12
_NETLINK_GENERIC: Final = 16
RTMGRP_LINK: Final = 1
_SOL_NETLINK, _STRICT_CHECK = 270, 12
_REQUEST, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x300, 0x10
_ACKNOWLEDGE: Final = 0x4
_NEW: Final = 0x604  # with an acknowledgement, and an error if there is one already
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
# linux/netfilter/nf_tables.h
_GET_CHAIN = 10 << 8 | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_NFPROTO_INET, _NFPROTO_NETDEV = 1, 5
_INGRESS: Final = {_NFPROTO_INET: 5, _NFPROTO_NETDEV: 0}  # the hook's number
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_NUMBER, _HOOK_DEVICE, _HOOK_DEVICES = 1, 3, 4
_DEVICE_NAME, _DEVICE_PREFIX = 1, 2
_NUMBER = 0x3FFF  # of an attribute, without its flags
# linux/genetlink.h and linux/netdev.h
_CONTROL, _GET_FAMILY, _FAMILY_ID = 0x10, 3, 1
_DEVICE_GET, _DEVICE_INDEX, _DEVICE_FEATURES = 1, 1, 3
_XDP_FEATURES: Final = (
    "basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg",
)  # fmt: skip
# linux/ethtool.h
_SIOCETHTOOL, _GET_DRIVER, _GET_HASH = 0x8946, 0x3, 0x46
_DRIVER_SIZE, _DRIVER_NAME_AT, _DRIVER_BUS_AT, _DRIVER_TEXT = 196, 4, 100, 32
_HASH_HEADER: Final = struct.Struct("=IIIIBBHI")  # struct ethtool_rxfh
_IFF_UP = 0x1
_marshal = MarshalRtnl()


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of nftables at the ingress of devices; ``name`` has its table's name, too."""

    name: str
    devices: frozenset[str]
    prefixes: frozenset[str]  #: of the names of more devices


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver of an interface, and the address of its device on its bus; "" without one."""

    name: str
    bus: str


@dataclass(frozen=True, slots=True)
class ReceiveHash:
    """The hash by which a card deals frames to its queues: its key, and how it mixes its input."""

    key: bytes
    transform: int  #: RXH_XFRM_* of linux/ethtool.h

    @property
    def is_symmetric(self) -> bool:
        """Whether both directions of a flow have one hash, and so come to one queue."""
        return self.transform != 0 or self.key[:2] * (len(self.key) // 2) == self.key != b""


class Netlink:
    """A socket for requests to the kernel, in the calling thread's network namespace.

    ``messages``: the number of messages received so far. Every method raises ``SyscallError``.
    """

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self.messages: int = 0
        self._protocol = protocol
        self._interrupted = False
        self._sequence = itertools.count(1)
        self._socket = _open_socket(protocol)

    def link(self, *, index: int = 0, name: str = "", other_name: str = "") -> Any:
        """Return the link of this index, name or alternative name."""
        request = ifinfmsg()
        request["index"] = index
        names = (("IFLA_IFNAME", name), ("IFLA_ALT_IFNAME", other_name))
        request["attrs"] = [[attribute, value] for attribute, value in names if value]
        for message in self._ask("look for an interface", rtnl.RTM_GETLINK, request):
            return message
        raise SyscallError("look for an interface", errno.ENODEV)

    def links(self) -> list[Any]:
        """Return all links."""
        request = ifinfmsg()
        request["attrs"] = [["IFLA_EXT_MASK", _SKIP_STATISTICS]]
        return self._all("list the interfaces", rtnl.RTM_GETLINK, request)

    def add_veth(self, name: str, peer: str, mtu: int) -> None:
        """Make a cable with both its ends here, and set them up."""
        other = {"attrs": [["IFLA_IFNAME", peer], ["IFLA_MTU", mtu]]}
        data = {"attrs": [["VETH_INFO_PEER", other]]}
        info = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", data]]}
        request = ifinfmsg()
        request["attrs"] = [["IFLA_IFNAME", name], ["IFLA_MTU", mtu], ["IFLA_LINKINFO", info]]
        self._change("make a pair of veth", request, _NEW)
        for end in (name, peer):
            request = ifinfmsg()
            request["flags"] = request["change"] = _IFF_UP
            request["attrs"] = [["IFLA_IFNAME", end]]
            self._change("set a veth up", request, _ACKNOWLEDGE)

    def _change(self, what: str, request: Any, flags: int) -> None:
        for _ in self._answers(what, rtnl.RTM_NEWLINK, request, flags):
            pass  # the acknowledgement has no message of its own

    def links_over(self, index: int) -> list[Any]:
        """Return the links that name this index as their link, as an upper device does."""
        request = ifinfmsg()
        request["attrs"] = [["IFLA_EXT_MASK", _SKIP_STATISTICS]]
        # A host can have thousands of links: only those that have the index are parsed.
        marks = [_ATTRIBUTE.pack(8, kind, index) for kind in (_IFLA_LINK, _IFLA_VXLAN_LINK)]
        return self._all("list the interfaces", rtnl.RTM_GETLINK, request, marks)

    def addresses(self, index: int) -> list[Any]:
        """Return the IPv4 and IPv6 addresses of a link; of all links with index 0."""
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

    def chains(self) -> list[Chain]:
        """Return the chains of nftables that may be at the ingress of a link."""
        found: list[Chain] = []
        for family in (_NFPROTO_NETDEV, _NFPROTO_INET):
            request = nft_chain_msg()
            request["nfgen_family"] = family
            for one in self._answers("list the chains of nftables", _GET_CHAIN, request, _DUMP):
                found += _chain_of(family, one)
        return found

    def xdp_features(self) -> dict[int, frozenset[str]]:
        """Return what the driver of each link can do with XDP, by the link's index.

        For a socket of ``_NETLINK_GENERIC``.
        """
        what = "ask for XDP features"
        request = ctrlmsg()
        request["cmd"], request["version"] = _GET_FAMILY, 1
        request["attrs"] = [["CTRL_ATTR_FAMILY_NAME", "netdev"]]
        at = _HEADER.size + 4
        family = 0
        for one in self._answers(what, _CONTROL, request, 0):
            family = int.from_bytes(_attributes(one, at)[_FAMILY_ID][0], sys.byteorder)
        request = genlmsg()
        request["cmd"], request["version"] = _DEVICE_GET, 1
        found: dict[int, frozenset[str]] = {}
        for one in self._answers(what, family, request, _DUMP):
            told = _attributes(one, at)
            index, bits = (
                int.from_bytes(told.get(number, [b""])[0], sys.byteorder)
                for number in (_DEVICE_INDEX, _DEVICE_FEATURES)
            )
            found[index] = frozenset(
                name for place, name in enumerate(_XDP_FEATURES) if bits >> place & 1
            )
        return found

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
        for one in self._answers(what, kind, request, flags):
            if marks is None or any(mark in one for mark in marks):
                yield from parse(one)

    def _answers(self, what: str, kind: int, request: Any, flags: int) -> Iterator[bytes]:
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
                    yield one
        except OSError as error:
            if isinstance(error, SyscallError):
                raise
            raise SyscallError(what, error.errno or errno.ETIMEDOUT) from error
        finally:
            if not ended:  # the kernel has more to say, and takes no other request until then
                self._socket.close()
                self._socket = _open_socket(self._protocol)

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_socket(protocol: int) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise SyscallError("open a netlink socket", error.errno or 0) from error
    try:
        opened.settimeout(_PATIENCE)
        opened.bind((0, 0))
        # Without strict checking the kernel ignores what a dump is restricted to.
        opened.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
    except OSError as error:
        opened.close()
        raise SyscallError("open a netlink socket", error.errno or 0) from error
    return opened


def _attributes(data: bytes, at: int = 0) -> dict[int, list[bytes]]:
    """Return the values of the attributes that begin at this byte, by their numbers."""
    found: dict[int, list[bytes]] = {}
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found.setdefault(kind & _NUMBER, []).append(data[at + 4 : at + size])
        at += (size + 3) & ~3
    return found


def _chain_of(family: int, message: bytes) -> Iterator[Chain]:
    """Yield the chain if it is at the ingress of devices."""
    chain = _attributes(message, _HEADER.size + 4)
    for hook in map(_attributes, chain.get(_CHAIN_HOOK, ())):
        number = int.from_bytes(hook.get(_HOOK_NUMBER, [b""])[0], "big")
        if number != _INGRESS[family]:
            continue
        names = [(name, False) for name in hook.get(_HOOK_DEVICE, ())]
        for devices in map(_attributes, hook.get(_HOOK_DEVICES, ())):
            names += [(name, False) for name in devices.get(_DEVICE_NAME, ())]
            names += [(name, True) for name in devices.get(_DEVICE_PREFIX, ())]
        table, own = (chain.get(kind, [b""])[0] for kind in (_CHAIN_TABLE, _CHAIN_NAME))
        yield Chain(
            f"{_text(table)} {_text(own)}",
            frozenset(_text(name) for name, is_prefix in names if not is_prefix),
            frozenset(_text(name) for name, is_prefix in names if is_prefix),
        )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")


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


def xdp_features() -> dict[int, frozenset[str]] | None:
    """Return what the driver of each link can do with XDP, by the link's index.

    The names are those of the kernel's netdev.yaml. None if the kernel does not tell (before Linux
    6.3). Raises ``SyscallError``.
    """
    try:
        with Netlink(_NETLINK_GENERIC) as kernel:
            return kernel.xdp_features()
    except SyscallError as error:
        if error.errno in {errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT}:
            return None
        raise


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread to a network namespace. Raises ``OSError``."""
    netns.setns(descriptor, flags=0)


# -- ethtool --


def receive_queues(name: str) -> int:
    """Return the number of receive queues; 1 if the driver does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            channels = ethtool.get_channels()
    except (EthtoolError, OSError, UnicodeError):  # the driver lacks the call
        return 1
    return max(1, int(channels.combined_count or 0) + int(channels.rx_count or 0))


def link_speed(name: str) -> int | None:
    """Return the speed in Mbit/s; None if the driver does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            speed = int(ethtool.get_link_settings().speed)
    except (EthtoolError, OSError, UnicodeError):
        return None
    return speed if 0 < speed < _SPEED_UNKNOWN else None


def offloads(name: str) -> frozenset[str]:
    """Return the active offload features, by the kernel's names; none if it does not say."""
    try:
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            features = ethtool.get_features()
            return frozenset(filter(features.is_active, features.keys()))
    except (EthtoolError, OSError, UnicodeError):
        return frozenset()


def driver_of(name: str) -> Driver:
    """Return the driver of an interface; one without names if the kernel does not say."""
    try:
        told = _ask_ethtool(name, _GET_DRIVER.to_bytes(4, sys.byteorder), _DRIVER_SIZE)
    except OSError:
        return Driver("", "")
    texts = (told[at : at + _DRIVER_TEXT] for at in (_DRIVER_NAME_AT, _DRIVER_BUS_AT))
    return Driver(*(_text(text.partition(b"\0")[0]) for text in texts))


def receive_hash(name: str) -> ReceiveHash | None:
    """Return the hash by which the card deals frames to its queues; None if it does not say."""
    try:
        empty = _HASH_HEADER.pack(_GET_HASH, 0, 0, 0, 0, 0, 0, 0)
        _, _, indirections, size, *_ = _HASH_HEADER.unpack(
            _ask_ethtool(name, empty, _HASH_HEADER.size)
        )
        asked = _HASH_HEADER.pack(_GET_HASH, 0, indirections, size, 0, 0, 0, 0)
        table = _HASH_HEADER.size + 4 * indirections
        told = _ask_ethtool(name, asked, table + size)
    except OSError:
        return None
    return ReceiveHash(told[table:], _HASH_HEADER.unpack_from(told)[5])


def _ask_ethtool(name: str, command: bytes, room: int) -> bytes:
    """Return the command with the kernel's answer in it. Raises ``OSError``."""
    answer = ctypes.create_string_buffer(command, room)
    request = struct.pack("16sP16x", os.fsencode(name), ctypes.addressof(answer))  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        fcntl.ioctl(asking, _SIOCETHTOOL, request)
    return answer.raw
