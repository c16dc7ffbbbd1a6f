"""Starts threads where memory may be short."""

from __future__ import annotations

import mmap
import threading

__all__ = ["start_thread"]

_ROOM = 16 << 20  # bytes: a stack as Linux gives it, and what Python takes first


def start_thread(thread: threading.Thread) -> None:
    """Start the thread, if there is address space for it; else raise ``OSError`` (ENOMEM).

    ``Thread.start()`` waits for ever for a thread that got its stack, and then no memory for its
    first steps.
    """
    mmap.mmap(-1, _ROOM).close()
    thread.start()
