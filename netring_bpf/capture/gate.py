"""One owner for what several threads use: it is freed once, when nobody uses it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Gate"]


class Gate:
    """Lets threads in until it is closed, and has all freed when the last one is out.

    Each thread has a lock of its own, which it holds while it is inside::

        with gate.lock():
            if not gate.closed:
                ...
        gate.settle()

    A signal handler runs in the middle of what it interrupts. So a thread that is inside may go in
    again, and may close the gate: all is then freed when the thread is out. An exception of a
    handler, such as ``KeyboardInterrupt``, leaves no thread inside: ``with`` takes a lock and
    enters its block in one step.
    """

    def __init__(self) -> None:
        self.closed: bool = False
        self._locks: dict[int, Any] = {}  # of RLock
        self._freeing = threading.RLock()
        self._began = False
        self._put_off: Callable[[], None] | None = None

    def lock(self) -> Any:
        """Return this thread's lock, a ``threading.RLock``."""
        me = threading.get_ident()
        return self._locks.get(me) or self._locks.setdefault(me, threading.RLock())

    def close(self, free: Callable[[], None]) -> None:
        """Let nobody in any more, wait until all are out, and call ``free``. Idempotent.

        Every caller returns when ``free`` has, but for one that is inside itself.
        """
        self.closed = True
        # A thread that looked before has its lock here already, so close() waits for it.
        if self._is_inside():
            self._put_off = free
            return
        for lock in list(self._locks.values()):
            with lock:
                pass
        with self._freeing:
            if not self._began:
                self._began = True
                free()

    def settle(self) -> None:
        """Do what ``close()`` has put off, if this thread is out now."""
        free = self._put_off
        if free is not None and not self._is_inside():
            self._put_off = None
            self.close(free)

    def _is_inside(self) -> bool:
        lock = self._locks.get(threading.get_ident())
        return lock is not None and lock._is_owned()  # noqa: SLF001 - as threading.Condition does
