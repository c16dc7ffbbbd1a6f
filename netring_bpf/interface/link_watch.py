"""Watches the state of one interface by the kernel's own messages."""

from __future__ import annotations

import ctypes
import enum
import errno
import socket
import struct
from typing import Any, Self

from netring_bpf.errors import InterfaceGoneError, SyscallError
from netring_bpf.interface.interface import Interface
from netring_bpf.interface.netlink import RTMGRP_LINK, Netlink, parse

__all__ = ["LinkChange", "LinkWatch"]

_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_SO_ATTACH_FILTER = 26
_INDEX_AT = 20  # of the interface: behind struct nlmsghdr, in struct ifinfomsg


class LinkChange(enum.Enum):
    """A change of an interface's state."""

    UP = "up"
    DOWN = "down"  #: set down, or its carrier was lost
    GONE = "gone"  #: deleted, or moved to another namespace


class LinkWatch:
    """Reads the kernel's messages about one interface; readable when there may be a change.

    Made in the namespace of the interface; any thread may read, in whichever namespace it is.

    The socket takes messages about this interface alone, so that no others fill it. If they fill
    it all the same, the kernel drops some. Then the kernel is asked for the state, and these tell
    whether the link went down and up again meanwhile:

    - the number of times that the carrier came. Each message has it, and the number of times that
      the carrier went; so a message that is older than the answer is known, too.
    - the time at which IPv6 was started or stopped on the interface, for drivers whose carrier
      stays when the interface is set down.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._gone = False
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._kernel: Netlink | None = None
        try:
            self._kernel = Netlink()
            self._socket.setblocking(False)
            _take_only(self._socket, interface.index)
            self._socket.bind((0, RTMGRP_LINK))
            link = self._ask()
            if link is None:
                raise InterfaceGoneError(
                    f"watch {interface.name}: the interface is gone", interface=interface.name
                )
        except BaseException:
            self.close()
            raise
        self._running = _is_running(link)
        self._carrier = _carrier_counts(link)
        self._restarted = _restarted(link)

    @property
    def running(self) -> bool:
        """Whether the interface is up and has its carrier, after all changes that were read."""
        return self._running

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def read(self) -> list[LinkChange]:
        """Return the changes since the last call, in order. Never blocks.

        Messages that the kernel could not queue are made up for by asking it for the state. Raises
        ``SyscallError``.
        """
        changes: list[LinkChange] = []
        lost = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    lost = True
                    continue
                raise SyscallError("read the kernel's link messages", error.errno or 0) from error
            for message in parse(data):
                # A bridge reports its ports in messages of its own family.
                about = (message.get("index"), message.get("family"))
                if about == (self._interface.index, socket.AF_UNSPEC):
                    gone = message["event"] == "RTM_DELLINK"
                    changes += self._changes(None if gone else message)
        if lost:
            changes += self._changes(self._ask(), behind_lost=True)
        return changes

    def _ask(self) -> Any:
        """Return the link as it is now; None if it is gone."""
        assert self._kernel is not None
        try:
            return self._kernel.link(index=self._interface.index)
        except SyscallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def _changes(self, link: Any, *, behind_lost: bool = False) -> list[LinkChange]:
        """Return the changes to this state of the link; None: it is gone."""
        if self._gone:
            return []
        if link is None:
            self._gone = True
            was_running, self._running = self._running, False
            return [LinkChange.DOWN, LinkChange.GONE] if was_running else [LinkChange.GONE]
        carrier = _carrier_counts(link)
        if carrier < self._carrier:
            return []
        came_again = carrier[0] > self._carrier[0]
        restarted = _restarted(link)
        came_again |= behind_lost and restarted != self._restarted
        was_running, self._running = self._running, _is_running(link)
        self._carrier, self._restarted = carrier, restarted
        if was_running and self._running:
            return [LinkChange.DOWN, LinkChange.UP] if came_again else []
        if was_running == self._running:
            return []
        return [LinkChange.UP if self._running else LinkChange.DOWN]

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._socket.close()
        if self._kernel is not None:
            self._kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_running(link: Any) -> bool:
    return int(link["flags"]) & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING


def _carrier_counts(link: Any) -> tuple[int, int]:
    """Return how often the carrier came, and how often it went."""
    up, down = (link.get_attr(f"IFLA_CARRIER_{way}_COUNT") or 0 for way in ("UP", "DOWN"))
    return int(up), int(down)


def _restarted(link: Any) -> int:
    """Return when IPv6 was last started or stopped; 0 if the kernel has no IPv6."""
    for name in ("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_CACHEINFO"):
        link = link.get_attr(name)
        if link is None:
            return 0
    return int(link["tstamp"])


def _take_only(netlink: socket.socket, index: int) -> None:
    """Let the socket queue only messages about the interface of this index."""
    load, jump_if_equal, give = 0x20, 0x15, 0x6
    # The filter reads numbers in the byte order of the network.
    value = int.from_bytes(struct.pack("=i", index), "big")
    code = b"".join(
        struct.pack("=HBBI", *one)
        for one in (
            (load, 0, 0, _INDEX_AT),
            (jump_if_equal, 0, 1, value),
            (give, 0, 0, 0xFFFF_FFFF),
            (give, 0, 0, 0),
        )
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", 4, ctypes.addressof(buffer))
    netlink.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
