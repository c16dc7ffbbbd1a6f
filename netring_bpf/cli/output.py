"""Writes to standard output without blocking the event loop: a file, a pipe or a terminal."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from typing import Self

from netring_bpf.cli.blocking_output import open_again
from netring_bpf.errors import SyscallError

__all__ = ["Output"]

_CHUNK = select.PIPE_BUF  # a writable pipe takes so many bytes without blocking


class Output:
    """Writes bytes to a descriptor, and waits in the event loop while its reader is slow.

    The descriptor's mode stays as it was, since a terminal shares it with the shell. A pipe is
    opened a second time in non-blocking mode: one write can then fill the pipe, instead of the
    PIPE_BUF bytes that never block. A context manager.
    """

    def __init__(self, descriptor: int) -> None:
        mode = os.fstat(descriptor).st_mode
        self._descriptor = descriptor
        self._waits = not stat.S_ISREG(mode)  # a regular file never blocks
        self._own: int | None = None
        if stat.S_ISFIFO(mode):
            self._own = open_again(descriptor)

    async def write(self, data: bytes | memoryview) -> None:
        """Write all the data.

        Raises ``BrokenPipeError`` when the reader has left, ``SyscallError`` for other errors.
        """
        view = memoryview(data)
        while view:
            try:
                if self._own is not None:
                    written = os.write(self._own, view)
                else:
                    await self._writable()
                    written = os.write(self._descriptor, view[:_CHUNK] if self._waits else view)
            except BlockingIOError:  # the pipe is full, or another process made it non-blocking
                await self._writable()
                continue
            except BrokenPipeError:
                raise
            except OSError as error:
                raise SyscallError("write to standard output", error.errno or 0) from error
            view = view[written:]

    async def _writable(self) -> None:
        if not self._waits:
            return
        loop = asyncio.get_running_loop()
        descriptor = self._descriptor if self._own is None else self._own
        ready = asyncio.Event()
        try:
            loop.add_writer(descriptor, ready.set)
        except PermissionError:  # epoll(7) refuses files that never block, such as /dev/null
            self._waits = False
            return
        try:
            await ready.wait()
        finally:
            loop.remove_writer(descriptor)

    def close(self) -> None:
        """Close the second opening of a pipe; the descriptor itself stays open. Idempotent."""
        if self._own is not None:
            own, self._own = self._own, None
            os.close(own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
