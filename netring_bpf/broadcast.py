"""Room 4: one stream of events to any number of subscribers of this process.

Pure asyncio: no I/O, no thread, no clock of its own. The semantics are those of tokio's
broadcast channel, at the grain of single events:

- the latest ``buffer`` events are retained, shared by all subscribers;
- publishing never waits: the oldest retained event is overwritten;
- a subscriber that is more than ``buffer`` events behind receives ``Lagged(n)``, n being exactly
  the number it missed, and goes on with the oldest event retained;
- a new subscriber sees only what is published later;
- after ``close()`` subscribers still receive what is retained, then their iteration ends.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from netring_bpf.errors import ClosedError, OptionError
from netring_bpf.records import Event, Lagged

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "BatchSubscriber",
    "BroadcastStatistics",
    "FlowBroadcast",
    "FlowSubscriber",
    "SubscriberStatistics",
]


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    """One subscriber's books: published = delivered + lagged + filtered + pending.

    ``published``: events since it subscribed, until it closed. ``delivered``: given to it.
    ``lagged``: overwritten before it came to them, the sum of its ``Lagged``.
    ``filtered``: passed over by its ``kinds`` or ``where``. ``pending``: not yet looked at.
    """

    name: str
    published: int
    delivered: int
    lagged: int
    filtered: int
    pending: int


@dataclass(frozen=True, slots=True)
class BroadcastStatistics:
    """What was published, and each live subscriber's books."""

    published: int
    receiver_count: int
    subscribers: tuple[SubscriberStatistics, ...]


class FlowBroadcast:
    """Fans events out to its subscribers. Use it from one event loop only.

    ``buffer`` is the number of events retained for subscribers that are behind. Raises
    ``OptionError`` when it is not positive.
    """

    def __init__(self, buffer: int = 4096) -> None:
        if buffer < 1:
            raise OptionError(f"buffer={buffer!r}: must be at least 1", option="buffer")
        self._buffer = buffer
        self._published = 0
        # (sequence number of the first event, events): batches are shared, never copied.
        self._retained: deque[tuple[int, Sequence[Event]]] = deque()
        self._subscribers: weakref.WeakSet[_Subscriber] = weakref.WeakSet()
        self._subscribed = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._room_waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def buffer(self) -> int:
        """How many events are retained."""
        return self._buffer

    @property
    def published(self) -> int:
        """Events published so far."""
        return self._published

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closed

    @property
    def receiver_count(self) -> int:
        """Subscribers that are open."""
        return len(self._subscribers)

    def subscribe(
        self,
        *,
        kinds: type[Event] | tuple[type[Event], ...] | None = None,
        where: Callable[[Event], bool] | None = None,
        name: str | None = None,
    ) -> FlowSubscriber:
        """Return a new subscriber, which receives what is published from now on.

        ``kinds``: only events of these classes (``Lagged`` always comes). ``where``: only events
        for which it returns true; what it raises is raised in the subscriber's own iteration.
        """
        self._subscribed += 1
        subscriber = FlowSubscriber(
            self, kinds=kinds, where=where, name=name or f"subscriber-{self._subscribed}"
        )
        self._subscribers.add(subscriber)
        return subscriber

    def subscribe_batches(
        self,
        *,
        kinds: type[Event] | tuple[type[Event], ...] | None = None,
        name: str | None = None,
    ) -> BatchSubscriber:
        """Return a new subscriber that receives whole batches, as they were published.

        For those who want many events at a time, or want them as columns or as bytes: flow
        events come as ``EventBatch``, nothing of which is decoded before it is looked at.
        ``kinds``: only events of these classes (``Lagged`` always comes).
        """
        self._subscribed += 1
        subscriber = BatchSubscriber(
            self, kinds=kinds, name=name or f"subscriber-{self._subscribed}"
        )
        self._subscribers.add(subscriber)
        return subscriber

    def publish(self, events: Sequence[Event]) -> None:
        """Publish a batch in order. Never blocks; the batch must not change afterwards.

        Raises ``ClosedError`` after ``close()``.
        """
        if self._closed:
            raise ClosedError("publish on a broadcast that is closed")
        if not events:
            return
        self._retained.append((self._published, events))
        self._published += len(events)
        oldest = self._oldest()
        while self._retained[0][0] + len(self._retained[0][1]) <= oldest:
            self._retained.popleft()
        self._wake()

    async def wait_room(self, count: int) -> None:
        """Wait until ``count`` more events can be published without anybody losing any.

        For a publisher that can wait, as the reader of a file; one at a time. Returns at once
        while there are no subscribers.
        """
        count = min(count, self._buffer)
        while self._room() < count:
            self._room_waiter = asyncio.get_running_loop().create_future()
            try:
                await self._room_waiter
            finally:
                self._room_waiter = None

    def _room(self) -> int:
        slowest = min((s._cursor for s in self._subscribers), default=self._published)  # noqa: SLF001
        return self._buffer - (self._published - slowest)

    def _advanced(self) -> None:
        """A subscriber has read on, or has left."""
        waiter = self._room_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """End the stream: subscribers receive what is retained, then stop. Idempotent."""
        self._closed = True
        self._wake()

    def statistics(self) -> BroadcastStatistics:
        """Return the books of the broadcast and of its open subscribers."""
        subscribers = sorted(self._subscribers, key=lambda subscriber: subscriber.name)
        return BroadcastStatistics(
            published=self._published,
            receiver_count=len(subscribers),
            subscribers=tuple(subscriber.statistics() for subscriber in subscribers),
        )

    def _oldest(self) -> int:
        return max(0, self._published - self._buffer)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _find(self, sequence: int) -> tuple[int, Sequence[Event]]:
        """The retained batch that holds ``sequence``: near the end for one who keeps up."""
        for batch in reversed(self._retained):
            if batch[0] <= sequence:
                return batch
        raise LookupError(sequence)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


