"""The records that wait for a broker: bounded, with the oldest dropped first, and all counted.

accepted = acknowledged + dropped + pending, at every moment; pending is queued and in flight.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netring_bpf.errors import ClosedError

__all__ = ["Outbox", "OutboxStatistics"]


@dataclass(frozen=True, slots=True)
class OutboxStatistics:
    """The books of a disk outbox over all its runs: accepted = acknowledged + dropped + pending.

    ``accepted``: flows taken in. ``acknowledged``: flows that the broker has. ``dropped``: flows
    given up, by reason. ``pending``: flows that wait. ``restored``: how many flows an earlier run
    had left when this one began. ``size``: the bytes that the outbox takes on the disk.
    ``failures``: the number of writes that the disk refused.
    """

    accepted: int
    acknowledged: int
    dropped: Mapping[str, int]
    pending: int
    restored: int
    size: int
    failures: int


class Outbox:
    """Encoded records between one task that accepts them and one that sends them in batches.

    It keeps at most ``limit`` records. A batch is due when it has ``batch_records`` or
    ``batch_bytes`` (of JSON, separators included). ``resize`` makes batches smaller for a while.
    """

    def __init__(self, limit: int, *, batch_records: int, batch_bytes: int) -> None:
        self._limit = limit
        self._batch_records = batch_records
        self._longest = batch_bytes
        self._batch_bytes = batch_bytes
        self._message_bytes = batch_bytes
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._in_flight: list[bytes] = []
        self._accepted = 0
        self._acknowledged = 0
        self._dropped: Counter[str] = Counter()
        self._closed = False
        self._some = asyncio.Event()
        self._enough = asyncio.Event()

    @property
    def accepted(self) -> int:
        """The number of records taken in."""
        return self._accepted

    @property
    def acknowledged(self) -> int:
        """The number of records whose batch was acknowledged."""
        return self._acknowledged

    @property
    def dropped(self) -> Mapping[str, int]:
        """The number of records given up, by reason.

        ``overflow``: there was no room. ``too_large``: longer than a message may be. The others
        are those of ``drop``.
        """
        return dict(self._dropped)

    @property
    def pending(self) -> int:
        """The number of records queued or in flight."""
        return len(self._queue) + len(self._in_flight)

    @property
    def restored(self) -> int:
        """The number of the accepted records that an earlier run has left."""
        return 0

    def statistics(self) -> OutboxStatistics | None:
        """Return the books over all runs, if they are kept."""
        return None

    @property
    def finished(self) -> bool:
        """Whether the outbox is closed and empty."""
        return self._closed and self.pending == 0

    def accept(self, records: Sequence[bytes]) -> None:
        """Take records in, in order, and drop the oldest if there is no room. Never blocks."""
        if self._closed:
            raise ClosedError("accept records into an outbox that is closed")
        self._accepted += len(records)
        fitting = [record for record in records if len(record) + 2 <= self._longest]
        if len(fitting) < len(records):
            self._dropped["too_large"] += len(records) - len(fitting)
        self._add(fitting)
        self._signal()

    def resize(self, *, batch_bytes: int, message_bytes: int) -> None:
        """Make batches of at most ``batch_bytes``, and drop what is longer than a message.

        Neither exceeds what the constructor was given. A record that is longer than a batch and
        not than a message goes alone.
        """
        self._message_bytes = min(message_bytes, self._longest)
        self._batch_bytes = min(batch_bytes, self._message_bytes)
        self._signal()

    def close(self) -> None:
        """Take in nothing more; the rest does not wait for a full batch."""
        self._closed = True
        self._signal()

    async def keep(self) -> None:
        """Keep the records safe until cancelled: memory needs nothing for that."""

    async def end(self) -> None:
        """Let go of all that it has, behind the last batch."""

    async def wait_batch(self, patience: float) -> None:
        """Wait for a record, then up to ``patience`` seconds for a full batch; or for the close."""
        if self._enough.is_set():
            return
        await self._some.wait()
        try:
            async with asyncio.timeout(patience):
                await self._enough.wait()
        except TimeoutError:
            return

    def take(self) -> list[bytes]:
        """Move a batch from the queue into flight and return it; empty if nothing is queued.

        Records at the head that are longer than a message are dropped; behind others they end the
        batch.
        """
        if self._in_flight:
            raise ClosedError("take a batch while one is in flight")
        size = 1
        while self._queue and len(self._in_flight) < self._batch_records:
            length = len(self._queue[0])
            fault = self._fault(self._queue[0])
            too_many = size + length + 1 > self._batch_bytes
            if self._in_flight and (fault is not None or too_many):
                break
            record = self._queue.popleft()
            self._queued_bytes -= length + 1
            if fault is None:
                size += length + 1
                self._in_flight.append(record)
            else:
                self._dropped[fault] += 1
                self._left(1)
        self._signal()
        return list(self._in_flight)

    def acknowledge(self) -> None:
        """Count the batch in flight as arrived."""
        count = len(self._in_flight)
        self._acknowledged += count
        self._in_flight = []
        self._left(count)

    def drop(self, reason: str) -> None:
        """Give up the batch in flight, and count it under ``reason``."""
        if count := len(self._in_flight):
            self._dropped[reason] += count
            self._in_flight = []
            self._left(count)

    def give_back(self) -> None:
        """Put the batch in flight back at the head of the queue: it did not arrive."""
        self._queue.extendleft(reversed(self._in_flight))
        self._queued_bytes += sum(len(record) + 1 for record in self._in_flight)
        self._in_flight = []
        self._trim()
        self._signal()

    def _add(self, records: Sequence[bytes]) -> None:
        self._queue.extend(records)
        self._queued_bytes += sum(map(len, records)) + len(records)
        self._trim()

    def _fault(self, record: bytes) -> str | None:
        """Return why the record cannot be sent, if so."""
        return None if len(record) + 2 <= self._message_bytes else "too_large"

    def _left(self, count: int) -> None:
        """Note that so many records have left for good, those at the head."""

    def _trim(self) -> None:
        # Records in flight count too, as the limit is on memory.
        while self._queue and self.pending > self._limit:
            self._queued_bytes -= len(self._queue.popleft()) + 1
            self._dropped["overflow"] += 1

    def _signal(self) -> None:
        enough = (
            self._closed
            or len(self._queue) >= self._batch_records
            or self._queued_bytes >= self._batch_bytes
        )
        _set(self._some, self._closed or bool(self._queue))
        _set(self._enough, enough)


def _set(event: asyncio.Event, state: bool) -> None:
    if state:
        event.set()
    else:
        event.clear()
