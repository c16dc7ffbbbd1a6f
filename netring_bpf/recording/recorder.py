"""Records a capture's frames into files that rotate, or keeps the last seconds in a ring.

The C core makes the blocks, with VLAN tags put back. Python only moves them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from netring_bpf.capture.capture import Capture
from netring_bpf.errors import CaptureFileError, ClosedError, OptionError
from netring_bpf.recording.capture_file import (
    STANDARD_OUTPUT,
    CaptureFile,
    Format,
    refuse_packed,
)
from netring_bpf.recording.options import RecordOptions
from netring_bpf.recording.pcap_records import PcapRecords
from netring_bpf.recording.pcapng_blocks import InterfaceCounts, PcapngBlocks
from netring_bpf.ring.reader import Blocks
from netring_bpf.statistics import CaptureStatistics, Equation

__all__ = ["RecordOptions", "RecordStatistics", "Recorder"]

_log = logging.getLogger("netring_bpf")
_POLL = 0.1  # seconds until an idle recorder looks for a trigger
_DRAIN = 2.0  # seconds to empty the rings at the end
_MOST = 1 << 30  # frames


@dataclass(frozen=True, slots=True)
class RecordStatistics:
    """A recording's books, in frames: handed out = written + unwritten + overwritten + held.

    ``written``: frames in files. ``unwritten``: frames that came when the file could not be written
    any more. ``overwritten``: frames that left the ring without a trigger. ``held``: frames in the
    ring now. ``files``: the number of files so far. ``bytes``: bytes of all files. ``capture``: the
    books of the capture below.
    """

    written: int
    unwritten: int
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
                "handed out = written + unwritten + overwritten + held",
                self.capture.handed_out,
                self.written + self.unwritten + self.overwritten + self.held,
            ),
        )

    @property
    def balanced(self) -> bool:
        """Whether every equation holds; exact once the recorder is closed."""
        return all(equation.holds for equation in self.equations())


class _Held(NamedTuple):
    """Frames in the ring, with the time of their coming on the monotonic clock."""

    blocks: Blocks
    came: float


class _Trigger(NamedTuple):
    done: Callable[[Path], None] | None
    failed: Callable[[CaptureFileError], None] | None


class Recorder:
    """Records ``capture`` to ``path``: ``run()`` in one thread, the other methods from any.

    A context manager, which opens and closes ``capture``; the capture is the recorder's alone
    meanwhile. The files are pcapng: each has the interface's name, the filter, times in
    nanoseconds, and at its end the statistics of the interface so far. A path that ends in
    ``.pcap`` gives pcap files, also with nanoseconds, and slower. ``"-"`` is standard output; a
    FIFO must have its reader. No file that is there is overwritten, and no symbolic link followed.
    Where writing fails, the file ends on a whole frame, and the frames that it lacks are counted.

    Raises what ``Capture`` does, ``OptionError``, and ``CaptureFileError``, whose cause is a
    ``BrokenPipeError`` if the reader of a pipe has left.
    """

    def __init__(
        self, capture: Capture, path: str | Path, options: RecordOptions | None = None
    ) -> None:
        self._capture = capture
        self._path = Path(path)
        self._options = options or RecordOptions()
        _check_path(self._path, self._options)
        self._stack = contextlib.ExitStack()
        self._file: CaptureFile | None = None
        self._files: deque[Path] = deque()
        self._ring: deque[_Held] = deque()
        self._ring_bytes = self._held = 0
        self._made = self._bytes = self._written = self._unwritten = self._overwritten = 0
        self._number = 1
        self._failed = False
        # No lock, as a signal handler may interrupt another one inside of ``stop()``.
        self._stopped = False
        self._triggers: deque[_Trigger] = deque()
        self._deadline: float | None = None
        self._start = 0

    # -- from any thread --

    def trigger(
        self,
        done: Callable[[Path], None] | None = None,
        failed: Callable[[CaptureFileError], None] | None = None,
    ) -> None:
        """Have the ring written to a new file and emptied; then ``done`` is called with its path.

        For a signal handler, a callback, an ``async for`` over flow events. If the file cannot be
        written, it is removed, the ring stays as it is for another trigger, and ``failed`` is
        called with the error; without ``failed`` the error is logged. The recorder's thread makes
        the calls. Raises ``OptionError`` if there is no ring.
        """
        if self._options.ring_time is None:
            raise OptionError("trigger: there is no ring; set ring_time", option="ring_time")
        self._triggers.append(_Trigger(done, failed))

    def stop(self) -> None:
        """Make ``run()`` return soon, even while it waits for the reader of a pipe."""
        self._stopped = True

    def statistics(self) -> RecordStatistics:
        """Return the current books; after closing, the final ones."""
        file = self._file
        return RecordStatistics(
            written=self._written,
            unwritten=self._unwritten,
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
        self._deadline = None if duration is None else time.monotonic() + duration
        left = count
        while not self._stopped and (left is None or left > 0):
            deadline = self._deadline
            wait = _POLL if deadline is None else min(_POLL, deadline - time.monotonic())
            if wait < 0:
                break
            # The frames that made somebody ask may still be in the rings: read once more.
            asked = len(self._triggers)
            blocks = self._capture.blocks(_MOST if left is None else left, wait)
            if blocks is not None:
                self._take(blocks)
                left = None if left is None else left - blocks.frames
            self._answer_triggers(asked)
        self._answer_triggers(len(self._triggers))

    def _is_over(self) -> bool:
        """Whether ``run()`` would return now; an output that waits asks."""
        over = self._deadline is not None and time.monotonic() > self._deadline
        return self._stopped or over

    def _take(self, blocks: Blocks) -> None:
        now = time.monotonic()
        if self._options.ring_time is None:
            self._write(blocks, now)
            return
        self._ring.append(_Held(blocks, now))
        self._ring_bytes += len(blocks.data)
        self._held += blocks.frames
        oldest = now - self._options.ring_time
        while self._ring and (
            self._ring[0].came < oldest or self._ring_bytes > self._options.ring_size
        ):
            gone = self._ring.popleft().blocks
            self._ring_bytes -= len(gone.data)
            self._held -= gone.frames
            self._overwritten += gone.frames

    # -- the ring --

    def _answer_triggers(self, count: int) -> None:
        for _ in range(count):
            trigger = self._triggers.popleft()
            try:
                file = self._write_ring()
            except CaptureFileError as error:
                _call(trigger.failed or _log_failure, error)
                continue
            self._note(file)
            self._bytes += file.size
            self._written += file.count
            self._held = self._ring_bytes = 0
            self._ring.clear()
            if trigger.done is not None:
                _call(trigger.done, file.path)

    def _write_ring(self) -> CaptureFile:
        """Write the ring to a new file, which is there whole or not at all."""
        file = self._open_next()
        try:
            for held in self._ring:
                file.add(held.blocks, held.came)
            file.finish(self._counts(file))
        except BaseException:
            file.discard()
            raise
        return file

    # -- files --

    def _write(self, blocks: Blocks, now: float) -> None:
        if self._failed:
            self._unwritten += blocks.frames
            return
        before = 0
        try:
            if self._file is not None and self._is_full(self._file, blocks, now):
                self._finish_file()
            if self._file is None:
                self._make_room()
                self._file = self._open_next()
                self._note(self._file)
            before = self._file.count
            self._file.add(blocks, now)
        except CaptureFileError:
            self._failed = True
            raise
        finally:
            written = 0 if self._file is None else self._file.count - before
            self._written += written
            self._unwritten += blocks.frames - written

    def _is_full(self, file: CaptureFile, blocks: Blocks, now: float) -> bool:
        size, span = self._options.rotate_size, self._options.rotate_time
        if file.count == 0:
            return False
        too_big = size is not None and file.size + len(blocks.data) + _TAIL_SIZE > size
        too_long = span is not None and now - file.began > span
        return too_big or too_long

    def _open_next(self) -> CaptureFile:
        numbered = self._options.numbered
        while True:
            path = self._path
            if numbered:
                path = path.with_name(f"{path.stem}-{self._number:05d}{path.suffix}")
            try:
                file = CaptureFile(
                    path, self._format(), must_be_new=numbered, is_over=self._is_over
                )
            except CaptureFileError as error:
                if not numbered or not isinstance(error.__cause__, FileExistsError):
                    raise
                self._number += 1  # another recorder took the number
                continue
            return file

    def _note(self, file: CaptureFile) -> None:
        self._made += 1
        self._number += 1
        self._files.append(file.path)

    def _make_room(self) -> None:
        """Remove the oldest files before another is made, as the disk may hold no more."""
        most = self._options.max_files
        while most is not None and len(self._files) >= most:
            oldest = self._files.popleft()
            try:
                oldest.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("remove capture file %s: %s", oldest, error.strerror)

    def _format(self) -> Format:
        capture = self._capture
        if self._path.suffix.lower() == ".pcap":
            return PcapRecords(snaplen=capture.snaplen)
        return PcapngBlocks(
            capture.interface,
            snaplen=capture.snaplen,
            expression=capture.expression,
            application=f"netring_bpf {importlib.metadata.version('netring-bpf')}",
        )

    def _finish_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish(self._counts(file))
        except CaptureFileError:
            if not self._failed:
                raise
        finally:
            self._bytes += file.size

    def _counts(self, file: CaptureFile) -> InterfaceCounts:
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
        self._number = _next_number(self._path, self._options)
        self._capture.open()
        self._start = time.time_ns()
        self._stack.callback(self._capture.close)
        if not self._options.numbered:
            try:
                # An empty recording is a file too, and a bad path fails at once.
                self._file = self._open_next()
                self._note(self._file)
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        with self._stack:
            try:
                self._drain()
                self._answer_triggers(len(self._triggers))
            finally:
                self._finish_file()

    def _drain(self) -> None:
        """Record the frames that are still in the rings, and take in nothing new."""
        deadline = time.monotonic() + _DRAIN
        problem: CaptureFileError | None = None
        self._capture.quiesce()
        while True:
            blocks = self._capture.blocks(_MOST, _POLL)
            if blocks is not None:
                try:
                    self._take(blocks)
                except CaptureFileError as error:
                    problem = error  # the frames that follow are counted as unwritten
            elif self._capture.statistics().in_ring == 0 or time.monotonic() > deadline:
                break
        if problem is not None:
            raise problem


def _check_path(path: Path, options: RecordOptions) -> None:
    if path == STANDARD_OUTPUT and options.numbered:
        raise OptionError(
            "path '-': standard output takes one file; rotation and a ring make several",
            option="path",
        )
    refuse_packed(path)


def _next_number(path: Path, options: RecordOptions) -> int:
    """Return the number after those of the files that there are. Looks whether there can be more.

    Raises ``CaptureFileError`` where no file can be made.
    """
    if path == STANDARD_OUTPUT:
        return 1
    named = re.compile(re.escape(path.stem) + r"-(\d{5,})" + re.escape(path.suffix))
    try:
        found = [named.fullmatch(name) for name in os.listdir(path.parent)]
    except OSError as error:
        raise CaptureFileError(
            f"write capture file {path}: the folder {path.parent}: {error.strerror}; make it "
            "first, or choose another",
            path=path,
        ) from error
    if options.numbered and not os.access(path.parent, os.W_OK | os.X_OK):
        raise CaptureFileError(
            f"write capture file {path}: the folder {path.parent} may not be written to", path=path
        )
    return 1 + max((int(match[1]) for match in found if match), default=0)


def _call(callback: Callable[..., None], *arguments: object) -> None:
    """Call back; an error of the callback ends no recording."""
    try:
        callback(*arguments)
    except Exception:  # noqa: BLE001 - it may raise anything
        _log.exception("a callback of Recorder.trigger() raised an error")


def _log_failure(error: CaptureFileError) -> None:
    _log.error("%s; the ring is kept", error)


_TAIL_SIZE = len(
    PcapngBlocks("", snaplen=0, expression="", application="").tail(
        InterfaceCounts(0, 0, 0, 0, 0, 0)
    )
)
