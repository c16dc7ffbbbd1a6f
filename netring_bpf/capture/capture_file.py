"""A capture file as a replay reads it: a regular file, packed or not, or a pipe."""

from __future__ import annotations

import errno
import glob
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from netring_bpf.capture.feeder import Feeder
from netring_bpf.capture.packings import LONGEST_MAGIC, MissingError, recognise
from netring_bpf.errors import CaptureFileError, OptionError
from netring_bpf.ring.reader import first_time

__all__ = ["CaptureFile", "Paths", "named", "paths_of"]

Paths = str | Path | Sequence[str | Path]

_BEGINNING = 1 << 16  # bytes of a file that tell it from others


def paths_of(given: Paths) -> list[Path]:
    """Return the files that are meant; a pattern of the shell stands for those that it matches.

    Raises ``CaptureFileError``, ``OptionError``.
    """
    paths: list[Path] = []
    for path in map(Path, [given] if isinstance(given, str | Path) else given):
        paths += _matches(path) if glob.has_magic(str(path)) and not _is_there(path) else [path]
    if not paths:
        raise OptionError("path: no capture file is given", option="path")
    for path in paths:
        if paths.count(path) > 1:
            raise OptionError(
                f"path: capture file {path} is given twice, and its frames would count twice",
                option="path",
            )
    return paths


def named(given: Paths) -> str:
    """Return the name of what is read, for people."""
    first, *others = [given] if isinstance(given, str | Path) else given or [""]
    return f"{first} and {len(others)} more" if others else str(first)


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _matches(pattern: Path) -> list[Path]:
    found = sorted(map(Path, glob.glob(str(pattern))))
    if not found:
        raise CaptureFileError(
            f"open capture file {pattern}: no file has a name like this", path=pattern
        )
    return found


class CaptureFile:
    """One file; ``size`` is 0 for a pipe. Raises ``CaptureFileError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size: int = 0
        self.feeder: Feeder | None = None
        self.source = -1  #: its number in the reader
        self.first: int | None = None  #: the time of its first frame, if it was asked for
        self._descriptor = -1
        self._was_fed = False

    @property
    def is_pipe(self) -> bool:
        """Whether it is no regular file, so that it can be read only once."""
        return self.size == 0

    @property
    def is_packed(self) -> bool:
        """Whether its size does not tell how much it has: a packed file, or a pipe."""
        return self._was_fed

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._descriptor >= 0

    @property
    def readable(self) -> int:
        """The descriptor that the reader is to read."""
        return self.feeder.descriptor if self.feeder is not None else self._descriptor

    def open(self) -> None:
        """Open it, unless it is open."""
        if self.is_open:
            return
        try:
            self._descriptor = (
                _standard_input() if str(self.path) == "-" else _open_readable(self.path)
            )
            kind = os.fstat(self._descriptor)
        except OSError as error:
            self.close()
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise  # the file is not to blame
            raise CaptureFileError(
                f"open capture file {self.path}: {error.strerror}", path=self.path
            ) from error
        try:
            if stat.S_ISDIR(kind.st_mode):
                raise CaptureFileError(
                    f"open capture file {self.path}: it is a directory", path=self.path
                )
            self.size = kind.st_size if stat.S_ISREG(kind.st_mode) else 0
            self.feeder = self._feed()
            self._was_fed = self.feeder is not None
        except BaseException:
            self.close()
            raise

    def _feed(self) -> Feeder | None:
        """Return None for a regular file that is not packed: the C core reads that itself."""
        packing = recognise(os.pread(self._descriptor, LONGEST_MAGIC, 0)) if self.size else None
        if self.size and packing is None:
            return None
        if packing is not None:
            try:
                packing.check(str(self.path))
            except MissingError as error:
                raise CaptureFileError(
                    f"open capture file {self.path}: {error}", path=self.path
                ) from error
        return Feeder(self._descriptor, packing, path=str(self.path))

    def beginning(self) -> bytes:
        """Return bytes of a regular file that tell it from others."""
        return self.size.to_bytes(8) + os.pread(self._descriptor, _BEGINNING, 0)

    def find_first(self) -> None:
        """Find the time of the first frame of a regular file, and leave the file closed."""
        self.first = first_time(self.readable)
        self.close()

    def packed_offset(self) -> int:
        """Return the bytes read of a packed file."""
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def close(self) -> None:
        """Close it. Idempotent; not while the reader reads it."""
        if self.feeder is not None:
            feeder, self.feeder = self.feeder, None
            feeder.close()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _open_readable(path: Path) -> int:
    # O_NONBLOCK: a FIFO is opened before it has a writer; regular files do not mind it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags)


def _standard_input() -> int:
    if sys.stdin is None:  # closed at the start; by now the descriptor may be something else
        raise OSError(errno.EBADF, "standard input is closed")
    descriptor = os.dup(0)
    os.set_inheritable(descriptor, False)
    return descriptor
