"""Attaches an XDP program to an interface, as a bpf_link.

The kernel detaches the program when the link's last descriptor is closed, so even SIGKILL leaves
nothing on the interface. ``close()`` detaches it at once, whoever else holds a descriptor. A link
and another owner's program never replace each other. Needs Linux 5.9 (BPF_LINK_CREATE for XDP and
BPF_LINK_DETACH, kernel/bpf/syscall.c and net/core/dev.c).
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Self

from netring_bpf._core import lib
from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.errors import (
    ClosedError,
    InterfaceGoneError,
    InterfaceNotFoundError,
    KernelFeatureError,
    SyscallError,
    XdpBusyError,
    printable,
)
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.interface import Interface
from netring_bpf.kernel_release import if_older
from netring_bpf.privileges import explain_refusal

__all__ = ["XdpLink", "why_no_native"]

_log = logging.getLogger("netring_bpf.bpf")
_MORE_QUEUES = (
    "the other end of the cable has more transmit queues than this one has receive queues; make "
    "them even (ethtool -L NAME rx N here, tx N there)"
)
_NEEDED_FEATURES = {"basic", "redirect"}
_FLAGS = {XdpMode.NATIVE: 1 << 2, XdpMode.GENERIC: 1 << 1}  # XDP_FLAGS_{DRV,SKB}_MODE


class XdpLink:
    """One attachment; detached by ``close()``, by ``with``, or by the end of the process.

    ``mode``: the mode in use. ``reason``: why native mode was refused; None if it was not.
    """

    def __init__(self, fd: int, interface: str, mode: XdpMode, reason: str | None) -> None:
        self.mode = mode
        self._interface = interface
        self.reason = reason
        self._fd = fd
        close_in_child(self)

    @classmethod
    def attach(cls, interface: Interface, program_fd: int, mode: XdpMode | None = None) -> Self:
        """Attach to ``interface`` in ``mode``; None for native if the driver has it, else generic.

        Raises ``XdpBusyError`` if there is a program already, ``PermissionDeniedError``,
        ``InterfaceNotFoundError``, and ``KernelFeatureError`` if no mode works.
        """
        refusals: list[str] = []
        for candidate in [mode] if mode else [XdpMode.NATIVE, XdpMode.GENERIC]:
            reason = "; ".join(refusals) or None
            with held_off():
                fd = lib.nr_link_create(program_fd, interface.index, _FLAGS[candidate])
                link = cls(fd, interface.name, candidate, reason) if fd >= 0 else None
            if link is not None:
                if reason:
                    name = printable(interface.name)
                    _log.warning("XDP on %s is %s: %s", name, candidate.value, reason)
                return link
            _raise_final(interface, -fd)
            refusals.append(_refusal(interface, candidate, -fd))
        if too_old := if_older(5, 9, "attaching by a bpf_link"):
            refusals.append(too_old)
        raise KernelFeatureError(
            f"attach XDP to {interface.name}: {'; '.join(refusals)}; choose backend='tpacket_v3'",
            feature="XDP",
        )

    def update(self, program_fd: int) -> None:
        """Swap the attached program for another, so that each frame meets one of the two.

        Blocks for tens of milliseconds, longer under load. Raises ``SyscallError`` or
        ``InterfaceGoneError``; the attached program then stays.
        """
        if self._fd < 0:
            raise ClosedError("swap the XDP program of a link that is closed")
        error = -lib.nr_link_update(self._fd, program_fd)
        if error == errno.ENOLINK:
            raise InterfaceGoneError(
                f"swap the XDP program of {self._interface}: the interface is gone",
                interface=self._interface,
            )
        if error > 0:
            raise SyscallError(f"swap the XDP program of {self._interface}", error)

    def close(self) -> None:
        """Detach. Idempotent."""
        if self._fd >= 0:
            # An error says that the interface is gone, or that another has detached the program.
            lib.nr_link_detach(self._fd)
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptor, and detach nothing: for a forked child."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _raise_final(interface: Interface, error: int) -> None:
    """Raise for an error that every mode would meet."""
    if error in {errno.EBUSY, errno.EEXIST}:
        program_id = interface.xdp_program_id()
        named = f"program id {program_id}" if program_id else "a program"
        raise XdpBusyError(
            f"attach XDP to {interface.name}: {named} is attached already and is left alone; "
            "detach it (ip link, or end the process that owns it), or choose "
            "backend='tpacket_v3'",
            interface=interface.name,
            program_id=program_id,
        )
    if denied := explain_refusal(
        f"attach XDP to {interface.name}", error, "CAP_NET_ADMIN", "CAP_BPF"
    ):
        raise denied
    if error in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
        raise SyscallError(f"attach XDP to {interface.name}", error)
    if error == errno.ENODEV:
        raise InterfaceNotFoundError(
            f"attach XDP to {interface.name}: no such interface any more",
            interface=interface.name,
        )


def _refusal(interface: Interface, mode: XdpMode, error: int) -> str:
    hint = ""
    if mode is XdpMode.NATIVE and error == errno.ERANGE:
        hint = (
            f": its MTU of {interface.mtu}, or its peer's, is over what the driver takes with XDP"
        )
    elif mode is XdpMode.NATIVE and error == errno.ENOSPC and interface.kind == "veth":
        hint = f": {_MORE_QUEUES}"
    elif mode is XdpMode.NATIVE and error == errno.EOPNOTSUPP:
        hint = f": {_no_native(interface)}"
    return f"{mode.value} mode refused: {os.strerror(error)}{hint}"


def why_no_native(interface: Interface, features: frozenset[str] | None) -> str | None:
    """Say in words that native mode would be refused; None if not, or if it is unknown.

    ``features``: what the driver can do with XDP, as ``Interface.xdp_features`` tells.
    """
    if features is None or features >= _NEEDED_FEATURES:
        return None
    return _MORE_QUEUES if interface.kind == "veth" else _no_native(interface)


def _no_native(interface: Interface) -> str:
    name = interface.kind or ("loopback" if interface.loopback else "unknown")
    return f"the driver ({name}) has no native XDP"
