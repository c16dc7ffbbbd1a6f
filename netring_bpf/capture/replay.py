"""Gives the flow events of capture files, by the dissector and flow table of live traffic."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from netring_bpf.capture.backend import Opened
from netring_bpf.capture.capture_file import CaptureFile, Paths, named, paths_of
from netring_bpf.capture.memory_bound import memory_bound
from netring_bpf.errors import (
    CaptureFileError,
    ClosedError,
    InternalError,
    NetringError,
    OptionError,
    SyscallError,
    limits_explained,
    printable,
)
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event
from netring_bpf.loggers import inform, logger
from netring_bpf.ring.flow_ids import id_of_content
from netring_bpf.ring.flow_options import DEFAULT_MAX_FLOWS, FlowOptions
from netring_bpf.ring.names import AddressNames
from netring_bpf.ring.reader import (
    ASKS,
    MAX_SOURCES,
    NO_CRYPTO,
    Copied,
    FileInterface,
    Growth,
    Reader,
    SharedSums,
    Span,
)
from netring_bpf.statistics import CaptureStatistics
from netring_bpf.threads import start_thread

if TYPE_CHECKING:
    from netring_bpf.capture.file_filter import FileFilter
    from netring_bpf.filter.filter import Filter
    from netring_bpf.filter.filter_set import FilterLike
    from netring_bpf.interface import LinkWatch

__all__ = ["Replay"]

_LOG = "netring_bpf.capture"
_FEWEST_FLOWS = 1024  # to begin with
_PIPE_FLOWS = 16_384
_SHORT_RECORD = 76  # bytes of a frame in a file: few are shorter
_MOST_WARNINGS = 16  # of link types: a file may be made to have any number
_GRACE = 0.5  # seconds without progress after which a stream's last bytes are left unread


def _file_filter(filter: FilterLike) -> FileFilter:
    from netring_bpf.capture.file_filter import FileFilter

    return FileFilter(filter)


class Replay:
    """Reads flow events from a pcap or pcapng file of any byte order, packed or not.

    ``path``: the file, or a FIFO; ``"-"`` for standard input; a pattern of the shell
    (``"cap-*.pcap"``); or several of these, which are one capture: their frames are read in the
    order of their times. ``filter``: an expression or a ``Filter``, by the rule for files
    (docs/filters.md); named filters are refused. Times are the file's. The reader waits until its
    events are taken, so none is lost. A pipe is read as it fills, and ``stop()`` ends any wait for
    it. ``sums``: counts the flows by interval. ``Netring.replay`` uses this.
    Raises ``CaptureFileError``, ``FilterError``, ``OptionError``. A long filter that is wrong ends
    the reading instead, by its ``FilterError``.
    """

    def __init__(
        self,
        path: Paths,
        *,
        filter: FilterLike = None,
        flow: FlowOptions | None = None,
        sums: SharedSums | None = None,
    ) -> None:
        self._given = path
        self._name = named(path)
        self._filter = None if filter is None else _file_filter(filter)
        self._flow = flow or FlowOptions()
        self._sums = sums
        self._how = Opened(backend="file")
        self._stack = contextlib.ExitStack()
        self._reader: Reader | None = None
        self._names: AddressNames | None = None
        self._files: list[CaptureFile] = []
        self._waiting: list[CaptureFile] = []  # for their time, the next one first
        self._reading: list[CaptureFile] = []
        self._ended: list[CaptureFile] = []  # whose numbers other files may have
        self._problems: list[CaptureFileError] = []
        self._unread: set[int] = set()  # link types that were told of
        self._everything: Filter | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._stopping = False
        self._closing = threading.RLock()  # another thread may close while the books are read
        self._final: CaptureStatistics | None = None

    # -- as of every Source --

    @property
    def interface(self) -> str:
        """The file's name."""
        return self._name

    @property
    def opened(self) -> Opened:
        """A file, with what there is to notice."""
        return self._how

    @property
    def finite(self) -> bool:
        """True: it ends with the file."""
        return True

    @property
    def watch(self) -> LinkWatch | None:
        """None: there is no interface."""
        return None

    @property
    def names(self) -> AddressNames:
        """The names of addresses, as the packets told them. Raises ``ClosedError`` if not open."""
        if self._names is None:
            raise ClosedError(f"replay of {self._name}: not open yet")
        return self._names

    # -- opening --

    def open(self) -> None:
        """Open the files. Raises ``CaptureFileError``, ``FilterError``, ``OptionError``."""
        if self._reader is not None:
            raise ClosedError(f"replay of {self._name}: opened twice; make a new one")
        what = f"open capture file {self._name}"
        with limits_explained(what), contextlib.ExitStack() as undo:
            self._files = [CaptureFile(path) for path in paths_of(self._given)]
            undo.callback(self._close_files)
            beginnings = self._look_into_files()
            reader = undo.enter_context(
                Reader(
                    self._flow,
                    first_id=1 + (id_of_content(beginnings) if beginnings else 0),
                    id_by_frame=any(file.is_pipe for file in self._files),
                    growth=Growth(self._flows_at_first(), memory_bound()),
                    sums=self._sums,
                )
            )
            if reader.lacks_crypto:
                self._how = Opened(backend="file", notices=(NO_CRYPTO,))
                logger(_LOG).warning("%s", NO_CRYPTO)
            self._waiting = sorted(self._files, key=lambda file: file.first or 0)
            self._read_next_files(reader)
            self._reader = reader
            self._names = reader.names
            self._stack = undo.pop_all()

    def _look_into_files(self) -> list[bytes]:
        """Return what tells the regular files from others; of several, find the first times."""
        beginnings = []
        for file in self._files:
            file.open()
            kind = "packed" if file.is_packed else "not packed"
            size = "a pipe, or empty" if file.is_pipe else f"{file.size} bytes, {kind}"
            inform(_LOG, printable(f"{file.path}: {size}"))
            if not file.is_pipe:
                beginnings.append(file.beginning())
                if len(self._files) > 1:
                    file.find_first()
        return beginnings

    def _flows_at_first(self) -> int:
        """Return the flows for which a table that grows has room at first."""
        if any(file.is_packed for file in self._files):
            return _PIPE_FLOWS
        frames = sum(file.size for file in self._files) // _SHORT_RECORD
        return min(max(frames, _FEWEST_FLOWS), DEFAULT_MAX_FLOWS)

    def _read_next_files(self, reader: Reader) -> None:
        """Have the reader read the files whose time has come, up to that of the next one."""
        now = self._waiting[0].first or 0
        if len(self._reading) == MAX_SOURCES:
            raise CaptureFileError(
                f"read capture file {self._waiting[0].path}: its frames are of the same time as "
                f"those of {MAX_SOURCES} other files, and no more are read at once; merge some "
                "first (mergecap)",
                path=self._waiting[0].path,
            )
        while (
            self._waiting
            and (self._waiting[0].first or 0) == now
            and len(self._reading) < MAX_SOURCES
        ):
            file = self._waiting[0]
            file.open()
            replaced = self._ended.pop().source if self._ended else None
            file.source = reader.add_savefile(file.readable, replaces=replaced)
            reader.ask_links(file.source)
            if file.feeder is not None and file.feeder.streams:
                reader.set_live(file.source)
            if self._filter is not None:
                reader.ask_filters(file.source)
            self._reading.append(self._waiting.pop(0))
        if len(self._files) > 1:
            reader.read_until((self._waiting[0].first or 0) if self._waiting else None)

    def _close_files(self) -> None:
        for file in self._files:
            file.close()

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes read of the files on disk, still packed, and their size; (0, 0) for a pipe."""
        with self._closing:
            size = sum(file.size for file in self._files)
            if self._reader is None or self._final is not None:
                return size, size
            waiting = sum(file.size for file in self._waiting)
            left = sum(file.size - self._offset(file) for file in self._reading if file.size)
            return size - waiting - left, size

    def _offset(self, file: CaptureFile) -> int:
        """Return the bytes read of the file as it lies on the disk."""
        if file.feeder is not None:
            return file.packed_offset()
        return self._opened().savefile_offset(file.source)

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
            raise ClosedError(f"replay of {self._name}: started twice")

        def run() -> None:
            problem: NetringError | None
            try:
                problem = self._read(reader)
            except NetringError as error:  # of a file that is gone by now
                problem = error
            except Exception as error:  # noqa: BLE001 - ``done`` must be called
                problem = InternalError(f"replay of {self._name}", error)
            done(problem)

        self._thread = threading.Thread(target=run, name="netring-reader", daemon=True)
        start_thread(self._thread)

    def _read(self, reader: Reader) -> NetringError | None:
        """Read all files; returns the first error. A broken file does not end the others."""
        while True:
            rc = reader.run()
            if rc == ASKS:
                if self._answer(reader):
                    continue
                break  # it was stopped
            if rc != 0:
                return SyscallError("read the capture file", -rc)
            self._end_files(reader)
            if self._stopped or not self._waiting:
                break
            with self._closing, limits_explained(f"read {self._name}"):
                self._read_next_files(reader)
        for problem in self._problems[1:]:
            logger(_LOG).warning("%s", problem)
        return self._problems[0] if self._problems else None

    def _answer(self, reader: Reader) -> bool:
        """Tell of a link type that is not read, or give its filter; False if it was stopped."""
        source, linktype, _ = reader.asked_filter()
        if not reader.asks_unread(source):
            return self._filter is not None and self._filter.answer(reader)
        from netring_bpf.filter.filter import Filter
        from netring_bpf.filter.libpcap import link_name

        if self._everything is None:
            self._everything = Filter("", snaplen=262_144)
        # Its frames are not left out by a filter: they count as frames of an unknown link.
        reader.filter_savefile(source, linktype, self._everything)
        if linktype not in self._unread and len(self._unread) < _MOST_WARNINGS:
            path = next(file.path for file in self._reading if file.source == source)
            logger(_LOG).warning(
                "%s",
                printable(
                    f"{path}: link type {link_name(linktype)} is not read: its frames have no flow"
                    + (", whatever the filter" if self._filter is not None else "")
                ),
            )
        self._unread.add(linktype)
        return True

    def _end_files(self, reader: Reader) -> None:
        """Close the files that were read to their ends, and note what is wrong with them."""
        for file in list(self._reading):
            if not reader.is_read(file.source):
                continue
            if problem := self._problem(reader, file):
                self._problems.append(problem)
            with self._closing:
                self._reading.remove(file)
                self._ended.append(file)
                file.close()

    def _problem(self, reader: Reader, file: CaptureFile) -> CaptureFileError | None:
        if self._stopping:
            return None  # the stream was cut here because the caller asked for it
        problem = reader.savefile_problem(file.source)
        if file.feeder is not None and file.feeder.error is not None:
            problem = file.feeder.error, reader.savefile_offset(file.source)
        if problem is None:
            return None
        text, offset = problem
        if offset:
            where = " of the unpacked data" if file.feeder is not None and file.size else ""
            text = f"at byte {offset}{where}: {text}; what comes before that is good"
        return CaptureFileError(
            f"read capture file {file.path}: {text}", path=file.path, offset=offset
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

    def lend(self, limit: int) -> EventBatch:
        """As ``take()``, without a copy, for text: the next call overwrites the events."""
        return self._opened().lend(limit)

    def take_interval(self) -> Span | None:
        """As ``Capture.take_interval``; an interval comes after the events before its end."""
        return self._opened().take_interval()

    def take_last_interval(self) -> Span:
        """As ``Capture.take_last_interval``."""
        return self._opened().take_last_interval()

    def set_filter(self, filter: FilterLike) -> None:
        """Raise ``OptionError``: frames that were read cannot be filtered again."""
        raise OptionError(
            f"set_filter on {self._name}: a file has one filter; replay it again", option="filter"
        )

    def stop(self) -> None:
        """End the thread. Idempotent; blocks.

        What a pipe has brought by now is read first, as long as somebody takes the events.
        """
        if self._reader is None or self._final is not None:
            return
        self._stopped = True
        if self._thread is not None:
            self._read_what_came(self._reader, self._thread)
        self._reader.stop()
        if self._filter is not None:
            self._filter.stop()
        if self._thread is not None:
            self._thread.join()

    def _read_what_came(self, reader: Reader, thread: threading.Thread) -> None:
        with self._closing:
            feeders = [file.feeder for file in self._reading if file.feeder is not None]
            pipes = [feeder for feeder in feeders if feeder.streams]
            if not pipes:
                return
            if thread.is_alive():
                self._stopping = True
                for pipe in pipes:
                    pipe.end()
        before = -1
        while thread.is_alive() and (now := self._bytes_read(reader)) != before:
            before = now
            thread.join(_GRACE)

    def _bytes_read(self, reader: Reader) -> int:
        with self._closing:
            return sum(reader.savefile_offset(file.source) for file in self._reading)

    def finish(self, limit: int, *, lend: bool = False) -> Iterator[EventBatch]:
        """After the end of the file: end the live flows and yield all events that are left.

        ``lend``: as ``lend()``.
        """
        return self._opened().finish(limit, lend=lend)

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after ``close()``."""
        with self._closing:
            if self._final is not None:
                return self._final
            return self._opened().statistics(self._how.backend, None, (), {})

    # -- records of one file, instead of events --

    def copy(self, form: int, limit: int, timeout: float) -> Copied:
        """Return records of the file that match the filter, as ``Reader.copy()``."""
        reader = self._opened()
        if len(self._files) > 1:
            raise OptionError(
                f"path: {self._name}: only one file can be read here; merge them first (mergecap)",
                option="path",
            )
        copied = reader.copy(form, limit, timeout)
        if copied.asks and self._filter is not None:
            self._filter.answer(reader)
        return copied

    def file_interface(self, number: int) -> FileInterface | None:
        """Return an interface that the file has described by now."""
        return self._opened().file_interface(number)

    def problem(self) -> CaptureFileError | None:
        """Return what is wrong with the file, where ``copy()`` has come to an end."""
        return self._problem(self._opened(), self._files[0])

    def end(self) -> bool:
        """Have a pipe end with what it has brought by now. False for a file. From any thread."""
        feeder = self._files[0].feeder if self._files else None
        if feeder is None or not feeder.streams:
            if self._filter is not None:
                self._filter.stop()
            return False
        self._stopping = True
        feeder.end()
        return True

    # -- closing --

    def _opened(self) -> Reader:
        if self._reader is None or self._final is not None:
            raise ClosedError(f"replay of {self._name}: it is not open")
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
                self._final = self._reader.statistics(self._how.backend, None, (), {})
                self._stack.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