@runtime_checkable
class _KnowsKinds(Protocol):
    """A batch that can tell what its events are without making them."""

    def of_kinds(self, kinds: type[Event] | tuple[type[Event], ...]) -> Sequence[Event]: ...


class _Subscriber:
    """A place in the stream, and the books of what was done with what came there."""

    def __init__(
        self,
        broadcast: FlowBroadcast,
        *,
        kinds: type[Event] | tuple[type[Event], ...] | None,
        name: str,
    ) -> None:
        self.name = name
        self._broadcast = broadcast
        self._kinds = kinds
        self._start = self._cursor = broadcast.published
        self._end: int | None = None
        self._batch: tuple[int, Sequence[Event]] = (0, ())
        self._delivered = self._lagged = self._filtered = 0
        self._last_ts = 0
        self._waiting = False

    def _missed(self) -> Lagged | None:
        """Go on with the oldest event retained, and say what was missed by that."""
        oldest = self._broadcast._oldest()  # noqa: SLF001 - the classes here are one mechanism
        if self._cursor >= oldest:
            return None
        missed = oldest - self._cursor
        self._cursor = oldest
        self._lagged += missed
        return Lagged(ts=self._last_ts, missed=missed)

    def _at_end(self) -> bool:
        return self._end is not None or self._broadcast.closed

    async def _wait(self) -> None:
        if self._waiting:
            raise RuntimeError(f"{self.name}: two tasks iterate one subscriber; subscribe twice")
        self._waiting = True
        try:
            await self._broadcast._wait()  # noqa: SLF001
        finally:
            self._waiting = False

    def close(self) -> None:
        """Leave: nothing more is received or counted. Idempotent."""
        if self._end is None:
            self._end = self._broadcast.published
            self._batch = (0, ())
            self._broadcast._subscribers.discard(self)  # noqa: SLF001
            self._broadcast._wake()  # noqa: SLF001
            self._broadcast._advanced()  # noqa: SLF001

    async def aclose(self) -> None:
        """Leave, as ``close()``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def statistics(self) -> SubscriberStatistics:
        """Return this subscriber's books."""
        end = self._broadcast.published if self._end is None else self._end
        return SubscriberStatistics(
            name=self.name,
            published=end - self._start,
            delivered=self._delivered,
            lagged=self._lagged,
            filtered=self._filtered,
            pending=end - self._cursor,
        )


