"""One file of a recording: a new file, a FIFO or a device, or standard output."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from netring_bpf.errors import CaptureFileError, OptionError
from netring_bpf.recording.pcapng_blocks import InterfaceCounts
from netring_bpf.ring.reader import Blocks

__all__ = ["STANDARD_OUTPUT", "CaptureFile", "Format", "refuse_packed"]

STANDARD_OUTPUT = Path("-")
_PACKED = {".gz", ".zst", ".xz", ".lz4", ".bz2"}
_POLL = 0.1  # seconds until an output that waits looks for the end of the recording
_GRACE = 1.0  # seconds for the reader of a pipe, after that end
_AT_ONCE = select.PIPE_BUF  # what a pipe that polls writable takes without blocking


class Format(Protocol):
    """The bytes of a capture file."""

    def head(self) -> bytes:
        """Return the bytes at the start."""

    def body(self, blocks: bytes) -> bytes:
        """Return frames, given as the enhanced packet blocks of pcapng."""

    def whole(self, body: bytes, size: int) -> tuple[int, int]:
        """Return the size of the whole frames in the first ``size`` bytes, and their number."""

    def tail(self, counts: InterfaceCounts) -> bytes:
        """Return the bytes at the end."""


class CaptureFile:
    """Writes one capture file, which ends on a whole frame wherever writing fails.

    ``size``: its bytes; ``count``: its frames; ``began``: the time of ``add()`` for the first of
    them, on the monotonic clock. No file is opened that was there before; a FIFO or a device is,
    unless it ``must_be_new``. Only the owner may read a new file, as it holds other people's
    traffic. A pipe is waited for until ``is_over()``, and a moment longer. Raises
    ``CaptureFileError``.
    """

    def __init__(
        self, path: Path, format: Format, *, must_be_new: bool, is_over: Callable[[], bool]
    ) -> None:
        self.path = path
        self.size: int = 0
        self.count: int = 0
        self.began: float = 0.0
        self._format = format
        self._must_be_new = must_be_new
        self._is_over = is_over
        self._is_new = False
        with self._told():
            self._descriptor = _standard_output() if path == STANDARD_OUTPUT else self._open()
        self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        try:
            self._write(format.head())
        except BaseException:
            self.discard()
            raise

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
        try:
            descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if self._must_be_new or _is_file(self.path):
                raise
            # A FIFO or a device keeps nothing that could be lost.
            return os.open(self.path, flags | os.O_NONBLOCK)
        self._is_new = True
        return descriptor

    def add(self, blocks: Blocks, now: float) -> None:
        """Append frames. Those that were written before an error are in ``count``."""
        self.began = self.began or now
        self._write(self._format.body(blocks.data))
        self.count += blocks.frames

    def take_back(self, surplus: int, frames: int) -> None:
        """Remove so many bytes at the end, which are no whole record, and count so many less."""
        self._take_back(surplus)
        self.size -= surplus
        self.count -= frames

    def finish(self, counts: InterfaceCounts) -> None:
        """Append the file's end, and close it."""
        try:
            self._write(self._format.tail(counts))
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is. Idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with self._told():
                os.close(descriptor)

    def discard(self) -> None:
        """Close the file, and remove it if it is a new one."""
        with contextlib.suppress(CaptureFileError):
            self.close()
        if self._is_new:
            with contextlib.suppress(OSError):
                self.path.unlink()

    # -- writing --

    def _write(self, data: bytes) -> None:
        view, done = memoryview(data), 0
        try:
            with self._told():
                while done < len(view):
                    done += self._write_some(view[done:])
        except CaptureFileError:
            size, frames = self._format.whole(data, done)
            self._take_back(done - size)
            self.size += size
            self.count += frames
            raise
        self.size += len(data)

    def _write_some(self, data: memoryview) -> int:
        if self._is_regular:
            return os.write(self._descriptor, data)
        self._wait()
        with contextlib.suppress(BlockingIOError):
            return os.write(self._descriptor, data[:_AT_ONCE])
        return 0

    def _wait(self) -> None:
        """Wait until a pipe has room."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        deadline: float | None = None
        while not poll.poll(_POLL * 1000):
            if deadline is None and self._is_over():
                deadline = time.monotonic() + _GRACE
            if deadline is not None and time.monotonic() > deadline:
                raise OSError(errno.EAGAIN, "nothing reads it")

    def _take_back(self, surplus: int) -> None:
        """Remove the last bytes, the beginning of a frame. What a pipe took cannot be removed."""
        if surplus > 0 and self._is_regular:
            with contextlib.suppress(OSError):
                end = os.lseek(self._descriptor, 0, os.SEEK_CUR) - surplus
                os.ftruncate(self._descriptor, end)
                os.lseek(self._descriptor, end, os.SEEK_SET)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CaptureFileError(
                f"write capture file {self.path}: {_reason(error, self.path)}",
                path=self.path,
                offset=self.size or None,
            ) from error


def refuse_packed(path: Path) -> None:
    """Raise ``OptionError`` if the name says that the file is packed."""
    if path.suffix.lower() in _PACKED:
        raise OptionError(
            f"path {str(path)!r}: capture files are not packed; name it {path.stem}, and pack it "
            "afterwards",
            option="path",
        )


def _is_file(path: Path) -> bool:
    """Whether there is a file, or a symbolic link, which may be somebody's trap."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return True
    return not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))


def _standard_output() -> int:
    if sys.stdout is None:  # closed at the start; by now the descriptor may be something else
        raise OSError(errno.EBADF, "standard output is closed")
    if os.isatty(1):
        raise OSError(errno.EINVAL, "standard output is a terminal; pipe it into a program")
    descriptor = os.dup(1)
    os.set_inheritable(descriptor, False)
    return descriptor


def _reason(error: OSError, path: Path) -> str:
    if isinstance(error, FileExistsError):
        if path.is_symlink():
            return (
                "it is a symbolic link, which is not followed; choose another name, or - for "
                "standard output"
            )
        return "it is there already, and is not overwritten; move it away, or choose another name"
    if error.errno == errno.ENXIO:
        return "nothing reads this pipe; start its reader first"
    return error.strerror or str(error)
