"""The retained events, which a broadcast shares with its subscribers, and who waits for more."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import weakref
from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from netring_bpf.broadcast.event_loop import event_loop
from netring_bpf.errors import EventLoopError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.event import CaptureError, Event
from netring_bpf.events.select import LazyBatch

__all__ = ["Retained"]

_LOOK = 32  # events between two searches for batches that every subscriber has read
_STREAM = "a stream of events"
_first = itemgetter(0)


class _Subscriber(Protocol):
    """The part of a subscriber that this file uses."""

    @property
    def cursor(self) -> int:
        """The number of the next event to look at."""


_S = TypeVar("_S", bound=_Subscriber)


class Retained(Generic[_S]):
    """The latest ``buffer`` events, in the batches they came in, which are never copied.

    Events are numbered from 0: ``oldest`` is the first that is retained, ``published`` the next
    to come. A batch that every subscriber has read goes earlier, as nobody will ask for it:
    Python's garbage collector would walk through it again and again (docs/tuning.md, "Latency").
    ``interface``: the one that the events are of, if they are of one; ``info``: the capture that
    they are of, once it is open.
    ``error``: the first ``CaptureError`` with its number; it is kept for those who are behind.
    ``unopened``: why nothing will ever come, until that changes; None if something may.
    """

    def __init__(self, buffer: int, interface: str | None = None) -> None:
        self.buffer = buffer
        self.interface = interface
        self.info: CaptureInfo | None = None
        self.published: int = 0
        self.oldest: int = 0
        self.lagged = 0  # events that subscribers missed
        self.closed: bool = False
        self.error: tuple[int, CaptureError] | None = None
        self.unopened: str | None = None
        self.subscribers: weakref.WeakSet[_S] = weakref.WeakSet()
        self._batches: deque[tuple[int, Sequence[Event]]] = deque()  # with their first's number
        self._look_at = _LOOK  # the number of the event at which to search next
        self._waiters: set[asyncio.Future[None]] = set()
        self._room_waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bound = False  # to that loop for ever

    def join(self, subscriber: _S) -> None:
        """Count the subscriber in, until it leaves or is garbage."""
        self.subscribers.add(subscriber)
        weakref.finalize(subscriber, self._forgotten).atexit = False

    def _forgotten(self) -> None:
        """Wake the publisher: a subscriber became garbage, perhaps in another thread."""
        waiter = self._room_waiter
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                waiter.get_loop().call_soon_threadsafe(self.advanced)

    def append(self, events: Sequence[Event]) -> None:
        """Retain these events, drop those that are too old, and wake the subscribers."""
        if self.error is None and not isinstance(events, LazyBatch):
            self._note_error(events)
        batches = self._batches
        batches.append((self.published, events))
        self.published += len(events)
        self.oldest = max(0, self.published - self.buffer)
        while batches[0][0] + len(batches[0][1]) <= self.oldest:
            batches.popleft()
        if self.published >= self._look_at:
            self._forget_read()
        self.wake()

    def _note_error(self, events: Sequence[Event]) -> None:
        if CaptureError in map(type, events):
            for number, event in enumerate(events, self.published):
                if isinstance(event, CaptureError):
                    self.error = number, event
                    return

    def slowest(self) -> int:
        """Return the number of the next event of the subscriber that is furthest behind."""
        return min((s.cursor for s in self.subscribers), default=self.published)

    def _forget_read(self) -> None:
        """Drop the batches that every subscriber has read.

        The next search comes the later, the more is left, so that its cost stays in proportion.
        """
        slowest, batches = self.slowest(), self._batches
        while batches and batches[0][0] + len(batches[0][1]) <= slowest:
            batches.popleft()
        left = self.published - batches[0][0] if batches else 0
        self._look_at = self.published + max(_LOOK, left)

    def find(self, number: int) -> tuple[int, Sequence[Event]]:
        """Return the batch that has this event, and the number of its first."""
        batches = self._batches
        if batches[-1][0] <= number:  # the subscriber keeps up
            return batches[-1]
        # Binary search: a linear scan would stall the loop for slow subscribers.
        place = bisect.bisect_right(batches, number, key=_first)
        if place == 0:
            raise LookupError(number)
        return batches[place - 1]

    def close(self) -> None:
        """End the stream, and wake the subscribers."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Wake all that ``wait()``."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for the next ``wake()``."""
        waiter = self._future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def advanced(self) -> None:
        """Wake the publisher: a subscriber has read on or left, so there may be room."""
        waiter = self._room_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait_advanced(self) -> None:
        """Wait until a subscriber has read on, or has left. One at a time."""
        self._room_waiter = self._future()
        try:
            await self._room_waiter
        finally:
            self._room_waiter = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to this event loop, even after it was closed."""
        self._loop, self._bound = loop, True

    def _future(self) -> asyncio.Future[None]:
        """Return a future of the stream's loop, which must be the running one."""
        loop = event_loop(_STREAM)
        if self._loop is not loop:
            if self._loop is not None and (self._bound or not self._loop.is_closed()):
                state = "is closed" if self._loop.is_closed() else "still runs"
                raise EventLoopError(
                    f"{_STREAM}: it belongs to another event loop, which {state}; subscribe and "
                    "iterate in the loop that publishes"
                )
            self._loop = loop
        return loop.create_future()
