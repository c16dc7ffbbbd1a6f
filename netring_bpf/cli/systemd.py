"""Tells systemd how a service fares: sd_notify(3), which is a datagram to a socket."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Final

__all__ = ["Notifier"]

_MICROSECONDS: Final = 1_000_000


class Notifier:
    """Sends states to the service manager, if there is one; nothing fails if it does not listen.

    It takes the address out of the environment, so that no child believes to be the service.
    """

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = f"\0{address[1:]}"  # of the abstract namespace
        self._address = address
        self.watchdog: float | None = self._interval()

    @staticmethod
    def _interval() -> float | None:
        """Return the seconds between two signs of life: half of the time that there is."""
        wanted = os.environ.pop("WATCHDOG_USEC", "")
        process = os.environ.pop("WATCHDOG_PID", "")
        if not wanted.isdecimal() or int(wanted) == 0:
            return None
        if process and process != str(os.getpid()):
            return None
        return int(wanted) / _MICROSECONDS / 2

    def ready(self, status: str) -> None:
        """Say that all has begun, or was read again."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is read again."""
        now = time.monotonic_ns() // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def status(self, status: str) -> None:
        """Say in a line how things are."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as mouth:
            mouth.sendto(text.encode(errors="replace"), self._address)
