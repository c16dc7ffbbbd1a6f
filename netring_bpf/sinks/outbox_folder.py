"""The folder of a disk outbox: segment files of records and marks, each entry with a checksum.

All of it blocks, so a thread of its own does it while flows come. A segment only grows, and goes
away whole. Records have numbers without gaps, so what is missing can be counted. A mark tells the
books as of the moment before the records behind it were written. docs/outbox.md has the format.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from netring_bpf.errors import OutboxError, OutboxInUseError
from netring_bpf.fork import close_in_child

__all__ = [
    "ENTRY_BYTES",
    "MARK_BYTES",
    "Mark",
    "OutboxFolder",
    "Recovered",
    "Saved",
    "Segment",
    "Synced",
]

_VERSION: Final = 1
# No text has this first byte in it (0xF5 is no UTF-8): a search for the next entry cannot end
# inside a record.
_MAGIC: Final = b"\xf5NRO"
_HEAD: Final = struct.Struct("<4sBIQ")  # magic, kind, length of the payload, number
_CHECKSUM: Final = struct.Struct("<I")  # of the head and the payload
ENTRY_BYTES: Final = _HEAD.size + _CHECKSUM.size
MARK_BYTES: Final = 1024  # more than a mark takes
_RECORD, _MARK = 1, 2
_NAME: Final = re.compile(r"([0-9]{10})\.outbox")
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_WRITE: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Mark:
    """The books over all runs, at a moment: accepted = acknowledged + dropped + (end - head).

    ``head``: the number of the first record that waits. ``end``: that behind the last one.
    """

    acknowledged: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    head: int = 0
    end: int = 0

    def encode(self) -> bytes:
        """Return it as an entry of a segment."""
        values = {
            "version": _VERSION,
            "acknowledged": self.acknowledged,
            "dropped": dict(self.dropped),
            "head": self.head,
            "end": self.end,
        }
        return _entry(_MARK, self.end, json.dumps(values, separators=(",", ":")).encode())


@dataclass(slots=True)
class Segment:
    """A file of the folder: the numbers of its records, from ``first`` to before ``end``."""

    serial: int
    first: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What an earlier run has left.

    ``end``: the number for the next record. ``torn``: records that the last mark announces and
    that were never written whole. ``unreadable``: records before ``end`` that cannot be read.
    """

    mark: Mark
    segments: tuple[Segment, ...]
    end: int
    torn: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Saved:
    """The outcome of ``save``; ``error`` is None if all was written.

    ``left``: after an error, whether a new segment without worth could not be removed.
    """

    error: OSError | None
    written: int
    left: bool


@dataclass(frozen=True, slots=True)
class Synced:
    """The outcome of ``sync``. ``removed``: the serials of the segments that are gone."""

    error: OSError | None
    removed: frozenset[int]


