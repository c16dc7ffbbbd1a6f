"""Writes to standard output without an event loop: a file, a pipe or a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections.abc import Callable
from typing import Final, Self

from netring_bpf.errors import SyscallError

__all__ = ["BlockingOutput", "Ending", "UnreadError", "open_again"]

_CHUNK: Final = select.PIPE_BUF  # a writable pipe takes so many bytes without blocking
_DAY: Final = 86_400.0  # seconds: poll(2) takes no more than an int has
_PATIENCE: Final = 1.0  # seconds for the reader of standard output, once the command is to end


class UnreadError(Exception):
    """The command is to end, and nobody reads what it writes."""


class Ending:
    """Whether the command is to end, because of a signal or after ``duration`` seconds.

    ``on_ask`` is called when it is. ``descriptor`` is readable from then on. A context manager.
    """

    def __init__(self, on_ask: Callable[[], None], duration: float | None = None) -> None:
        self.asked: bool = False
        self.descriptor: int = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._on_ask = on_ask
        self._due = None if duration is None else time.monotonic() + duration

    def ask(self) -> None:
        """Ask for the end. From any thread, and from a signal handler."""
        self.asked = True
        self._on_ask()
        with contextlib.suppress(OSError):  # it has ended meanwhile
            os.eventfd_write(self.descriptor, 1)

    def left(self) -> float | None:
        """Return the seconds until it is to end; None: it may go on for ever."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        os.close(descriptor)


class BlockingOutput:
    """Writes bytes to a descriptor, and waits while its reader is slow; ``ending`` ends a wait.

    The descriptor's mode stays as it was, since a terminal shares it with the shell. A pipe is
    opened a second time in non-blocking mode: one write can then fill the pipe, instead of the
    PIPE_BUF bytes that never block. A context manager.
    """

    def __init__(self, descriptor: int, ending: Ending) -> None:
        mode = os.fstat(descriptor).st_mode
        self._descriptor = descriptor
        self._ending = ending
        self._waits = not stat.S_ISREG(mode) and _may_block(descriptor)
        self._own = open_again(descriptor) if stat.S_ISFIFO(mode) else None

    def write(self, data: bytes | memoryview) -> None:
        """Write all the data.

        Raises ``BrokenPipeError`` when the reader has left, ``UnreadError`` if the command is to
        end and the reader takes nothing for a second, ``SyscallError`` for other errors.
        """
        view = memoryview(data)
        while view:
            try:
                if self._own is not None:
                    written = os.write(self._own, view)
                elif self._waits:
                    self._wait()
                    written = os.write(self._descriptor, view[:_CHUNK])
                else:
                    written = os.write(self._descriptor, view)
            except BlockingIOError:  # the pipe is full, or another process made it non-blocking
                self._wait()
                continue
            except BrokenPipeError:
                raise
            except OSError as error:
                raise SyscallError("write to standard output", error.errno or 0) from error
            view = view[written:]

    def _wait(self) -> None:
        """Wait until the descriptor takes more."""
        descriptor = self._descriptor if self._own is None else self._own
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not self._ending.asked:
            poll.register(self._ending.descriptor, select.POLLIN)
            while not (ready := dict(poll.poll(_milliseconds(self._ending.left())))):
                if not self._ending.left():
                    self._ending.ask()
                    break
            if descriptor in ready:
                return
            poll.unregister(self._ending.descriptor)
        if not poll.poll(_PATIENCE * 1000):
            raise UnreadError

    def close(self) -> None:
        """Close the second opening of a pipe; the descriptor itself stays open. Idempotent."""
        if self._own is not None:
            own, self._own = self._own, None
            os.close(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, _DAY) * 1000


def _may_block(descriptor: int) -> bool:
    with select.epoll() as epoll:
        try:
            epoll.register(descriptor, select.EPOLLOUT)
        except PermissionError:  # epoll(7) refuses what never blocks, such as /dev/null
            return False
    return True


def open_again(pipe: int) -> int | None:
    """Return a second descriptor of a pipe, which does not block; None if there can be none."""
    try:
        return os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no /proc, or the pipe belongs to another user
        return None
