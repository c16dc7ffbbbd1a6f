"""Watches the interface of an open capture for changes that the capture must answer.

The kernel announces links, addresses and routes. What no message announces (a listener, a queue, a
program) is read again every second.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netring_bpf.errors import NetringError, SyscallError
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.interface import Interface
from netring_bpf.interface.netlink import receive_queues
from netring_bpf.threads import start_thread

__all__ = ["Guard", "Sight"]

_log = logging.getLogger("netring_bpf.capture")
# Links, and of IPv4 and IPv6 the addresses and the routes (RTMGRP_*); the nexthop objects.
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_GROUP_NEXTHOP: Final = 32  # RTNLGRP_NEXTHOP, over those that the address can name
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_EVERY: Final = 1.0  # seconds between two looks that no message asks for
_PAUSE: Final = 0.05  # seconds between two looks at least, however many messages come
_SHARE: Final = 0.1  # of a CPU, at most, for looks that messages ask for


@dataclass(frozen=True, slots=True)
class Sight:
    """The interface as a look has found it."""

    interface: Interface
    queues: int
    program: int | None  #: the id of the XDP program


class Guard:
    """Looks at an interface in a thread of its own, and calls ``answer`` with what it sees.

    Made in the namespace of the interface, where the thread stays. The first look is the state to
    compare with: ``answer`` gets the look before and this one, and returns whether to go on.
    """

    def __init__(self, interface: Interface, answer: Callable[[Sight, Sight], bool]) -> None:
        self._index = interface.index
        self._mark = struct.pack("=I", interface.index)
        self._answer = answer
        self._before = look(interface.index)
        with held_off():
            self._stop_reading, self._stop_writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._socket = socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
                )
            except OSError as error:
                os.close(self._stop_reading)
                os.close(self._stop_writing)
                raise SyscallError("open a netlink socket", error.errno or 0) from error
            close_in_child(self)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, _GROUPS))
            with contextlib.suppress(OSError):  # Linux before 5.3 has no nexthop objects
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NEXTHOP)
        except OSError as error:
            self.abandon()
            raise SyscallError("watch an interface by netlink", error.errno or 0) from error
        # A thread begins in the namespace of the one that starts it.
        self._thread = threading.Thread(target=self._run, name="netring-guard", daemon=True)
        try:
            start_thread(self._thread)
        except BaseException:
            self.abandon()
            raise

    def _run(self) -> None:
        pause, every = 0.0, 0.0  # what has changed since the capture was opened shows at once
        try:
            while self._wait(pause, every):
                began = time.monotonic()
                try:
                    with held_off():
                        now = look(self._index)
                except NetringError as error:
                    _log.warning("a look at a captured interface failed: %s", error)
                    pause = every = _EVERY
                    continue
                if now is None or self._before is None:
                    return  # it is gone, which the readers tell
                before, self._before = self._before, now
                if not self._answer(before, now):
                    return
                every = _EVERY
                pause = max(_PAUSE, (time.monotonic() - began) / _SHARE)
        except Exception:  # noqa: BLE001
            # The thread belongs to nobody: without this, nobody would hear of it.
            _log.exception("the watch over the interface with index %d ended", self._index)

    def _wait(self, pause: float, every: float) -> bool:
        """Wait until it is time for a look; return whether to have it.

        ``pause``: the seconds to wait at least; ``every``: without a message, at most.
        """
        until = time.monotonic() + every
        waiter = select.poll()
        waiter.register(self._stop_reading, select.POLLIN)
        if self._stopped(waiter, pause):
            return False
        waiter.register(self._socket, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            if self._stopped(waiter, left):
                return False
            if self._is_about_it():
                return True
        return True

    def _stopped(self, waiter: select.poll, seconds: float) -> bool:
        ready = waiter.poll(max(0.0, seconds) * 1000)
        return any(descriptor == self._stop_reading for descriptor, _ in ready)

    def _is_about_it(self) -> bool:
        """Read all messages; return whether one may be about the interface."""
        found = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True  # messages were lost, maybe one that counts
            else:
                # Each names the interface by its index, somewhere. A nexthop object does as well.
                found = found or self._mark in data

    def close(self) -> None:
        """End the thread, and wait for that unless it is the caller. Idempotent."""
        if self._stop_writing < 0:
            return
        with contextlib.suppress(BlockingIOError):
            os.write(self._stop_writing, b"\0")
        if self._thread is not threading.current_thread():
            self._thread.join()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors; in a forked child, which has no such thread."""
        self._socket.close()
        for descriptor in (self._stop_reading, self._stop_writing):
            if descriptor >= 0:
                os.close(descriptor)
        self._stop_reading = self._stop_writing = -1


def look(index: int) -> Sight | None:
    """Return the interface as it is now, in the thread's namespace; None if it is gone."""
    interface = Interface.at(index)
    if interface is None:
        return None
    return Sight(interface, receive_queues(interface.name), interface.xdp_program_id())
