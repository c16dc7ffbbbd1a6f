"""One owner for what several threads use: it is freed once, when nobody uses it any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Gate"]


class Gate:
    """Lets threads in until it is closed, and has all freed when the last one is out.

    A signal handler runs in the middle of what it interrupts. So a thread that is inside may enter
    again, and may close the gate: all is then freed when the thread leaves.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside: dict[int, int] = {}  # how often each thread has entered
        self._closed = False
        self._put_off: Callable[[], None] | None = None  # the last one out calls it
        self._freeing: int | None = None  # the thread that frees
        self._freed = False

    @contextlib.contextmanager
    def use(self) -> Iterator[bool]:
        """Be inside for the block; the value is whether: False if the gate is closed."""
        me = threading.get_ident()
        if not self._enter(me):
            yield False
            return
        try:
            yield True
        finally:
            self._leave(me)

    def close(self, free: Callable[[], None]) -> None:
        """Let nobody in any more, wait until all are out, and call ``free``. Idempotent.

        Every caller returns when ``free`` has, but for one that is inside itself.
        """
        me = threading.get_ident()
        with self._changed:
            self._closed = True
            if me in self._inside:
                self._put_off = free
                return
            self._changed.wait_for(lambda: not self._inside)
            if self._freeing is not None:
                self._changed.wait_for(lambda: self._freed or self._freeing == me)
                return
            self._freeing = me
        self._finish(free)

    def wait(self) -> None:
        """After the gate was closed, wait until all is freed, unless this very thread frees it."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._freed or self._freeing == me)

    def _enter(self, me: int) -> bool:
        with self._changed:
            # Counted before the look: a signal handler may close the gate in between.
            self._inside[me] = self._inside.get(me, 0) + 1
            if self._closed and self._inside[me] == 1:
                self._leave(me)
                return False
            return True

    def _leave(self, me: int) -> None:
        with self._changed:
            self._inside[me] -= 1
            if self._inside[me] == 0:
                del self._inside[me]
            if not self._closed or self._inside:
                return
            self._changed.notify_all()
            free = self._put_off
            if free is None or self._freeing is not None:
                return
            self._freeing = me
        self._finish(free)

    def _finish(self, free: Callable[[], None]) -> None:
        try:
            free()
        finally:
            with self._changed:
                self._freed = True
                self._changed.notify_all()
