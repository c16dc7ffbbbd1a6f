"""A network interface as the kernel sees it, in the namespace of the calling thread.

sysfs is of no use here: it shows the namespace that it was mounted in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any, Final, Self

from netring_bpf.errors import InterfaceNotFoundError, SyscallError, did_you_mean
from netring_bpf.interface.netlink import Netlink, link_speed, receive_queues, xdp_features

__all__ = ["Interface", "XdpAttached", "attached_to", "kind_of", "name_of"]

_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_IFNAMSIZ = 16
_PROGRAM_IDS: Final = {"native": "DRV_PROG_ID", "generic": "SKB_PROG_ID", "offload": "HW_PROG_ID"}


@dataclass(frozen=True, slots=True)
class XdpAttached:
    """An XDP program on an interface: its id, and ``"native"``, ``"generic"`` or ``"offload"``."""

    program: int
    mode: str


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
        with Netlink() as kernel:
            return cls.of(_find(kernel, name))

    @classmethod
    def at(cls, index: int) -> Self | None:
        """Look up the interface with this index; None if there is none. Raises ``SyscallError``."""
        try:
            with Netlink() as kernel:
                return cls.of(kernel.link(index=index))
        except SyscallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    @classmethod
    def of(cls, link: Any) -> Self:
        """Return the interface that a message of rtnetlink tells of."""
        return cls(
            name=name_of(link),  # ``name`` may be an alternative name
            index=link["index"],
            mtu=link.get_attr("IFLA_MTU") or 0,
            up=bool(link["flags"] & _IFF_UP),
            ethernet=link["ifi_type"] in {_ARPHRD_ETHER, _ARPHRD_LOOPBACK},
            loopback=bool(link["flags"] & _IFF_LOOPBACK),
            kind=kind_of(link),
        )

    def rx_queues(self) -> int:
        """Return the number of receive queues that the interface has now."""
        return receive_queues(self.name)

    def speed(self) -> int | None:
        """Return the link's speed in Mbit/s; None if it is unknown.

        Virtual links report an invented speed, so theirs is unknown.
        """
        if self.kind is not None or self.loopback:
            return None
        return link_speed(self.name)

    def xdp_features(self) -> frozenset[str] | None:
        """Return what the driver can do with XDP, by the kernel's names; None if it is unknown."""
        features = xdp_features()
        return None if features is None else features.get(self.index)

    def xdp_program_id(self) -> int | None:
        """Return the id of the attached XDP program; None if the kernel reports none."""
        attached = self.xdp_attached()
        return attached.program if attached else None

    def xdp_attached(self) -> XdpAttached | None:
        """Return the attached XDP program; None if the kernel reports none."""
        try:
            with Netlink() as kernel:
                return attached_to(kernel.link(index=self.index))
        except SyscallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise


def _find(kernel: Netlink, name: str) -> Any:
    try:
        if _is_name(name):
            if len(name.encode()) < _IFNAMSIZ:
                return kernel.link(name=name)
            return kernel.link(other_name=name)
    except SyscallError as error:
        if error.errno not in {errno.ENODEV, errno.ERANGE, errno.EINVAL}:  # the latter: too long
            raise SyscallError(f"look for the interface {name!r}", error.errno or 0) from error
    raise InterfaceNotFoundError(
        f"capture on {name!r}: there is no such interface in this network namespace; "
        f"`ip link` lists them{did_you_mean(name, _names())}",
        interface=name,
    )


def _names() -> list[str]:
    """Return the names of the interfaces of this namespace; none if the kernel does not tell."""
    with contextlib.suppress(OSError):
        return [name for _, name in socket.if_nameindex()]
    return []


def _is_name(name: str) -> bool:
    """Whether netlink can carry the name: it must be UTF-8 without a NUL."""
    try:
        return bool(name) and b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def name_of(link: Any) -> str:
    """Return the name of a link; bytes that are no UTF-8 are escaped as PEP 383 says."""
    name = link.get_attr("IFLA_IFNAME")
    return name if isinstance(name, str) else os.fsdecode(name)


def kind_of(link: Any) -> str | None:
    """Return the kind of a link, as "veth"; None for hardware and for the loopback."""
    info = link.get_attr("IFLA_LINKINFO")
    return info.get_attr("IFLA_INFO_KIND") if info is not None else None


def attached_to(link: Any) -> XdpAttached | None:
    """Return the XDP program on a link; None if the kernel reports none."""
    xdp = link.get_attr("IFLA_XDP")
    if xdp is None:
        return None
    for mode, attribute in _PROGRAM_IDS.items():
        if program := xdp.get_attr(f"IFLA_XDP_{attribute}"):
            return XdpAttached(int(program), mode)
    # Before Linux 4.19 the mode stands beside the id.
    program = xdp.get_attr("IFLA_XDP_PROG_ID")
    return XdpAttached(int(program), "native") if program else None
