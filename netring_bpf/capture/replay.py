"""Gives the flow events of a capture file, by the dissector and flow table of live traffic."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from netring_bpf.capture.backend import Opened
from netring_bpf.capture.feeder import GZIP_MAGIC, Feeder
from netring_bpf.errors import (
    CaptureFileError,
    ClosedError,
    InternalError,
    NetringError,
    OptionError,
    SyscallError,
    limits_explained,
)
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.reader import ASKS, Reader
from netring_bpf.statistics import CaptureStatistics

if TYPE_CHECKING:
    from netring_bpf.capture.file_filter import FileFilter
    from netring_bpf.filter.filter_set import FilterLike
    from netring_bpf.interface import LinkWatch

__all__ = ["Replay"]

_OPENED = Opened(backend="file")
_GRACE = 0.5  # seconds without progress after which a stream's last bytes are left unread


def _open(path: str | Path) -> int:
    # O_NONBLOCK: a FIFO is opened before it has a writer; regular files do not mind it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags)


def _standard_input() -> int:
    if sys.stdin is None:  # closed at the start; by now the descriptor may be something else
        raise OSError(errno.EBADF, "standard input is closed")
    descriptor = os.dup(0)
    os.set_inheritable(descriptor, False)
    return descriptor


def _file_filter(filter: FilterLike) -> FileFilter:
    from netring_bpf.capture.file_filter import FileFilter

    return FileFilter(filter)


class Replay:
    """Reads flow events from a pcap or pcapng file of any byte order, packed by gzip or not.

    ``path``: the file, or a FIFO; ``"-"`` for standard input. ``filter``: an expression or a
    ``Filter``, by the rule for files (docs/filters.md); named filters are refused. Times are the
    file's. The reader waits until its events are taken, so none is lost. A pipe is read as it
    fills, and ``stop()`` ends any wait for it. ``Netring.replay`` uses this.
    Raises ``CaptureFileError``, ``FilterError``, ``OptionError``. A long filter that is wrong ends
    the reading instead, by its ``FilterError``.
    """

    def __init__(
        self, path: str | Path, *, filter: FilterLike = None, flow: FlowOptions | None = None
    ) -> None:
        self._path = Path(path)
        self._filter = None if filter is None else _file_filter(filter)
        self._flow = flow or FlowOptions()
        self._stack = contextlib.ExitStack()
        self._reader: Reader | None = None
        self._feeder: Feeder | None = None
        self._descriptor = -1
        self._size = 0
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._closing = threading.RLock()  # another thread may close while the books are read
        self._final: CaptureStatistics | None = None

    # -- as of every Source --

    @property
    def interface(self) -> str:
        """The file's name."""
        return str(self._path)

    @property
    def opened(self) -> Opened:
        """The same before and after opening: a file."""
        return _OPENED

    @property
    def finite(self) -> bool:
        """True: it ends with the file."""
        return True

    @property
    def watch(self) -> LinkWatch | None:
        """None: there is no interface."""
        return None

    # -- opening --

    def open(self) -> None:
        """Open the file. Raises ``CaptureFileError``, ``FilterError``."""
        if self._reader is not None:
            raise ClosedError(f"replay of {self._path}: opened twice; make a new one")
        what = f"open capture file {self._path}"
        with limits_explained(what), contextlib.ExitStack() as undo:
            self._descriptor = self._open_file(undo)
            self._feeder = self._feed(undo)
            reader = undo.enter_context(Reader(self._flow))
            reader.add_savefile(self._feeder.descriptor if self._feeder else self._descriptor)
            if self._filter is not None:
                reader.ask_filters()
            self._reader = reader
            self._stack = undo.pop_all()

    def _open_file(self, undo: contextlib.ExitStack) -> int:
        try:
            descriptor = _standard_input() if str(self._path) == "-" else _open(self._path)
            undo.callback(os.close, descriptor)
            kind = os.fstat(descriptor)
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise  # the file is not to blame
            raise CaptureFileError(
                f"open capture file {self._path}: {error.strerror}", path=self._path
            ) from error
        if stat.S_ISDIR(kind.st_mode):
            raise CaptureFileError(
                f"open capture file {self._path}: it is a directory", path=self._path
            )
        self._size = kind.st_size if stat.S_ISREG(kind.st_mode) else 0
        return descriptor

    def _feed(self, undo: contextlib.ExitStack) -> Feeder | None:
        """Return None for a regular file without gzip: the C core reads that itself."""
        if self._size and os.pread(self._descriptor, 2, 0) != GZIP_MAGIC:
            return None
        feeder = Feeder(self._descriptor, regular=self._size > 0)
        undo.callback(feeder.close)
        return feeder

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes read of the file on disk, still packed, and its size; (0, 0) for a pipe."""
        with self._closing:
            if self._size == 0 or self._reader is None or self._final is not None:
                return self._size, self._size
            if self._feeder is not None:
                return os.lseek(self._descriptor, 0, os.SEEK_CUR), self._size
            return self._reader.savefile_offset, self._size

    # -- events --

    def start(
        self,
        done: Callable[[NetringError | None], None],
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        """Start the reader's thread, which calls ``done`` at its end with the error or None.

        Nothing else happens to a file that ``tell`` would have to be told.
        """
        reader = self._opened()
        if self._thread is not None:
            raise ClosedError(f"replay of {self._path}: started twice")

        def run() -> None:
            problem: NetringError | None
            try:
                rc = self._read(reader)
                problem = self._problem() if rc == 0 else SyscallError("read the capture file", -rc)
            except NetringError as error:
                problem = error
            except Exception as error:  # noqa: BLE001 - ``done`` must be called
                problem = InternalError(f"replay of {self._path}", error)
            done(problem)

        self._thread = threading.Thread(target=run, name="netring-reader", daemon=True)
        self._thread.start()

    def _read(self, reader: Reader) -> int:
        while (rc := reader.run()) == ASKS:
            if self._filter is None or not self._filter.answer(reader):
                return 0
        return rc

    def _problem(self) -> CaptureFileError | None:
        if self._stopping:
            return None  # the stream was cut here because the caller asked for it
        problem = self._opened().savefile_problem()
        if self._feeder is not None and self._feeder.error is not None:
            problem = f"cannot be unpacked: {self._feeder.error}", self._opened().savefile_offset
        if problem is None:
            return None
        text, offset = problem
        where = " of the unpacked data" if self._feeder is not None and self._size else ""
        return CaptureFileError(
            f"read capture file {self._path}: at byte {offset}{where}: {text}; the flows up to "
            "there are good",
            path=self._path,
            offset=offset,
        )

    def fileno(self) -> int:
        """Return the descriptor that is readable when ``take()`` has events."""
        return self._opened().fileno()

    def flow_time(self) -> int:
        """Return the time of day, for events that are not the file's."""
        return self._opened().flow_time()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` flow events. Never blocks."""
        return self._opened().take(limit)

    def set_filter(self, filter: FilterLike) -> None:
        """Raise ``OptionError``: frames that were read cannot be filtered again."""
        raise OptionError(
            f"set_filter on {self._path}: a file has one filter; replay it again", option="filter"
        )

    def stop(self) -> None:
        """End the thread. Idempotent; blocks.

        What a pipe has brought by now is read first, as long as somebody takes the events.
        """
        if self._reader is None or self._final is not None:
            return
        if self._thread is not None and self._feeder is not None and self._feeder.streams:
            self._read_what_came(self._reader, self._thread, self._feeder)
        self._reader.stop()
        if self._filter is not None:
            self._filter.stop()
        if self._thread is not None:
            self._thread.join()

    def _read_what_came(self, reader: Reader, thread: threading.Thread, feeder: Feeder) -> None:
        if thread.is_alive():
            self._stopping = True
            feeder.end()
        before = -1
        while thread.is_alive() and (now := reader.savefile_offset) != before:
            before = now
            thread.join(_GRACE)

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After the end of the file: end the live flows and yield all events that are left."""
        return self._opened().finish(limit)

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after ``close()``."""
        with self._closing:
            if self._final is not None:
                return self._final
            return self._opened().statistics(_OPENED.backend, None, (), {})

    # -- closing --

    def _opened(self) -> Reader:
        if self._reader is None or self._final is not None:
            raise ClosedError(f"replay of {self._path}: it is not open")
        return self._reader

    def close(self) -> None:
        """Free everything. Idempotent."""
        if self._reader is None:
            return
        self.stop()
        with self._closing:
            if self._final is None:
                self._reader.flush()
                self._reader.discard()
                self._final = self._reader.statistics(_OPENED.backend, None, (), {})
                self._stack.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
