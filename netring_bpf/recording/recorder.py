"""Records a capture's frames into pcapng files that rotate, or keeps the last seconds in a ring.

The C core makes the blocks, with VLAN tags put back. Python only moves them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netring_bpf.capture.capture import Capture
from netring_bpf.errors import CaptureFileError, ClosedError, OptionError
from netring_bpf.recording.pcapng_blocks import InterfaceCounts, head, tail
from netring_bpf.ring.reader import Blocks
from netring_bpf.statistics import CaptureStatistics, Equation

__all__ = ["RecordOptions", "RecordStatistics", "Recorder"]

_NS = 1_000_000_000
_POLL = 0.1  # seconds until an idle recorder looks for a trigger
_DRAIN = 2.0  # seconds to empty the rings at the end
_MOST = 1 << 30  # frames
_SMALLEST = 4096  # bytes


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """The options of a ``Recorder``.

    ``rotate_size``: a file has at most so many bytes (but at least one batch of frames);
    ``rotate_time``: a file spans at most so many seconds of packet time. Either names the files
    ``NAME-00001.SUFFIX`` and so on; ``max_files``: the recorder keeps only so many, the latest.
    ``ring_time``: the recorder writes nothing until ``trigger()``, which writes the frames of the
    last so many seconds, as far as ``ring_size`` bytes hold them. It excludes rotation.
    """

    rotate_size: int | None = None
    rotate_time: float | None = None
    max_files: int | None = None
    ring_time: float | None = None
    ring_size: int = 1 << 28

    def __post_init__(self) -> None:
        for option, least in (
            ("rotate_size", _SMALLEST), ("rotate_time", 0.001), ("max_files", 1),
            ("ring_time", 0.001), ("ring_size", _SMALLEST),
        ):  # fmt: skip
            value = getattr(self, option)
            if value is not None and value < least:
                raise OptionError(f"{option}={value!r}: must be at least {least}", option=option)
        rotates = self.rotate_size is not None or self.rotate_time is not None
        if self.max_files is not None and not rotates:
            raise OptionError("max_files: needs rotate_size or rotate_time", option="max_files")
        if self.ring_time is not None and rotates:
            raise OptionError(
                "ring_time: excludes rotate_size and rotate_time: a trigger makes the files",
                option="ring_time",
            )

    @property
    def numbered(self) -> bool:
        """Whether there can be several files."""
        return any(v is not None for v in (self.rotate_size, self.rotate_time, self.ring_time))


@dataclass(frozen=True, slots=True)
class RecordStatistics:
    """A recording's books, in frames: handed out = written + overwritten + held.

    ``overwritten``: left the ring without a trigger; ``held``: in the ring now. ``files``: made so
    far; ``bytes``: of all of them. ``capture``: the books of the capture below.
    """

    written: int
    overwritten: int
    held: int
    files: int
    bytes: int
    capture: CaptureStatistics

    def equations(self) -> tuple[Equation, ...]:
        """Return the laws of conservation with the figures put in."""
        return (
            *self.capture.equations(),
            Equation(
                "handed out = written + overwritten + held",
                self.capture.handed_out,
                self.written + self.overwritten + self.held,
            ),
        )

    @property
    def balanced(self) -> bool:
        """Whether every equation holds; exact once the recorder is closed."""
        return all(equation.holds for equation in self.equations())


class _File:
    """One pcapng file. Only its owner may read it, as it holds other people's traffic."""

    def __init__(self, path: Path, opening: bytes) -> None:
        self.path = path
        self.size = self.count = 0
        self.first = self.last = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise CaptureFileError(
                f"write capture file {path}: {error.strerror}", path=path
            ) from error
        try:
            self.write(opening)
        except BaseException:
            self.close()
            raise

    def add(self, blocks: Blocks) -> None:
        self.first = self.first or blocks.first
        self.last = blocks.last
        self.count += blocks.frames
        self.write(blocks.data)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                raise CaptureFileError(
                    f"write capture file {self.path}: at byte {self.size}: {error.strerror}",
                    path=self.path,
                    offset=self.size,
                ) from error
            self.size += written
            view = view[written:]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Recorder:
    """Records ``capture`` to ``path``: ``run()`` in one thread, the other methods from any.

    A context manager, which opens and closes ``capture``; the capture is the recorder's alone
    meanwhile. Each file has the interface's name, the filter, times in nanoseconds, and at its end
    the statistics of the interface so far. Raises what ``Capture`` does, and ``CaptureFileError``.
    """

    def __init__(
        self, capture: Capture, path: str | Path, options: RecordOptions | None = None
    ) -> None:
        self._capture = capture
        self._path = Path(path)
        self._options = options or RecordOptions()
        self._stack = contextlib.ExitStack()
        self._file: _File | None = None
        self._files: deque[Path] = deque()
        self._ring: deque[Blocks] = deque()
        self._ring_bytes = self._held = 0
        self._made = self._bytes = self._written = self._overwritten = 0
        self._stopped = threading.Event()
        self._triggers: deque[Callable[[Path], None] | None] = deque()
        self._start = 0

    # -- from any thread --

    def trigger(self, done: Callable[[Path], None] | None = None) -> None:
        """Have the ring written to a new file and emptied; then ``done`` is called with its path.

        For a signal handler, a callback, an ``async for`` over flow events. The recorder's thread
        calls ``done``. Raises ``OptionError`` if there is no ring.
        """
        if self._options.ring_time is None:
            raise OptionError("trigger: there is no ring; set ring_time", option="ring_time")
        self._triggers.append(done)

    def stop(self) -> None:
        """Make ``run()`` return soon."""
        self._stopped.set()

    def statistics(self) -> RecordStatistics:
        """Return the current books; after closing, the final ones."""
        file = self._file
        return RecordStatistics(
            written=self._written,
            overwritten=self._overwritten,
            held=self._held,
            files=self._made,
            bytes=self._bytes + (file.size if file else 0),
            capture=self._capture.statistics(),
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the recorder made and keeps, the oldest first."""
        return tuple(self._files)

    # -- in one thread --

    def run(self, *, duration: float | None = None, count: int | None = None) -> None:
        """Record until ``stop()``, for ``duration`` seconds, or until ``count`` frames came."""
        deadline = None if duration is None else time.monotonic() + duration
        left = count
        while not self._stopped.is_set() and (left is None or left > 0):
            wait = _POLL if deadline is None else min(_POLL, deadline - time.monotonic())
            if wait < 0:
                break
            self._answer_triggers()
            blocks = self._capture.blocks(_MOST if left is None else left, wait)
            if blocks is not None:
                self._take(blocks)
                left = None if left is None else left - blocks.frames
        self._answer_triggers()

    def _take(self, blocks: Blocks) -> None:
        if self._options.ring_time is None:
            self._write(blocks)
            return
        self._ring.append(blocks)
        self._ring_bytes += len(blocks.data)
        self._held += blocks.frames
        oldest = blocks.last - int(self._options.ring_time * _NS)
        while self._ring and (
            self._ring[0].last < oldest or self._ring_bytes > self._options.ring_size
        ):
            gone = self._ring.popleft()
            self._ring_bytes -= len(gone.data)
            self._held -= gone.frames
            self._overwritten += gone.frames

    def _answer_triggers(self) -> None:
        while self._triggers:
            done = self._triggers.popleft()
            path = self._next_path()
            self._file = _File(path, self._head())
            self._note(path)
            while self._ring:
                blocks = self._ring[0]
                self._add(blocks)
                self._ring.popleft()
                self._held -= blocks.frames
                self._ring_bytes -= len(blocks.data)
            self._finish_file()
            if done is not None:
                done(path)

    # -- files --

    def _write(self, blocks: Blocks) -> None:
        if self._file is not None and self._is_full(self._file, blocks):
            self._finish_file()
        if self._file is None:
            path = self._next_path()
            self._file = _File(path, self._head())
            self._note(path)
        self._add(blocks)

    def _add(self, blocks: Blocks) -> None:
        assert self._file is not None
        self._file.add(blocks)
        self._written += blocks.frames

    def _is_full(self, file: _File, blocks: Blocks) -> bool:
        size, span = self._options.rotate_size, self._options.rotate_time
        if file.count == 0:
            return False
        too_big = size is not None and file.size + len(blocks.data) + _TAIL_SIZE > size
        too_long = span is not None and blocks.last - file.first > int(span * _NS)
        return too_big or too_long

    def _next_path(self) -> Path:
        self._made += 1
        if not self._options.numbered:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{self._made:05d}{self._path.suffix}")

    def _note(self, path: Path) -> None:
        self._files.append(path)
        most = self._options.max_files
        while most is not None and len(self._files) > most:
            self._files.popleft().unlink(missing_ok=True)

    def _head(self) -> bytes:
        return head(
            self._capture.interface,
            snaplen=self._capture.snaplen,
            expression=self._capture.expression,
            application=f"netring_bpf {importlib.metadata.version('netring-bpf')}",
        )

    def _finish_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.write(tail(self._counts(file)))
        finally:
            file.close()
            self._bytes += file.size

    def _counts(self, file: _File) -> InterfaceCounts:
        books = self._capture.statistics()
        return InterfaceCounts(
            received=books.seen,
            accepted=books.received + books.lost + books.in_ring,
            dropped=books.lost,
            delivered=file.count,
            start=self._start,
            end=time.time_ns(),
        )

    # -- life --

    def __enter__(self) -> Self:
        if self._start:
            raise ClosedError(f"recording of {self._capture.interface}: opened twice")
        self._capture.open()
        self._start = time.time_ns()
        self._stack.callback(self._capture.close)
        if not self._options.numbered:
            self._stack.callback(self._finish_file)
            try:
                # An empty recording is a file too, and a bad path fails at once.
                self._file = _File(self._next_path(), self._head())
                self._files.append(self._path)
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._stack:
            try:
                self._drain()
            finally:
                self._finish_file()

    def _drain(self) -> None:
        """Record the frames that are still in the rings, and take in nothing new."""
        deadline = time.monotonic() + _DRAIN
        self._capture.quiesce()
        while True:
            blocks = self._capture.blocks(_MOST, _POLL)
            if blocks is not None:
                self._take(blocks)
            elif self._capture.statistics().in_ring == 0 or time.monotonic() > deadline:
                return


_TAIL_SIZE = len(tail(InterfaceCounts(0, 0, 0, 0, 0, 0)))
