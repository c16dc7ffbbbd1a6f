"""The subscriber of single events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, cast

from netring_bpf.broadcast.event_loop import event_loop
from netring_bpf.broadcast.retained import Retained
from netring_bpf.broadcast.subscriber import E_co, OnError, Subscriber
from netring_bpf.events.event import CaptureError, Event
from netring_bpf.events.select import (
    NEVER_HIDDEN,
    Kinds,
    LazyBatch,
    events_at,
    last_ts,
    places_of,
)

__all__ = ["FlowSubscriber"]

# As tokio's budget of a task: after this many events the loop turns, so that a subscriber with a
# lot to catch up on does not hold up the others.
_TURN = 128


class FlowSubscriber(Subscriber[E_co]):
    """One subscriber's place in the stream: an async iterator and a context manager.

    Made by ``FlowBroadcast.subscribe``. One task iterates it at a time. A subscriber that is
    left open and unreferenced is harmless: the broadcast forgets it when it is garbage.
    ``FlowSubscriber[FlowEnded | NeverHidden]`` gives events of these classes alone.
    """

    def __init__(
        self,
        retained: Retained[Subscriber[Any]],
        *,
        kinds: Kinds,
        where: Callable[[Any], bool] | None,
        errors: OnError,
        name: str,
    ) -> None:
        super().__init__(retained, kinds=kinds, errors=errors, name=name)
        self._where = where
        self._at_hand: Iterator[E_co] = iter(())  # of this turn
        self._error: Exception | None = None  # the next call raises it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E_co:
        """Wait for the next event and return it. Ends when the broadcast is closed and read.

        At the end it first raises the capture's error, if there was one and the subscriber did
        not ask for it as an event.
        """
        if self._cursor >= self._retained.oldest:
            for event in self._at_hand:
                self._cursor += 1
                self._delivered += 1
                return event
        return await self._next()

    async def next_batch(self, limit: int | None = None) -> Sequence[E_co]:
        """Return the next batch, at most ``limit`` events of it; ``[]`` at the end.

        The batch is that of a ``BatchSubscriber``. With a ``where`` it is a list of the events
        that pass; an exception of ``where``, or the capture's, is raised after the events before
        it.
        """
        if self._where is None:
            self._at_hand = iter(())  # the broadcast still retains them
            return await super().next_batch(limit)
        try:
            events = [await anext(self)]
        except StopAsyncIteration:
            return []
        try:
            while len(events) != limit and (event := self.next_nowait()) is not None:
                events.append(event)
        except Exception as error:  # noqa: BLE001 - whatever ``where`` raises, or the capture's
            self._error = error
        return events

    async def _next(self) -> E_co:
        if self._turn_taken and self._cursor < self._retained.published:
            event_loop(self.name)
            await asyncio.sleep(0)
        while True:
            event = self.next_nowait()
            if event is not None:
                return event
            if self._at_end():
                raise StopAsyncIteration
            await self._wait()

    def next_nowait(self) -> E_co | None:
        """Return the next event, or ``None`` if there is none yet; raises at the end, as above."""
        retained = self._retained
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        while self._end is None:
            if self._cursor < retained.oldest:
                told = self._missed()
                self._lay_down()
                if told is not None:
                    return cast("E_co", told)
                continue
            for event in self._at_hand:
                self._cursor += 1
                self._delivered += 1
                return event
            retained.advanced()
            if self._cursor == retained.published:
                self._lay_down()
                self._raise_at_end()
                return None
            self._take_up()
        return None

    def _take_up(self) -> None:
        """Take the events of the next turn at hand."""
        start, batch = self._retained.find(self._cursor)
        at = self._cursor - start
        events = batch if at == 0 and len(batch) <= _TURN else batch[at : at + _TURN]
        self._last_ts = last_ts(events)
        self._turn_taken = True
        at_hand = self._made(events)
        if self._where is not None or self._withholds(events):
            at_hand = self._passing(events)
        elif self._kinds is not None:
            places = places_of(events, self._kinds)
            if len(places) < len(events):
                chosen = events_at(events, places)
                at_hand = self._among(places, self._made(chosen), len(events))
        self._at_hand = cast("Iterator[E_co]", at_hand)

    def _made(self, events: Sequence[Event]) -> Iterator[Event]:
        """Iterate; a batch keeps the decoded events only if there is another subscriber."""
        if len(self._retained.subscribers) == 1 and isinstance(events, LazyBatch):
            return events.once()
        return iter(events)

    def _among(self, places: Sequence[int], chosen: Iterable[Event], end: int) -> Iterator[Event]:
        """Yield the chosen events; count those between them as passed over."""
        begin = self._cursor
        for place, event in zip(places, chosen, strict=True):
            self._pass_over(begin + place - self._cursor)
            yield event
        self._pass_over(begin + end - self._cursor)

    def _passing(self, events: Sequence[Event]) -> Iterator[Event]:
        kinds, where = self._kinds, self._where
        only_flows = isinstance(events, LazyBatch)
        for event in events:
            if not only_flows and isinstance(event, NEVER_HIDDEN):
                if not (self._raises and isinstance(event, CaptureError)):
                    yield event
                    continue
                self._cursor += 1
                self._delivered += 1  # at the end
                continue
            passed = False
            try:
                passed = (kinds is None or isinstance(event, kinds)) and (
                    where is None or bool(where(event))
                )
            finally:  # an event whose ``where`` raised is not delivered again
                self._pass_over(not passed)
            if passed:
                yield event

    def _pass_over(self, events: int) -> None:
        self._cursor += events
        self._filtered += events

    def _lay_down(self) -> None:
        """Drop the batch at hand, which the broadcast may have let go."""
        self._at_hand = iter(())
        self._turn_taken = False

    def close(self) -> None:
        """Leave: the subscriber receives and counts nothing more. Idempotent."""
        self._lay_down()
        self._error = None
        super().close()