class OutboxFolder:
    """Owns a folder with a lock, for the life of the object.

    Raises ``OutboxError`` if the folder cannot be used, ``OutboxInUseError`` if another has it.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._folder = _open_folder(path)
        self._current = -1  # the segment that grows
        self._serial = -1
        self._size = 0
        self._unsynced: list[int] = []  # descriptors, to be closed by who syncs
        self._cache = _Parsed(-1, b"", [], [])
        close_in_child(self)

    def __del__(self) -> None:
        self.close()

    def abandon(self) -> None:
        """In a forked child: close the copies; the parent keeps the lock."""
        self._close_segment()
        unsynced, self._unsynced = getattr(self, "_unsynced", []), []
        for descriptor in unsynced:
            os.close(descriptor)
        folder, self._folder = getattr(self, "_folder", -1), -1
        if folder >= 0:
            os.close(folder)

    def close(self) -> None:
        """Let the folder go. Does nothing if it is closed."""
        if getattr(self, "_folder", -1) >= 0:
            # A child that was forked just now may still have the lock.
            fcntl.flock(self._folder, fcntl.LOCK_UN)
        self.abandon()

    # -- the beginning --

    def recover(self) -> Recovered:
        """Read all segments, and cut the last one behind its last whole entry."""
        segments: list[Segment] = []
        marks: list[Mark] = []
        readable: list[range] = []
        end = 0
        serials = self._serials()
        for serial in serials:
            parsed = self._parse(serial)
            marks += parsed.marks
            size = parsed.size
            if serial == serials[-1] and parsed.whole < size and self._cut(serial, parsed.whole):
                size = parsed.whole
            if not parsed.numbers:
                segments.append(Segment(serial, end, end, size))
                continue
            first = parsed.numbers[0]
            if first < end:
                # A write had failed, and was done again in this segment.
                readable = [range(run.start, min(run.stop, first)) for run in readable]
                for earlier in segments:
                    earlier.end = min(earlier.end, first)
            end = parsed.numbers[-1] + 1
            readable += _runs(parsed.numbers)
            segments.append(Segment(serial, first, end, size))
        self._serial = serials[-1] if serials else 0
        mark = marks[-1] if marks else Mark(head=readable[0].start if readable else 0)
        end = max(end, mark.head)
        waiting = sum(len(range(max(run.start, mark.head), run.stop)) for run in readable)
        return Recovered(
            mark,
            tuple(segments),
            end,
            torn=max(0, mark.end - end),
            unreadable=end - mark.head - waiting,
        )

    def _serials(self) -> list[int]:
        with _told("list", self.path):
            names = os.listdir(self._folder)
        return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)

    def _cut(self, serial: int, size: int) -> bool:
        """Cut a segment; a tail that cannot be cut is passed over at each reading."""
        try:
            descriptor = os.open(_name(serial), _WRITE, dir_fd=self._folder)
        except OSError:
            return False
        try:
            os.ftruncate(descriptor, size)
            os.fdatasync(descriptor)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    # -- writing --

    @property
    def next_serial(self) -> int:
        """The serial of a new segment."""
        return self._serial + 1

    def save(self, serial: int, mark: Mark, records: Sequence[bytes]) -> Saved:
        """Append the mark and the records to a segment.

        After an error the file is as before, if the kernel lets it. The next call must name a new
        segment then.
        """
        first = mark.end - len(records)
        numbered = enumerate(records, first)
        data = b""
        error: OSError | None = None
        left = False
        try:
            data = mark.encode() + b"".join(_entry(_RECORD, n, record) for n, record in numbered)
            self._append(serial, data)
        except OSError as failure:
            error, left = failure, not self._undo()
        except MemoryError:
            error, left = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), not self._undo()
        return Saved(error, len(data), left)

    def sync(self, garbage: Sequence[int]) -> Synced:
        """Wait until the disk has what was written, then remove segments.

        This may run in another thread than the rest: a slow disk must not hold up writes.
        """
        unsynced, self._unsynced = self._unsynced, []
        error: OSError | None = None
        for descriptor in unsynced:
            try:
                os.fdatasync(descriptor)
            except OSError as failure:
                error = failure
            finally:
                os.close(descriptor)
        return Synced(error, frozenset(filter(self._remove, garbage)))

    def _append(self, serial: int, data: bytes) -> None:
        if serial != self._serial or self._current < 0:
            self._close_segment()
            self._serial, self._size = serial, 0
            flags = _WRITE | os.O_CREAT | os.O_EXCL
            self._current = os.open(_name(serial), flags, 0o600, dir_fd=self._folder)
            self._unsynced.append(os.dup(self._folder))
        view = memoryview(data)
        while view:
            view = view[os.write(self._current, view) :]
        self._unsynced.append(os.dup(self._current))
        self._size += len(data)

    def _undo(self) -> bool:
        """Take back a write that failed; whether that left no new segment.

        What stays of it does no harm: the records are written again, with the same numbers, to a
        later segment, whose word counts.
        """
        new = self._current >= 0 and self._size == 0
        try:
            if new:
                os.unlink(_name(self._serial), dir_fd=self._folder)
            elif self._current >= 0:
                os.ftruncate(self._current, self._size)
        except OSError:
            return not new
        finally:
            self._close_segment()
        return True

    def _close_segment(self) -> None:
        descriptor, self._current = getattr(self, "_current", -1), -1
        if descriptor >= 0:
            os.close(descriptor)

    def _remove(self, serial: int) -> bool:
        try:
            os.unlink(_name(serial), dir_fd=self._folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    # -- reading --

    def read(
        self, number: int, segments: Sequence[Segment], *, end: int, records: int, size: int
    ) -> list[bytes]:
        """Return records from ``number`` on, without a gap: one that cannot be read is empty.

        They are at most ``records``, and about ``size`` bytes.
        """
        found: list[bytes] = []
        for segment in segments:
            if segment.end <= number:
                continue
            while number < segment.first and len(found) < records:
                found.append(b"")
                number += 1
            if number < segment.first:
                return found
            if self._cache.serial != segment.serial or self._cache.size < segment.size:
                self._cache = self._parse(segment.serial)
            parsed = self._cache
            at = bisect_left(parsed.numbers, number)
            while number < segment.end:
                if len(found) >= records or size <= 0:
                    return found
                record = b""
                if at < len(parsed.numbers) and parsed.numbers[at] == number:
                    record = parsed.record(at)
                    at += 1
                found.append(record)
                size -= len(record)
                number += 1
        found += [b""] * min(end - number, records - len(found))
        return found

    def _parse(self, serial: int) -> _Parsed:
        """Read a segment; one that cannot be read has nothing in it."""
        data = b""
        with contextlib.suppress(OSError):
            descriptor = os.open(_name(serial), _READ, dir_fd=self._folder)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    with open(descriptor, "rb", buffering=0, closefd=False) as file:
                        data = file.readall()
            finally:
                os.close(descriptor)
        parsed = _Parsed(serial, data, [], [])
        parsed.index(self.path)
        return parsed


@dataclass(slots=True)
class _Parsed:
    """A segment's bytes, and where its records are."""

    serial: int
    data: bytes
    numbers: list[int]
    _spans: list[tuple[int, int]]
    marks: list[Mark] = field(default_factory=list)
    whole: int = 0  # the end of the last whole entry

    @property
    def size(self) -> int:
        return len(self.data)

    def record(self, index: int) -> bytes:
        start, stop = self._spans[index]
        return self.data[start:stop]

    def index(self, path: Path) -> None:
        last = -1
        for kind, number, start, stop in _entries(self.data):
            self.whole = stop
            if kind == _RECORD and number > last:
                self.numbers.append(number)
                self._spans.append((start, stop))
                last = number
            elif kind == _MARK:
                mark = _decoded(self.data[start:stop], path)
                if mark is not None:
                    self.marks.append(mark)


