"""One stream of events to any number of subscribers in this process.

Pure asyncio: no I/O, no thread, no clock of its own. The semantics are those of tokio's
broadcast channel, at the grain of single events:

- the broadcast retains the latest ``buffer`` events, which all subscribers share;
- publishing never waits: it overwrites the oldest retained event;
- a subscriber that is more than ``buffer`` events behind receives ``Lagged(n)``, where n is
  exactly the number it missed, and goes on with the oldest retained event;
- a new subscriber sees only later events;
- after ``close()`` subscribers still receive the retained events, then their iteration ends.

Beside tokio's: a ``CaptureError`` in the stream is never lost. A subscriber either gets it in its
place or has its error raised at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from netring_bpf.broadcast.batch_subscriber import BatchSubscriber
from netring_bpf.broadcast.event_subscriber import FlowSubscriber
from netring_bpf.broadcast.retained import Retained
from netring_bpf.broadcast.subscribable import Subscribable
from netring_bpf.broadcast.subscriber import OnError, Subscriber, SubscriberStatistics
from netring_bpf.errors import ClosedError, OptionError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.event import Event
from netring_bpf.events.select import Kinds

__all__ = [
    "BatchSubscriber",
    "BroadcastStatistics",
    "FlowBroadcast",
    "FlowSubscriber",
    "SubscriberStatistics",
]


@dataclass(frozen=True, slots=True)
class BroadcastStatistics:
    """The number of published events, and the books of each open subscriber.

    ``published``: events so far. ``receiver_count``: open subscribers. ``subscribers``: the books
    of each of them. ``lagged``: events that subscribers missed, those that have left included.
    """

    published: int
    receiver_count: int
    subscribers: tuple[SubscriberStatistics, ...]
    lagged: int = 0


class FlowBroadcast(Subscribable):
    """Fans events out to its subscribers. Use it from one event loop only.

    ``buffer``: the number of events retained for subscribers that are behind. ``interface``: the
    one that the events are of, for sinks that name it. Raises ``OptionError`` if ``buffer`` is
    not positive.
    """

    def __init__(self, buffer: int = 4096, *, interface: str | None = None) -> None:
        if buffer < 1:
            raise OptionError(f"buffer={buffer!r}: must be at least 1", option="buffer")
        self._retained: Retained[Subscriber[Any]] = Retained(buffer, interface)
        self._subscribed = 0

    @property
    def buffer(self) -> int:
        """The number of events that are retained."""
        return self._retained.buffer

    @property
    def published(self) -> int:
        """Events published so far."""
        return self._retained.published

    @property
    def lagged(self) -> int:
        """Events that subscribers missed so far, those that have left included."""
        return self._retained.lagged

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._retained.closed

    @property
    def receiver_count(self) -> int:
        """The number of open subscribers."""
        return len(self._retained.subscribers)

    def _subscribe(
        self,
        kinds: Kinds,
        where: Callable[[Any], bool] | None,
        errors: OnError,
        name: str | None,
    ) -> FlowSubscriber[Any]:
        return FlowSubscriber(
            self._retained, kinds=kinds, where=where, errors=errors, name=self._name(name)
        )

    def _subscribe_batches(
        self, kinds: Kinds, errors: OnError, name: str | None
    ) -> BatchSubscriber[Any]:
        return BatchSubscriber(self._retained, kinds=kinds, errors=errors, name=self._name(name))

    def _name(self, given: str | None) -> str:
        self._subscribed += 1
        return given or f"subscriber-{self._subscribed}"

    def expect(self, unopened: str | None) -> None:
        """Say why nothing will be published yet; None if something may, as at first.

        A subscriber that would wait meanwhile gets ``ClosedError`` with this text.
        """
        self._retained.unopened = unopened

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which event loop publishes. To wait in another raises ``EventLoopError``."""
        self._retained.bind(loop)

    def describe(self, info: CaptureInfo) -> None:
        """Tell the subscribers of which capture the events are (``info`` of each)."""
        self._retained.info = info

    def publish(self, events: Sequence[Event]) -> None:
        """Publish a batch in order. Never blocks; the batch must not change afterwards.

        Raises ``ClosedError`` after ``close()``.
        """
        if self._retained.closed:
            raise ClosedError("publish on a broadcast that is closed")
        if events:
            self._retained.append(events)

    def has_room(self, count: int) -> bool:
        """Whether ``wait_room(count)`` would return at once."""
        return self._room() >= min(count, self.buffer)

    async def wait_room(self, count: int) -> None:
        """Wait until the publisher can publish ``count`` more events and no subscriber loses any.

        For a publisher that can wait, such as the reader of a file; one at a time. Returns at
        once while there are no subscribers.
        """
        count = min(count, self._retained.buffer)
        while self._room() < count:
            await self._retained.wait_advanced()

    def _room(self) -> int:
        return self._retained.buffer - (self._retained.published - self._retained.slowest())

    def close(self) -> None:
        """End the stream: subscribers receive the retained events, then stop. Idempotent."""
        self._retained.unopened = None
        self._retained.close()

    def statistics(self) -> BroadcastStatistics:
        """Return the books of the broadcast and of its open subscribers."""
        subscribers = sorted(self._retained.subscribers, key=lambda subscriber: subscriber.name)
        return BroadcastStatistics(
            published=self._retained.published,
            receiver_count=len(subscribers),
            subscribers=tuple(subscriber.statistics() for subscriber in subscribers),
            lagged=self._retained.lagged,
        )
