"""Watches the state of one interface by the kernel's own messages."""

from __future__ import annotations

import enum
import errno
import socket
from typing import Any, Self

from netring_bpf.errors import InterfaceGoneError, SyscallError
from netring_bpf.interface.interface import Interface
from netring_bpf.interface.netlink import RTMGRP_LINK, Netlink, parse

__all__ = ["LinkChange", "LinkWatch"]

_IFF_UP, _IFF_RUNNING = 0x1, 0x40


class LinkChange(enum.Enum):
    """A change of an interface's state."""

    UP = "up"
    DOWN = "down"  #: set down, or its carrier was lost
    GONE = "gone"  #: deleted, or moved to another namespace


class LinkWatch:
    """Reads the kernel's messages about one interface; readable when there may be a change.

    Each message, and the kernel's answer to a question, has the number of times that the carrier
    came and went. By these numbers a message that is older than an answer is known, and a link
    that went down and up again between two of them.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._gone = False
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, RTMGRP_LINK))
            link = self._ask()
            if link is None:
                raise InterfaceGoneError(
                    f"watch {interface.name}: the interface is gone", interface=interface.name
                )
        except BaseException:
            self._socket.close()
            raise
        self._running = _is_running(link)
        self._carrier = _carrier_counts(link)

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
            changes += self._changes(self._ask())
        return changes

    def _ask(self) -> Any:
        """Return the link as it is now; None if it is gone."""
        try:
            with Netlink() as kernel:
                return kernel.link(index=self._interface.index)
        except SyscallError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def _changes(self, link: Any) -> list[LinkChange]:
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
        was_running, self._running = self._running, _is_running(link)
        self._carrier = carrier
        if was_running and self._running:
            return [LinkChange.DOWN, LinkChange.UP] if came_again else []
        if was_running == self._running:
            return []
        return [LinkChange.UP if self._running else LinkChange.DOWN]

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._socket.close()

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