class FlowSubscriber(_Subscriber):
    """One subscriber's place in the stream: an async iterator and a context manager.

    Made by ``FlowBroadcast.subscribe``. One task iterates it at a time. Leaving it open and
    unreferenced is harmless: it is forgotten when it is garbage.
    """

    def __init__(
        self,
        broadcast: FlowBroadcast,
        *,
        kinds: type[Event] | tuple[type[Event], ...] | None,
        where: Callable[[Event], bool] | None,
        name: str,
    ) -> None:
        super().__init__(broadcast, kinds=kinds, name=name)
        self._where = where

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event; waits for one. Ends when the broadcast is closed and read."""
        while True:
            event = self.next_nowait()
            if event is not None:
                return event
            if self._at_end():
                raise StopAsyncIteration
            await self._wait()

    async def next_batch(self, limit: int) -> list[Event]:
        """Return from 1 to ``limit`` events, waiting for the first; ``[]`` at the end."""
        try:
            events = [await anext(self)]
        except StopAsyncIteration:
            return []
        while len(events) < limit and (event := self.next_nowait()) is not None:
            events.append(event)
        return events

    def next_nowait(self) -> Event | None:
        """Return the next event that is there, ``None`` where there is none now."""
        broadcast = self._broadcast
        if self._end is not None:
            return None
        if (lagged := self._missed()) is not None:
            return lagged
        while self._cursor < broadcast.published:
            start, events = self._batch
            if not start <= self._cursor < start + len(events):
                broadcast._advanced()  # noqa: SLF001
                self._batch = start, events = broadcast._find(self._cursor)  # noqa: SLF001
            event = events[self._cursor - start]
            self._last_ts = event.ts
            # Counted before the user's predicate runs: if it raises, the event is spent.
            self._cursor += 1
            if self._kinds is not None and not isinstance(event, self._kinds):
                self._filtered += 1
                continue
            if self._where is not None and not self._passes(event):
                continue
            self._delivered += 1
            return event
        self._batch = (0, ())  # hold no batch that the broadcast may have let go
        broadcast._advanced()  # noqa: SLF001
        return None

    def _passes(self, event: Event) -> bool:
        passed = False
        try:
            passed = bool(self._where is None or self._where(event))
        finally:
            self._filtered += not passed
        return passed


class BatchSubscriber(_Subscriber):
    """A subscriber of whole batches: an async iterator and a context manager.

    Made by ``FlowBroadcast.subscribe_batches``. Each batch is a sequence of at least one event:
    flow events as the ``EventBatch`` they came in, or what is left of it for this subscriber;
    what is no flow event (``Lagged``, link changes, errors) in tuples of their own. One task
    iterates it at a time. Events count as delivered when their batch is given out.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Event]:
        """Return the next batch; waits for one. Ends when the broadcast is closed and read."""
        while True:
            events = self.next_nowait()
            if events is not None:
                return events
            if self._at_end():
                raise StopAsyncIteration
            await self._wait()

    def next_nowait(self) -> Sequence[Event] | None:
        """Return the next batch that is there, ``None`` where there is none now."""
        if self._end is not None:
            return None
        if (lagged := self._missed()) is not None:
            return (lagged,)
        broadcast = self._broadcast
        while self._cursor < broadcast.published:
            start, events = broadcast._find(self._cursor)  # noqa: SLF001
            if self._cursor > start:
                events = events[self._cursor - start :]
            self._cursor += len(events)
            self._last_ts = events[-1].ts
            chosen = self._chosen(events)
            self._filtered += len(events) - len(chosen)
            broadcast._advanced()  # noqa: SLF001
            if chosen:
                self._delivered += len(chosen)
                return chosen
        return None

    def _chosen(self, events: Sequence[Event]) -> Sequence[Event]:
        kinds = self._kinds
        if kinds is None:
            return events
        if isinstance(events, _KnowsKinds):
            return events.of_kinds(kinds)
        return tuple(event for event in events if isinstance(event, kinds))
