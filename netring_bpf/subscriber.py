"""A subscriber's place in the stream, and the subscriber of single events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from netring_bpf.kinds import Kinds, events_at, places_of
from netring_bpf.records import Event, Lagged
from netring_bpf.stream import Stream

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FlowSubscriber", "Subscriber", "SubscriberStatistics"]

# Of tokio's budget of a task: with so many events at hand the loop still turns, so that one who
# has much to catch up with, or much to do with each, does not hold up the others.
_TURN = 128


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


class Subscriber:
    """A place in the stream, and the books of what was done with what came there."""

    def __init__(
        self, stream: Stream, leave: Callable[[Subscriber], None], *, kinds: Kinds, name: str
    ) -> None:
        self.name = name
        self._stream = stream
        self._leave = leave
        self._kinds = kinds
        self._start = self._cursor = stream.published
        self._end: int | None = None
        self._delivered = self._lagged = self._filtered = 0
        self._last_ts = 0
        self._waiting = False
        self._turn_taken = False

    @property
    def cursor(self) -> int:
        """The number of the next event it will look at."""
        return self._cursor

    def _missed(self) -> Lagged:
        """Go on with the oldest event retained, and say what was missed by that."""
        missed = self._stream.oldest - self._cursor
        self._cursor = self._stream.oldest
        self._lagged += missed
        return Lagged(ts=self._last_ts, missed=missed)

    def _at_end(self) -> bool:
        return self._end is not None or self._stream.closed

    async def _wait(self) -> None:
        if self._waiting:
            raise RuntimeError(f"{self.name}: two tasks iterate one subscriber; subscribe twice")
        self._waiting = True
        try:
            await self._stream.wait()
        finally:
            self._waiting = False

    def close(self) -> None:
        """Leave: nothing more is received or counted. Idempotent."""
        if self._end is None:
            self._end = self._stream.published
            self._leave(self)

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
        end = self._stream.published if self._end is None else self._end
        return SubscriberStatistics(
            name=self.name,
            published=end - self._start,
            delivered=self._delivered,
            lagged=self._lagged,
            filtered=self._filtered,
            pending=end - self._cursor,
        )


class FlowSubscriber(Subscriber):
    """One subscriber's place in the stream: an async iterator and a context manager.

    Made by ``FlowBroadcast.subscribe``. One task iterates it at a time. Leaving it open and
    unreferenced is harmless: it is forgotten when it is garbage.
    """

    def __init__(
        self,
        stream: Stream,
        leave: Callable[[Subscriber], None],
        *,
        kinds: Kinds,
        where: Callable[[Event], bool] | None,
        name: str,
    ) -> None:
        super().__init__(stream, leave, kinds=kinds, name=name)
        self._where = where
        self._at_hand: Iterator[Event] = iter(())  # of this turn

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event; waits for one. Ends when the broadcast is closed and read."""
        if self._cursor >= self._stream.oldest:
            for event in self._at_hand:
                self._cursor += 1
                self._delivered += 1
                return event
        return await self._next()

    async def _next(self) -> Event:
        if self._turn_taken and self._cursor < self._stream.published:
            await asyncio.sleep(0)
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
        stream = self._stream
        while self._end is None:
            if self._cursor < stream.oldest:
                lagged = self._missed()
                self._lay_down()
                return lagged
            for event in self._at_hand:
                self._cursor += 1
                self._delivered += 1
                return event
            stream.advanced()
            if self._cursor == stream.published:
                self._lay_down()
                return None
            self._take_up()
        return None

    def _take_up(self) -> None:
        """Have the events of the next turn at hand."""
        start, batch = self._stream.find(self._cursor)
        at = self._cursor - start
        events = batch[at : at + _TURN]
        self._last_ts = events[-1].ts
        self._turn_taken = True
        self._at_hand = iter(events)
        if self._where is not None:
            self._at_hand = self._passing(events, self._where)
        elif self._kinds is not None:
            places = places_of(events, self._kinds)
            if len(places) < len(events):
                chosen = events_at(events, places)
                self._at_hand = self._among(places, chosen, len(events))

    def _among(self, places: Sequence[int], chosen: Iterable[Event], end: int) -> Iterator[Event]:
        """Yield the chosen events; counts those between them as passed over."""
        begin = self._cursor
        for place, event in zip(places, chosen, strict=True):
            self._pass_over(begin + place - self._cursor)
            yield event
        self._pass_over(begin + end - self._cursor)

    def _passing(self, events: Sequence[Event], where: Callable[[Event], bool]) -> Iterator[Event]:
        kinds = self._kinds
        for event in events:
            passed = False
            try:
                passed = (kinds is None or isinstance(event, kinds)) and bool(where(event))
            finally:  # if it raises, the event is spent
                self._pass_over(not passed)
            if passed:
                yield event

    def _pass_over(self, events: int) -> None:
        self._cursor += events
        self._filtered += events

    def _lay_down(self) -> None:
        """Hold no batch that the broadcast may have let go."""
        self._at_hand = iter(())
        self._turn_taken = False

    def close(self) -> None:
        """Leave: nothing more is received or counted. Idempotent."""
        self._lay_down()
        super().close()
