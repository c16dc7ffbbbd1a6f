"""What a broadcast and its subscribers share: the events retained, and who waits for more."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import weakref
from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from netring_bpf.events.event import Event

__all__ = ["Retained"]

_LOOK = 32  # events
_first = itemgetter(0)


class _Subscriber(Protocol):
    """A place in the stream."""

    @property
    def cursor(self) -> int:
        """The number of the next event to look at."""


_R = TypeVar("_R", bound=_Subscriber)


class Retained(Generic[_R]):
    """The latest ``buffer`` events, in the batches they came in, which are never copied.

    Events are numbered from 0: ``oldest`` is the first that is retained, ``published`` the next
    to come. What every subscriber has read is let go earlier, as nobody will ask for it: a
    stream that is kept up with would else hold tens of thousands of batches and events, through
    which Python's garbage collector goes again and again (docs/tuning.md, "Latency").
    """

    def __init__(self, buffer: int) -> None:
        self.buffer = buffer
        self.published = 0
        self.oldest = 0
        self.closed = False
        self.subscribers: weakref.WeakSet[_R] = weakref.WeakSet()
        self._batches: deque[tuple[int, Sequence[Event]]] = deque()  # with their first's number
        self._look_at = _LOOK  # the number of the event at which to look for what was read
        self._waiters: set[asyncio.Future[None]] = set()
        self._room_waiter: asyncio.Future[None] | None = None

    def join(self, subscriber: _R) -> None:
        """Count it among the subscribers, until it leaves or is garbage."""
        self.subscribers.add(subscriber)
        weakref.finalize(subscriber, self._forgotten).atexit = False

    def _forgotten(self) -> None:
        """Room that a subscriber held is free; garbage is collected in whichever thread."""
        waiter = self._room_waiter
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.get_loop().call_soon_threadsafe(self.advanced)

    def append(self, events: Sequence[Event]) -> None:
        """Retain these events, let go what is too old, and wake who waits."""
        batches = self._batches
        batches.append((self.published, events))
        self.published += len(events)
        self.oldest = max(0, self.published - self.buffer)
        while batches[0][0] + len(batches[0][1]) <= self.oldest:
            batches.popleft()
        if self.published >= self._look_at:
            self._forget_read()
        self.wake()

    def slowest(self) -> int:
        """Return the number of the first event that some open subscriber has yet to look at."""
        return min((s.cursor for s in self.subscribers), default=self.published)

    def _forget_read(self) -> None:
        """Let go what every subscriber has read; the more is left, the later is the next look."""
        slowest, batches = self.slowest(), self._batches
        while batches and batches[0][0] + len(batches[0][1]) <= slowest:
            batches.popleft()
        left = self.published - batches[0][0] if batches else 0
        self._look_at = self.published + max(_LOOK, left)

    def find(self, number: int) -> tuple[int, Sequence[Event]]:
        """Return the batch that has this event: the last one, for who keeps up.

        Who is 65,000 behind, of events that came one by one, held up the loop for 1.6 ms with each
        while they were looked through from the end; now for 0.11.
        """
        batches = self._batches
        if batches[-1][0] <= number:
            return batches[-1]
        place = bisect.bisect_right(batches, number, key=_first)
        if place == 0:
            raise LookupError(number)
        return batches[place - 1]

    def close(self) -> None:
        """Nothing more comes."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next ``wake()``."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def advanced(self) -> None:
        """A subscriber has read on, or has left: there may be room."""
        waiter = self._room_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait_advanced(self) -> None:
        """Wait until a subscriber has read on, or has left. One at a time."""
        self._room_waiter = asyncio.get_running_loop().create_future()
        try:
            await self._room_waiter
        finally:
            self._room_waiter = None
