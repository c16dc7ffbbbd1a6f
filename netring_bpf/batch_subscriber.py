"""The subscriber of whole batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from netring_bpf.kinds import events_at, places_of
from netring_bpf.records import Event
from netring_bpf.subscriber import Subscriber

__all__ = ["BatchSubscriber"]


class BatchSubscriber(Subscriber):
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
        if self._turn_taken and self._cursor < self._stream.published:
            await asyncio.sleep(0)
        while True:
            events = self.next_nowait()
            self._turn_taken = events is not None
            if events is not None:
                return events
            if self._at_end():
                raise StopAsyncIteration
            await self._wait()

    def next_nowait(self) -> Sequence[Event] | None:
        """Return the next batch that is there, ``None`` where there is none now."""
        stream = self._stream
        if self._end is not None:
            return None
        if self._cursor < stream.oldest:
            return (self._missed(),)
        while self._cursor < stream.published:
            start, events = stream.find(self._cursor)
            if self._cursor > start:
                events = events[self._cursor - start :]
            self._cursor += len(events)
            self._last_ts = events[-1].ts
            chosen = events
            if self._kinds is not None:
                chosen = events_at(events, places_of(events, self._kinds))
            self._delivered += len(chosen)
            self._filtered += len(events) - len(chosen)
            stream.advanced()
            if chosen:
                return chosen
        return None
