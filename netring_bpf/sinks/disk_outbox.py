"""An outbox on disk: the records outlive the process, and an absent broker costs no memory.

The event loop decides, a thread writes and reads. In order, the records that wait are

    in flight | in the queue | on the disk alone | in the tail
              '-- in memory                         '-- in memory, to be written

and those that are on the disk come before those that are not. The part on the disk alone and the
tail are empty while the broker keeps up. A record that is acknowledged before it was written never
is, so a broker that keeps up spares the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Final

from netring_bpf.errors import printable
from netring_bpf.sinks.outbox import Outbox, OutboxStatistics
from netring_bpf.sinks.outbox_folder import (
    ENTRY_BYTES,
    MARK_BYTES,
    Mark,
    OutboxFolder,
    Saved,
    Segment,
    Synced,
)

__all__ = ["DiskOutbox"]

_log = logging.getLogger("netring_bpf.sinks.mqtt")

_TICK: Final = 0.25  # seconds from one write to the next
_AFTER_FAILURE: Final = 1.0  # seconds
_LAST_SAVE: Final = 10.0  # seconds that the end waits for a disk that hangs
_SEGMENTS: Final = 8  # so many at least
_LONGEST_SEGMENT: Final = 8 << 20
_WINDOW_RECORDS: Final = 8192  # of the queue
_WINDOW_BYTES: Final = 4 << 20


class DiskOutbox(Outbox):
    """An ``Outbox`` of at most ``capacity`` bytes in ``folder``, which has one owner at a time.

    The oldest segment makes room for new records: ``overflow``. At most ``limit`` records wait in
    memory for the disk, and some thousands that were read from it. If the disk takes none, and
    holds some, new ones are dropped as ``disk``; if it holds none, this is an ``Outbox`` in memory.
    ``corrupt`` are records that cannot be read back, ``torn`` those that were not whole when their
    process ended.

    Records that an earlier run has left count as accepted again, and as ``restored``. ``keep`` has
    to run, and ``end`` at the end. Raises ``OutboxError``.
    """

    def __init__(
        self,
        folder: Path,
        capacity: int,
        limit: int,
        *,
        batch_records: int,
        batch_bytes: int,
        tick: float = _TICK,
    ) -> None:
        super().__init__(limit, batch_records=batch_records, batch_bytes=batch_bytes)
        self._tick = tick
        self._capacity = capacity
        self._segment_bytes = min(
            capacity // _SEGMENTS, max(_LONGEST_SEGMENT, 2 * batch_bytes + MARK_BYTES)
        )
        self._window = min(limit, max(_WINDOW_RECORDS, 4 * batch_records))
        self._window_bytes = max(_WINDOW_BYTES, 4 * batch_bytes)
        self._folder = OutboxFolder(folder)
        try:
            found = self._folder.recover()
        except BaseException:
            self._folder.close()
            raise
        self._before = found.mark
        self._segments = deque(found.segments)
        self._growing = False  # whether the last segment takes more
        self._garbage: dict[int, int] = {}  # segments to remove, and their sizes
        # Of the records in memory, in order: those on the disk that were taken off it, those on
        # the disk, those that are just being written, and others.
        self._evicted = 0
        self._stored = 0
        self._writing = 0
        self._passed = 0  # of those being written: gone by now
        self._on_disk = found.end - found.mark.head  # alone
        self._tail: deque[bytes] = deque()
        self._tail_writing = 0
        self._head = found.mark.head  # the number of the first record on the disk that waits
        self._next = found.end  # the number of the next record that is written
        self._saved_mark: Mark | None = None
        self._saving: asyncio.Future[Saved] | None = None
        self._syncing: asyncio.Future[Synced] | None = None
        self._unsynced = False
        self._removable: tuple[int, ...] = ()  # garbage, by the word of a mark that is written
        self._more = False  # whether the latest write was too small for all that waits
        self._failures = 0
        self._failing = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="netring-outbox")
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="netring-outbox-sync")
        self._hurry = asyncio.Event()
        self._hungry = asyncio.Event()
        self._restored = self._accepted = self._on_disk + found.torn
        if found.torn:
            self._dropped["torn"] = found.torn
        self._tell_found(found.torn, found.unreadable)
        self._signal()

    @property
    def restored(self) -> int:
        """The number of the accepted records that an earlier run has left."""
        return self._restored

    @property
    def pending(self) -> int:
        """The number of records queued, on the disk or in flight."""
        return len(self._in_flight) + len(self._queue) + self._on_disk + len(self._tail)

    def statistics(self) -> OutboxStatistics:
        """Return the books over all runs."""
        acknowledged = self._before.acknowledged + self._acknowledged
        dropped = _sums(self._before.dropped, self._dropped)
        return OutboxStatistics(
            accepted=acknowledged + sum(dropped.values()) + self.pending,
            acknowledged=acknowledged,
            dropped=dropped,
            pending=self.pending,
            restored=self._restored,
            size=self._size(),
            failures=self._failures,
        )

    async def keep(self) -> None:
        """Write what was accepted, and read what is next, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_always())
            tasks.create_task(self._read_always())

    async def end(self) -> None:
        """Write the rest, and let the folder go."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LAST_SAVE):
                await self._save()
                while not self._failing and await self._save():
                    pass
                while self._syncing is not None:
                    await asyncio.wait([self._syncing])  # lets _synced run first
        except TimeoutError:
            _log.warning("outbox %s: the disk does not answer", self._shown)
        finally:
            # A disk that hangs keeps the folder until it answers.
            answers = self._saving is None and self._syncing is None
            closing = loop.run_in_executor(self._executor, self._folder.close)
            self._executor.shutdown(wait=False)
            self._syncer.shutdown(wait=False)
        if answers:
            await closing

    def give_back(self) -> None:
        """Put the batch in flight back, except for what the disk has no room for any more."""
        if self._evicted:
            self._dropped["overflow"] += self._evicted
            self._in_flight = self._in_flight[self._evicted :]
            self._evicted = 0
        super().give_back()

    # -- what waits --

    @property
    def _unsaved(self) -> int:
        """The number of records in memory alone."""
        in_memory = len(self._in_flight) + len(self._queue) + len(self._tail)
        return in_memory - self._evicted - self._stored

    @property
    def _unwritten(self) -> int:
        """The number of records that are neither on the disk nor on their way to it."""
        return self._unsaved - self._writing - self._tail_writing

    def _add(self, records: Sequence[bytes]) -> None:
        backlog = self._on_disk or self._tail
        fits = self._unsaved + len(records) <= self._limit
        if fits and not backlog and self._has_window(len(records)):
            self._queue.extend(records)
            self._queued_bytes += sum(map(len, records)) + len(records)
            return
        for at, record in enumerate(records):
            if self._unsaved >= self._limit and not self._make_room():
                self._dropped["disk"] += len(records) - at
                break
            if self._on_disk or self._tail or not self._has_window():
                self._tail.append(record)
            else:
                self._queue.append(record)
                self._queued_bytes += len(record) + 1

    def _has_window(self, records: int = 1) -> bool:
        few = len(self._queue) + records <= self._window
        return few and self._queued_bytes < self._window_bytes

    def _make_room(self) -> bool:
        """Drop the oldest record in memory that is not in flight, unless any is on the disk."""
        if self._evicted or self._stored or self._writing or self._on_disk or not self._queue:
            return False
        self._queued_bytes -= len(self._queue.popleft()) + 1
        self._dropped["overflow"] += 1
        self._refill()
        return True

    def _trim(self) -> None:
        # _add does it.
        return

    def _fault(self, record: bytes) -> str | None:
        return super()._fault(record) if record else "corrupt"

    def _left(self, count: int) -> None:
        gone = min(count, self._evicted)
        self._evicted -= gone
        count -= gone
        gone = min(count, self._stored)
        self._stored -= gone
        self._head += gone
        count -= gone
        gone = min(count, self._writing)
        self._writing -= gone
        self._passed += gone
        self._signal()

    def _refill(self) -> None:
        """Move records from the tail to the queue, if they are next."""
        if self._on_disk:
            return
        while self._tail and self._has_window():
            record = self._tail.popleft()
            self._queue.append(record)
            self._queued_bytes += len(record) + 1
            if self._tail_writing:
                self._tail_writing -= 1
                self._writing += 1

    def _signal(self) -> None:
        self._refill()
        done = self._closed and self.pending == 0
        some = done or bool(self._queue)
        enough = some and (
            self._closed
            or len(self._queue) >= self._batch_records
            or self._queued_bytes >= self._batch_bytes
        )
        _set(self._some, some)
        _set(self._enough, enough)
        _set(self._hurry, self._unwritten > self._limit // 4)
        hungry = self._on_disk and 2 * len(self._queue) < self._window
        _set(self._hungry, bool(hungry) and 2 * self._queued_bytes < self._window_bytes)

    # -- to the disk --

    async def _write_always(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            await self._save()
            while self._more and not self._failing:
                await self._save()
            if self._failing:
                await asyncio.sleep(_AFTER_FAILURE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(begin + self._tick):
                    await self._hurry.wait()

    async def _save(self) -> bool:
        """Write what is not on the disk yet, as far as a segment goes; whether there was any."""
        if self._saving is None and not self._begin_save():
            return False
        assert self._saving is not None
        # The thread goes on if this task is cancelled, and _saved hears how it ended. wait() lets
        # that run first: to await a future that is done does not.
        await asyncio.wait([self._saving])
        return True

    def _begin_save(self) -> bool:
        records = list(self._chunk())
        self._more = len(records) < self._unwritten
        size = sum(map(len, records)) + len(records) * ENTRY_BYTES + MARK_BYTES
        growing = self._growing and self._segments[-1].size + size <= self._segment_bytes
        self._evict(size, keep=1 if growing else 0)
        mark = self._mark(self._next + len(records))
        if mark == self._saved_mark:
            return False
        for _ in range(len(self._segments) - growing):
            if self._segments[0].end > self._head:
                break
            self._discard()
        if growing:
            segment = self._segments[-1]
        else:
            segment = Segment(self._folder.next_serial, self._next, self._next, 0)
            self._growing = False
        in_memory = len(self._in_flight) + len(self._queue) - self._evicted - self._stored
        self._writing = min(len(records), in_memory)
        self._tail_writing = len(records) - self._writing
        self._passed = 0
        loop = asyncio.get_running_loop()
        self._saving = loop.run_in_executor(
            self._executor, self._folder.save, segment.serial, mark, records
        )
        self._saving.add_done_callback(
            lambda saving: self._saved(saving.result(), segment, mark, len(records))
        )
        return True

    def _chunk(self) -> Iterator[bytes]:
        """The records to write next: as many as a segment takes."""
        room = self._segment_bytes - 2 * MARK_BYTES
        written = self._evicted + self._stored
        unwritten = islice(chain(self._in_flight, self._queue), written, None)
        for record in chain(unwritten, self._tail):
            room -= len(record) + ENTRY_BYTES
            if room < 0:
                return
            yield record

    def _mark(self, end: int) -> Mark:
        dropped = _sums(self._before.dropped, self._dropped)
        if self._evicted:  # they are in flight, and no more than that
            dropped["overflow"] = dropped.get("overflow", 0) + self._evicted
        acknowledged = self._before.acknowledged + self._acknowledged
        return Mark(acknowledged, dropped, self._head, end)

    def _saved(self, saved: Saved, segment: Segment, mark: Mark, count: int) -> None:
        """Take over how a write ended."""
        self._saving = None
        self._removable = tuple(self._garbage)
        self._growing = saved.error is None
        if saved.error is None:
            segment.size += saved.written
            segment.end += count
            if not self._segments or self._segments[-1] is not segment:
                self._segments.append(segment)
            self._saved_mark = mark
            self._next += count
            self._head += self._passed
            self._stored += self._writing
            for _ in range(self._tail_writing):
                self._tail.popleft()
            self._on_disk += self._tail_writing
            if self._failing:
                _log.info("outbox %s: the disk takes flows again", self._shown)
            self._failing = False
        else:
            self._failed(saved.error)
            if saved.left:
                self._garbage.setdefault(segment.serial, saved.written)
        self._writing = self._passed = self._tail_writing = 0
        self._signal()
        self._unsynced = True
        self._begin_sync()

    def _begin_sync(self) -> None:
        """Let the disk take what was written, one sync at a time."""
        if self._syncing is None and self._unsynced:
            self._unsynced = False
            loop = asyncio.get_running_loop()
            self._syncing = loop.run_in_executor(self._syncer, self._folder.sync, self._removable)
            self._syncing.add_done_callback(lambda syncing: self._synced(syncing.result()))

    def _synced(self, synced: Synced) -> None:
        self._syncing = None
        for serial in synced.removed:
            self._garbage.pop(serial, None)
        if synced.error is not None:
            self._failed(synced.error)
            self._growing = False
        self._begin_sync()

    def _failed(self, error: OSError) -> None:
        self._failures += 1
        if not self._failing:
            _log.warning(
                "outbox %s: cannot write: %s; flows wait in memory, up to %d",
                self._shown,
                error.strerror,
                self._limit,
            )
        self._failing = True

    # -- room on the disk --

    def _size(self) -> int:
        return sum(segment.size for segment in self._segments) + sum(self._garbage.values())

    def _evict(self, size: int, *, keep: int) -> None:
        """Give up the oldest segments until so many bytes fit."""
        # The thread removes files behind the write: until then there must be room for both.
        room = self._capacity - self._segment_bytes - size
        while len(self._segments) > keep and self._live() > room:
            self._give_up(self._segments[0].end)
            self._discard()

    def _live(self) -> int:
        return sum(segment.size for segment in self._segments)

    def _discard(self) -> None:
        segment = self._segments.popleft()
        self._garbage[segment.serial] = segment.size

    def _give_up(self, head: int) -> None:
        """Drop the records on the disk before this number; what is in flight of them may arrive."""
        count = max(0, head - self._head)
        in_memory = min(count, self._stored)
        flying = min(in_memory, len(self._in_flight) - self._evicted)
        self._head += count
        self._stored -= in_memory
        self._evicted += flying
        for _ in range(in_memory - flying):
            self._queued_bytes -= len(self._queue.popleft()) + 1
        self._on_disk -= count - in_memory
        if count > flying:
            self._dropped["overflow"] += count - flying
        self._signal()

    # -- from the disk --

    async def _read_always(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._hungry.wait()
            number = self._head + self._stored
            read = functools.partial(
                self._folder.read,
                number,
                [dataclasses.replace(segment) for segment in self._segments],
                end=number + self._on_disk,
                records=self._window,
                size=self._window_bytes,
            )
            records = await loop.run_in_executor(self._executor, read)
            # Meanwhile the first of them may have been given up.
            records = records[self._head + self._stored - number :]
            self._queue.extend(records)
            self._queued_bytes += sum(map(len, records)) + len(records)
            self._stored += len(records)
            self._on_disk -= len(records)
            self._signal()

    # -- what is told --

    @property
    def _shown(self) -> str:
        return printable(str(self._folder.path))

    def _tell_found(self, torn: int, unreadable: int) -> None:
        if self._on_disk:
            _log.info("outbox %s: %d flows of an earlier run wait", self._shown, self._on_disk)
        if torn or unreadable:
            _log.warning(
                "outbox %s: %d flows were not written whole, and %d cannot be read: they are "
                "dropped, and counted as torn and corrupt",
                self._shown,
                torn,
                unreadable,
            )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {**one, **other}}


def _set(event: asyncio.Event, state: bool) -> None:
    if state:
        event.set()
    else:
        event.clear()
