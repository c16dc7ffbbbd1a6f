"""Puts frames on a wire, and counts exactly those the kernel took."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import TYPE_CHECKING

from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.lab import Namespace

_FULL = frozenset({errno.ENOBUFS, errno.EAGAIN})


def send_frames(namespace: Namespace, ifname: str, frames: Iterable[bytes]) -> int:
    """Send every frame out of the interface, waiting where it is full; return how many.

    A veth that drops for want of room says so (ENOBUFS) since Linux 6.16, so that every frame
    counted is on the wire once. Raises the error where one is refused all the time.
    """
    # Protocol 0: the socket receives nothing, so nothing piles up in it.
    with namespace.enter():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sock:
        sock.bind((ifname, 0))
        send = sock.send
        count = 0
        for frame in frames:
            try:
                send(frame)
            except OSError as error:
                _send_when_there_is_room(sock, frame, error)
            count += 1
    return count


def _send_when_there_is_room(sock: socket.socket, frame: bytes, error: OSError) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        if error.errno not in _FULL or time.monotonic() > deadline:
            raise error
        os.sched_yield()
        try:
            sock.send(frame)
        except OSError as again:
            error = again
        else:
            return
