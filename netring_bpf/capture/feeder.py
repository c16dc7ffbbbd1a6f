"""Feeds the C core, through a pipe, from a stream that it cannot read itself."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import termios
import threading
import zlib
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gzip

    from _typeshed import WriteableBuffer

__all__ = ["GZIP_MAGIC", "Feeder"]

GZIP_MAGIC = b"\x1f\x8b"
_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 18


class Feeder:
    """Unpacks a stream or passes it on, in a thread: what comes goes on at once.

    ``source``: a descriptor, which stays the caller's. ``regular``: it is a regular file packed
    by gzip; else it is read as it comes, and unpacked if it begins as gzip does.
    """

    def __init__(self, source: int, *, regular: bool) -> None:
        self._source = source
        self._incoming = None if regular else _Incoming(source)
        self.error: str | None = None
        self.descriptor, self._sink = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # an unprivileged user may have reached the limit
            fcntl.fcntl(self._sink, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._thread = threading.Thread(target=self._run, name="netring-unpack", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            os.close(self.descriptor)
            os.close(self._sink)
            if self._incoming is not None:
                self._incoming.close()
            raise

    def _run(self) -> None:
        try:
            read = self._reader()
            while data := read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(self._sink, view) :]
        except BrokenPipeError:
            pass  # the reader has stopped
        except (OSError, EOFError, zlib.error, ValueError) as error:
            self.error = str(error)
        finally:
            os.close(self._sink)

    def _reader(self) -> Callable[[int], bytes]:
        if self._incoming is None:
            raw = io.FileIO(self._source, closefd=False)
            return _unpacked(io.BufferedReader(raw, _CHUNK)).read
        if self._incoming.begins_with(GZIP_MAGIC):
            return _unpacked(self._incoming).read1
        return self._incoming.receive

    @property
    def streams(self) -> bool:
        """Whether the source is no regular file: it may let its reader wait."""
        return self._incoming is not None

    def end(self) -> None:
        """Pass on what has come by now, and then end as if the stream ended here."""
        if self._incoming is not None:
            self._incoming.end()

    def close(self) -> None:
        """End the thread, wherever it waits. After the reader of ``descriptor`` has ended."""
        os.close(self.descriptor)  # ends a write
        self.end()
        self._thread.join()
        if self._incoming is not None:
            self._incoming.close()


def _unpacked(stream: io.BufferedReader | _Incoming) -> gzip.GzipFile:
    import gzip

    return gzip.GzipFile(fileobj=stream)


class _Incoming(io.RawIOBase):
    """The bytes of a pipe, a terminal or a socket as they come, in pieces of any size."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._head = b""
        self._left: int | None = None  # bytes until the end, once it was asked for
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def begins_with(self, magic: bytes) -> bool:
        """Wait for the first bytes, which stay to be read."""
        while len(self._head) < len(magic):
            data = self._next(len(magic) - len(self._head))
            if not data:
                break
            self._head += data
        return self._head == magic

    def receive(self, limit: int) -> bytes:
        """Wait for bytes, and return those that there are; none at the end."""
        if self._head:
            head, self._head = self._head[:limit], self._head[limit:]
            return head
        return self._next(limit)

    def _next(self, limit: int) -> bytes:
        while True:
            ready = {found for found, _ in self._poll.poll(None if self._left is None else 0)}
            if self._left is None and self._wake in ready:
                self._left = _bytes_in(self._descriptor)
            if self._left is not None:
                if self._left == 0 or self._descriptor not in ready:
                    return b""
                limit = min(limit, self._left)
            with contextlib.suppress(BlockingIOError):  # another reader of the pipe was faster
                data = os.read(self._descriptor, limit)
                if self._left is not None:
                    self._left -= len(data)
                return data

    def end(self) -> None:
        """Give the bytes that have come, and no more. From any thread."""
        os.eventfd_write(self._wake, 1)

    # -- what GzipFile calls --

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.receive(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._wake)
        super().close()


def _bytes_in(descriptor: int) -> int:
    """Return how many bytes can be read without waiting."""
    count = array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]
