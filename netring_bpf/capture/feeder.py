"""Feeds the C core, through a pipe, from a stream that it cannot read itself."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import termios
import threading
from array import array
from collections.abc import Callable, Iterator

from netring_bpf.capture.packings import (
    LONGEST_MAGIC,
    DamagedError,
    MissingError,
    Packing,
    Unpacker,
    recognise,
)
from netring_bpf.threads import start_thread

__all__ = ["Feeder"]

_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 18


class Feeder:
    """Unpacks a stream or passes it on, in a thread: what comes goes on at once.

    ``source``: a descriptor, which stays the caller's. ``packing``: that of a regular file; None
    for a stream, which is read as it comes, and unpacked if it begins as a packing does. ``path``:
    of the stream, for errors. All bytes before a damage are given; of a damaged stream that is no
    regular file and not packed by gzip, up to 256 KiB before it are not.
    """

    def __init__(self, source: int, packing: Packing | None = None, *, path: str = "-") -> None:
        self._source = source
        self._packing = packing
        self._path = path
        self._incoming = _Incoming(source) if packing is None else None
        self._closing = False
        self.error: str | None = None
        self.descriptor: int
        self.descriptor, self._sink = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # an unprivileged user may have reached the limit
            fcntl.fcntl(self._sink, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self._thread = threading.Thread(target=self._run, name="netring-unpack", daemon=True)
        try:
            start_thread(self._thread)
        except BaseException:
            os.close(self.descriptor)
            os.close(self._sink)
            if self._incoming is not None:
                self._incoming.close()
            raise

    def _run(self) -> None:
        try:
            for data in self._unpacked() if self._incoming is None else self._received():
                view = memoryview(data)
                while view:
                    view = view[os.write(self._sink, view) :]
        except BrokenPipeError:
            pass  # the reader has stopped
        except (OSError, DamagedError, MissingError) as error:
            self.error = str(error)
        finally:
            os.close(self._sink)

    def _received(self) -> Iterator[bytes]:
        """Yield the content of a stream, as it comes."""
        assert self._incoming is not None
        packing = recognise(self._incoming.beginning(LONGEST_MAGIC))
        if packing is None:
            while data := self._incoming.receive(_CHUNK):
                yield data
            return
        packing.check(self._path)
        unpacker = Unpacker(packing)
        while data := self._incoming.receive(_CHUNK):
            yield from _fed(unpacker, data, lambda: None)
        unpacker.end()

    def _unpacked(self) -> Iterator[bytes]:
        """Yield the content of a regular file."""
        assert self._packing is not None
        unpacker, start, size = Unpacker(self._packing), os.lseek(self._source, 0, os.SEEK_CUR), 0
        while not self._closing and (data := os.read(self._source, _CHUNK)):
            yield from _fed(unpacker, data, functools.partial(self._again, start, size))
            size += len(data)
        unpacker.end()

    def _again(self, start: int, size: int) -> Unpacker:
        """Return one that has unpacked so many bytes of the file."""
        assert self._packing is not None
        unpacker = Unpacker(self._packing)
        for done in range(0, size, _CHUNK):
            data = os.pread(self._source, min(_CHUNK, size - done), start + done)
            for _ in unpacker.feed(data):
                if self._closing:
                    raise BrokenPipeError
        return unpacker

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
        self._closing = True
        os.close(self.descriptor)  # ends a write
        self.end()
        self._thread.join()
        if self._incoming is not None:
            self._incoming.close()


def _fed(unpacker: Unpacker, data: bytes, again: Callable[[], Unpacker | None]) -> Iterator[bytes]:
    """Yield what ``data`` give, up to a damage among them.

    A library keeps what it has unpacked when it finds a damage. So the bytes are then unpacked
    once more, one by one, by another in the state of before: a copy, or the one of ``again()``.
    """
    before = unpacker.copy()
    given = 0
    try:
        for piece in unpacker.feed(data):
            yield piece
            given += len(piece)
    except DamagedError:
        careful = before or again()
        if careful is not None:
            yield from _behind(given, _one_by_one(careful, data))
        raise


def _one_by_one(unpacker: Unpacker, data: bytes) -> Iterator[bytes]:
    with contextlib.suppress(DamagedError):
        for at in range(len(data)):
            yield from unpacker.feed(data[at : at + 1])


def _behind(size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces without their first bytes."""
    for piece in pieces:
        if size < len(piece):
            yield piece[size:]
        size = max(0, size - len(piece))


class _Incoming:
    """The bytes of a pipe, a terminal or a socket as they come, in pieces of any size."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._head = b""
        self._left: int | None = None  # bytes until the end, once it was asked for
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    def beginning(self, size: int) -> bytes:
        """Wait for the first bytes, which stay to be read; fewer at the end."""
        while len(self._head) < size and (data := self._next(size - len(self._head))):
            self._head += data
        return self._head

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

    def close(self) -> None:
        os.close(self._wake)


def _bytes_in(descriptor: int) -> int:
    """Return how many bytes can be read without waiting."""
    count = array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]
