"""Standard output without blocking the event loop, whatever it leads to."""

from __future__ import annotations

import asyncio
import os
import select

from netring_bpf.errors import SyscallError

__all__ = ["Output"]

_CHUNK = select.PIPE_BUF  # what a pipe that polls writable takes without blocking


class Output:
    """Writes bytes to a descriptor, waiting in the event loop while its reader is slow.

    The descriptor stays as blocking as it was: a terminal's is shared with the shell.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waits = True

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises ``BrokenPipeError`` when the reader has left, ``SyscallError`` for the rest.
        """
        view = memoryview(data)
        while view:
            await self._writable()
            try:
                written = os.write(self._descriptor, view[:_CHUNK])
            except BlockingIOError:  # somebody made it non-blocking
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
        ready = asyncio.Event()
        try:
            loop.add_writer(self._descriptor, ready.set)
        except PermissionError:  # a regular file: epoll(7) has no use for it, it never blocks
            self._waits = False
            return
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)