def _entry(kind: int, number: int, payload: bytes) -> bytes:
    head = _HEAD.pack(_MAGIC, kind, len(payload), number)
    return b"%b%b%b" % (head, _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(head))), payload)


def _entries(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Find the whole entries: kind, number, and where the payload begins and ends."""
    view = memoryview(data)
    at = 0
    while at + ENTRY_BYTES <= len(data):
        magic, kind, length, number = _HEAD.unpack_from(data, at)
        start = at + ENTRY_BYTES
        stop = start + length
        if magic == _MAGIC and stop <= len(data):
            (checksum,) = _CHECKSUM.unpack_from(data, at + _HEAD.size)
            computed = zlib.crc32(view[start:stop], zlib.crc32(view[at : at + _HEAD.size]))
            if checksum == computed:
                yield kind, number, start, stop
                at = stop
                continue
        at = data.find(_MAGIC, at + 1)
        if at < 0:
            return


def _decoded(payload: bytes, path: Path) -> Mark | None:
    values: Any = json.loads(payload)
    if values["version"] != _VERSION:
        raise OutboxError(
            f"outbox {path}: another version of netring_bpf wrote it (format {values['version']}); "
            "let that one send it, or give another folder",
            path=path,
        )
    return Mark(values["acknowledged"], values["dropped"], values["head"], values["end"])


def _runs(numbers: Sequence[int]) -> Iterator[range]:
    """Divide ascending numbers into ranges without gaps."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield range(numbers[start], numbers[at - 1] + 1)
            start = at


def _name(serial: int) -> str:
    return f"{serial:010}.outbox"


# -- the folder and its lock --


def _open_folder(path: Path) -> int:
    with _told("use", path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _check_owner(path, os.fstat(descriptor))
        with _told("lock", path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutboxInUseError(
                    f"outbox {path}: another sink has it, of this process or of another; give each "
                    "its own folder",
                    path=path,
                ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_owner(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise OutboxError(
            f"outbox {path}: the folder belongs to another user; give one of this user's own",
            path=path,
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OutboxError(
            f"outbox {path}: its mode is {mode:04o}, others can look into it; chmod 700 it, "
            "or give one that does not exist yet",
            path=path,
        )


@contextlib.contextmanager
def _told(action: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutboxError(f"{action} outbox {path}: {error.strerror}", path=path) from error
