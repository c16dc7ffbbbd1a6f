"""The readers of one capture: one for each thread, read and counted as if they were one.

Nothing is shared between them: each has its rings, its flow table and its hand-off, and no lock.
Flow ids are unique over all; events of different readers come in no order of time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Self

from netring_bpf.errors import OptionError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Packet
from netring_bpf.filter.libpcap import Instruction
from netring_bpf.ring.books import capture_statistics, sum_books
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.reader import Blocks, Reader
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["Readers"]

_LEAST_EVENT_SLOTS = 1024
_LOOK = 0.1  # seconds: how often the readers look at the interface while packets are waited for
_MOMENT = 0.001  # seconds


class Readers:
    """Owns so many ``Reader`` and the threads that run them.

    ``options.max_flows`` and ``event_slots`` are divided among them.
    """

    def __init__(self, options: FlowOptions, count: int = 1) -> None:
        self._stack = contextlib.ExitStack()
        self._kept = contextlib.ExitStack()  # the descriptor of the filter in force
        self._filter: Sequence[Instruction] | int | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._turn = 0
        with contextlib.ExitStack() as undo:
            undo.callback(self._forget_filter)
            share = _share(options, count)
            self.each = tuple(
                undo.enter_context(Reader(share, first_id=n + 1, id_step=count))
                for n in range(count)
            )
            self._events = select.epoll(count)
            undo.callback(self._events.close)
            for reader in self.each:
                self._events.register(reader.fileno(), select.EPOLLIN)
            self._stack = undo.pop_all()

    # -- settings, of all of them --

    def set_filter(self, program: Sequence[Instruction] | int) -> None:
        """Give every TPACKET_V3 socket another filter, one after the other.

        A flow belongs to one socket, so that none of its frames is seen by both filters or by
        none. Raises ``SyscallError``: then all have the old filter, if this has set it.
        """
        kept = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.enter_context(kept)
            if isinstance(program, int):
                program = os.dup(program)  # the caller's own is closed soon
                kept.callback(os.close, program)
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

    def set_snaplen(self, snaplen: int) -> None:
        """From now on, give out so many bytes of a frame from AF_XDP sockets."""
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
        """Of all AF_XDP sockets, as ``Reader.napi_ids``."""
        return tuple(napi_id for reader in self.each for napi_id in reader.napi_ids)

    # -- the threads --

    def start(self, cpus: Sequence[int] | None, done: Callable[[int], None]) -> None:
        """Run each reader in a thread, on its CPU where there are some.

        When the first ends by an error, the others are stopped. ``done`` is called in the last
        that ends, with the error (an errno, negated) or 0. Raises ``OptionError`` for a CPU that
        is not there or not allowed: nothing runs then.
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
                thread.start()
                self._threads.append(thread)
            for n, future in enumerate(placed):
                _await_place(future, n, cpus)
        except BaseException:
            on_end.forget()
            self.stop()
            self.join()
            raise

    def stop(self) -> None:
        """Make the threads, or ``packets()``, return soon. From any thread."""
        self._stopping.set()
        for reader in self.each:
            reader.stop()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join()

    # -- events --

    def fileno(self) -> int:
        """Return a descriptor that is readable when events wait at any of them."""
        return self._events.fileno() if len(self.each) > 1 else self.each[0].fileno()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` events of one reader that has some, in turn. Never blocks."""
        for reader in self._in_turn():
            batch = reader.take(limit)
            if batch:
                break
        return batch

    def flush(self) -> int:
        """After the threads have ended: as ``Reader.flush``, of all."""
        return sum(reader.flush() for reader in self.each)

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After the threads have ended: as ``Reader.finish``, of one after the other."""
        for reader in self.each:
            yield from reader.finish(limit)

    def statistics(
        self,
        backend: str,
        attach: str | None,
        queues: tuple[QueueStatistics, ...],
        matches: Mapping[str, int],
    ) -> CaptureStatistics:
        """Return the sum of the readers' books, with what others know of the capture put in."""
        books = sum_books(reader.books() for reader in self.each)
        return capture_statistics(books, backend, attach, queues, matches)

    # -- packets --

    def packets(self, limit: int, timeout: float) -> list[Packet]:
        """Copy up to ``limit`` frames out, waiting ``timeout`` seconds for the first."""
        if len(self.each) == 1:
            return self.each[0].packets(limit, timeout)
        for reader, patience in self._until(timeout):
            if packets := reader.packets(limit, patience):
                return packets
        return []

    def blocks(self, limit: int, timeout: float) -> Blocks | None:
        """As ``Reader.blocks``."""
        if len(self.each) == 1:
            return self.each[0].blocks(limit, timeout)
        for reader, patience in self._until(timeout):
            if blocks := reader.blocks(limit, patience):
                return blocks
        return None

    def quiesce(self) -> None:
        """Take in nothing new; what is there can still be read."""
        for reader in self.each:
            reader.quiesce()

    def _in_turn(self) -> Iterator[Reader]:
        """Each once, beginning with another at every call, so that none waits for ever."""
        self._turn = (self._turn + 1) % len(self.each)
        yield from self.each[self._turn :]
        yield from self.each[: self._turn]

    def _until(self, timeout: float) -> Iterator[tuple[Reader, float]]:
        """Readers that may have frames, until ``stop()`` or for so many seconds.

        With each the time that it is to wait: a moment where a socket has an error, as it is the
        waiting reader that looks at the interface and clears the error, or sees that it is gone.
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

    def close(self) -> None:
        """Free the rings and the tables. Idempotent; not while the threads run."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _share(options: FlowOptions, count: int) -> FlowOptions:
    """What each of so many readers gets: table and hand-off are divided, rounded up."""
    slots = options.event_slots
    while slots * count > options.event_slots and slots > _LEAST_EVENT_SLOTS:
        slots //= 2
    flows = -(-options.max_flows // count)
    return dataclasses.replace(options, max_flows=flows, event_slots=slots)


class _OnEnd:
    """What the threads do when they end."""

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
        """Nobody is told any more."""
        with self._lock:
            self._done = None


def _run(reader: Reader, cpu: int | None, placed: Future[None], on_end: _OnEnd) -> None:
    try:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})  # of this thread alone
    except BaseException as error:  # noqa: BLE001 - who starts the thread waits for it
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
