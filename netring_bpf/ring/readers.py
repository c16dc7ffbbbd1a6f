"""The readers of one capture, one a thread, used and counted as if they were one.

They share the names of addresses alone, and need no lock: each has its own rings, flow table and
hand-off. Flow ids are unique over all readers; events of different readers come in no order of
time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Self

from netring_bpf.errors import OptionError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Packet
from netring_bpf.filter.libpcap import Instruction
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.ring.books import capture_statistics, sum_books
from netring_bpf.ring.flow_ids import random_id
from netring_bpf.ring.flow_options import (
    DEFAULT_MAX_FLOWS,
    LEAST_NAMES_MEMORY,
    FlowOptions,
)
from netring_bpf.ring.names import AddressNames
from netring_bpf.ring.reader import Blocks, Reader, SharedSums, Span
from netring_bpf.statistics import CaptureStatistics, QueueStatistics
from netring_bpf.threads import start_thread

__all__ = ["Readers"]

_LEAST_EVENT_SLOTS = 1024
_LOOK = 0.1  # seconds between two looks at the interface, while ``packets()`` waits
_MOMENT = 0.001  # seconds


class Readers:
    """Owns ``count`` readers, and the threads that run them.

    The readers share ``max_flows``, ``event_slots`` and ``names_memory`` of the options alike.
    ``sums``: as of ``Reader``; one for all of them.
    """

    def __init__(
        self, options: FlowOptions, count: int = 1, *, sums: SharedSums | None = None
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._kept = contextlib.ExitStack()  # the descriptor of the filter in force
        self._kept_descriptors: set[int] = set()
        self._filter: Sequence[Instruction] | int | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._turn = 0
        self._spans: dict[int, Span] = {}  # by reader, since all have handed an interval over
        with contextlib.ExitStack() as undo:
            undo.callback(self._forget_filter)
            share = _share(options, count)
            first_id = random_id() // count * count + 1
            self.names: AddressNames = AddressNames()
            self.each: tuple[Reader, ...] = tuple(
                undo.enter_context(
                    Reader(share, first_id=first_id + n, id_step=count, names=self.names, sums=sums)
                )
                for n in range(count)
            )
            with held_off():
                self._events = select.epoll(count)
                close_in_child(self)
            undo.callback(self._events.close)
            for reader in self.each:
                self._events.register(reader.fileno(), select.EPOLLIN)
            self._stack = undo.pop_all()

    # -- settings of all readers --

    def set_filter(self, program: Sequence[Instruction] | int) -> None:
        """Swap the filter of every TPACKET_V3 socket, one after the other.

        Each frame of a flow meets exactly one of the two filters, as a flow belongs to one socket.
        Raises ``SyscallError``; all sockets then have the filter that this method set before, if
        it did.
        """
        kept = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.enter_context(kept)
            if isinstance(program, int):
                with held_off():
                    program = os.dup(program)  # the caller will close its own
                    self._kept_descriptors.add(program)
                kept.callback(self._drop, program)
            for reader in self.each:
                reader.set_filter(program)
                if self._filter is not None:
                    undo.callback(reader.set_filter, self._filter)
            undo.pop_all()
        self._forget_filter()
        self._filter, self._kept = program, kept

    def _forget_filter(self) -> None:
        self._filter = None
        self._kept.close()

    def _drop(self, descriptor: int) -> None:
        self._kept_descriptors.discard(descriptor)
        os.close(descriptor)

    def set_snaplen(self, snaplen: int) -> None:
        """From now on, give out at most ``snaplen`` bytes of a frame from AF_XDP sockets."""
        for reader in self.each:
            reader.set_snaplen(snaplen)

    @property
    def zero_copy(self) -> bool:
        """Whether every AF_XDP socket shares its memory with the driver."""
        return all(reader.zero_copy for reader in self.each)

    @property
    def huge_pages(self) -> bool:
        """Whether the UMEM of every AF_XDP socket is of huge pages."""
        return all(reader.huge_pages for reader in self.each)

    @property
    def napi_ids(self) -> tuple[int, ...]:
        """As ``Reader.napi_ids``, of all AF_XDP sockets."""
        return tuple(napi_id for reader in self.each for napi_id in reader.napi_ids)

    @property
    def lacks_crypto(self) -> bool:
        """As ``Reader.lacks_crypto``."""
        return self.each[0].lacks_crypto

    # -- the threads --

    def start(self, cpus: Sequence[int] | None, done: Callable[[int], None]) -> None:
        """Run each reader in a thread, on its CPU of ``cpus``; on any CPU if that is None.

        A reader that ends by an error stops the others. The last thread to end calls ``done`` with
        the first error, a negated errno, or 0. Raises ``OptionError`` for a CPU that is missing or
        not allowed; then no thread runs.
        """
        on_end = _OnEnd(len(self.each), self.stop, done)
        placed: list[Future[None]] = []
        try:
            for n, reader in enumerate(self.each):
                cpu = cpus[n] if cpus is not None else None
                placed.append(Future())
                thread = threading.Thread(
                    target=_run,
                    args=(reader, cpu, placed[-1], on_end),
                    name="netring-reader" if n == 0 else f"netring-reader-{n}",
                    daemon=True,
                )
                start_thread(thread)
                self._threads.append(thread)
            for n, future in enumerate(placed):
                _await_place(future, n, cpus)
        except BaseException:
            on_end.forget()
            self.stop()
            self.join()
            raise

    def stop(self) -> None:
        """Make the threads, ``packets()`` and ``blocks()`` return soon. From any thread."""
        self._stopping.set()
        for reader in self.each:
            reader.stop()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join()

    # -- events --

    def fileno(self) -> int:
        """Return a descriptor that is readable when events wait at any reader."""
        return self._events.fileno() if len(self.each) > 1 else self.each[0].fileno()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` events of the next reader that has some. Never blocks."""
        for reader in self._in_turn():
            batch = reader.take(limit)
            if batch:
                break
        return batch

    def flush(self) -> int:
        """After the threads have ended: as ``Reader.flush``, of all readers."""
        return sum(reader.flush() for reader in self.each)

    def discard(self) -> None:
        """After the threads have ended: as ``Reader.discard``, of all readers."""
        for reader in self.each:
            reader.discard()

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After the threads have ended: as ``Reader.finish``, of each reader in turn."""
        for reader in self.each:
            yield from reader.finish(limit)

    def take_interval(self) -> Span | None:
        """Add the intervals that are over to the sums, as ``Reader.take_interval``.

        Returns the time of all of them once each reader has handed over one at least.
        """
        for n, reader in enumerate(self.each):
            if (span := reader.take_interval()) is not None:
                self._spans[n] = _joined([self._spans.get(n, span), span])
        if len(self._spans) < len(self.each):
            return None
        spans, self._spans = self._spans, {}
        return _joined(spans.values())

    def take_last_interval(self) -> Span:
        """After ``finish()``: as ``Reader.take_last_interval``, of all readers."""
        spans = [*self._spans.values(), *(reader.take_last_interval() for reader in self.each)]
        self._spans = {}
        return _joined(spans)

    def statistics(
        self,
        backend: str,
        attach: str | None,
        queues: tuple[QueueStatistics, ...],
        matches: Mapping[str, int],
    ) -> CaptureStatistics:
        """Return the sum of the readers' books, with the other arguments as fields."""
        books = sum_books(reader.books() for reader in self.each)
        return capture_statistics(books, backend, attach, queues, matches)

    # -- packets --

    def packets(self, limit: int, timeout: float) -> list[Packet]:
        """As ``Reader.packets``, of whichever reader has frames first."""
        if len(self.each) == 1:
            return self.each[0].packets(limit, timeout)
        for reader, patience in self._until(timeout):
            if packets := reader.packets(limit, patience):
                return packets
        return []

    def blocks(self, limit: int, timeout: float) -> Blocks | None:
        """As ``Reader.blocks``, of whichever reader has frames first."""
        if len(self.each) == 1:
            return self.each[0].blocks(limit, timeout)
        for reader, patience in self._until(timeout):
            if blocks := reader.blocks(limit, patience):
                return blocks
        return None

    def quiesce(self) -> None:
        """Take in no new frames; those in the rings can still be read."""
        for reader in self.each:
            reader.quiesce()

    def _in_turn(self) -> Iterator[Reader]:
        """Yield each reader once, from another one at every call, so that none starves."""
        self._turn = (self._turn + 1) % len(self.each)
        yield from self.each[self._turn :]
        yield from self.each[: self._turn]

    def _until(self, timeout: float) -> Iterator[tuple[Reader, float]]:
        """Yield readers that may have frames, and the seconds that each may wait.

        Ends after ``timeout`` seconds or at ``stop()``. A reader waits a moment if a socket has an
        error: only a waiting reader looks at the interface, and clears the error or reports that
        the interface is gone.
        """
        deadline = time.monotonic() + timeout
        waiter = select.poll()
        for reader in self.each:
            for descriptor in reader.descriptors:
                waiter.register(descriptor, select.POLLIN)
        patience = 0.0
        while not self._stopping.is_set():
            for reader in self._in_turn():
                yield reader, patience
            left = deadline - time.monotonic()
            if left <= 0:
                return
            said = waiter.poll(min(left, _LOOK) * 1000)
            failed = any(events & ~select.POLLIN for _, events in said)
            patience = _MOMENT if failed else 0.0

    # -- life --

    @property
    def stopping(self) -> bool:
        """Whether ``stop()`` was called."""
        return self._stopping.is_set()

    def close(self) -> None:
        """Free the rings and the tables. Idempotent; not while the threads run."""
        self._stack.close()

    def abandon(self) -> None:
        """Close the descriptors of a forked child; each reader does so for itself."""
        self._events.close()
        while self._kept_descriptors:
            os.close(self._kept_descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _joined(spans: Iterable[Span]) -> Span:
    """Return the time from the first beginning to the last end; of readers without any, 0 to 0."""
    begun = [span for span in spans if span.end > 0]
    return Span(min((s.start for s in begun), default=0), max((s.end for s in begun), default=0))


def _share(options: FlowOptions, count: int) -> FlowOptions:
    """Return the options of each of ``count`` readers: its share of table and hand-off."""
    slots = options.event_slots
    while slots * count > options.event_slots and slots > _LEAST_EVENT_SLOTS:
        slots //= 2
    flows = -(-(options.max_flows or DEFAULT_MAX_FLOWS) // count)
    memory = max(options.names_memory // count, LEAST_NAMES_MEMORY)
    return dataclasses.replace(options, max_flows=flows, event_slots=slots, names_memory=memory)


class _OnEnd:
    """Called by each thread at its end: stops the others on an error, and reports the last end."""

    def __init__(
        self, count: int, stop: Callable[[], None], done: Callable[[int], None] | None
    ) -> None:
        self._lock = threading.Lock()
        self._left = count
        self._error = 0
        self._stop = stop
        self._done = done

    def __call__(self, rc: int) -> None:
        with self._lock:
            self._left -= 1
            failed = rc != 0 and self._error == 0
            self._error = self._error or rc
            last = self._left == 0
            done = self._done
        if failed and not last:
            self._stop()
        if last and done is not None:
            done(self._error)

    def forget(self) -> None:
        """Report nothing any more."""
        with self._lock:
            self._done = None


def _run(reader: Reader, cpu: int | None, placed: Future[None], on_end: _OnEnd) -> None:
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})  # of this thread alone
    except BaseException as error:  # noqa: BLE001 - ``start()`` waits for it
        placed.set_exception(error)
        return
    placed.set_result(None)
    on_end(reader.run())


def _await_place(placed: Future[None], n: int, cpus: Sequence[int] | None) -> None:
    try:
        placed.result()
    except (OSError, OverflowError) as error:
        allowed = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        why = error.strerror if isinstance(error, OSError) else error
        raise OptionError(
            f"cpus={cpus!r}: thread {n} cannot run on CPU {cpus[n] if cpus else 0}: "
            f"{why}; the CPUs that this process may use are {allowed}",
            option="cpus",
        ) from error
