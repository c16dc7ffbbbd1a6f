"""A subscriber's place in the stream, and its books."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeAlias, cast, get_args

from netring_bpf.broadcast.event_loop import event_loop
from netring_bpf.broadcast.retained import Retained
from netring_bpf.errors import ClosedError, OptionError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.event import CaptureError, Event, Lagged
from netring_bpf.events.select import (
    NEVER_HIDDEN,
    Kinds,
    LazyBatch,
    classes_of,
    events_at,
    last_ts,
    places_of,
)

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import TypeVar  # its stubs alone are needed

    E_co = TypeVar("E_co", bound=Event, covariant=True, default=Event)
else:
    from typing import TypeVar

    E_co = TypeVar("E_co", bound=Event, covariant=True)

__all__ = ["ON_ERROR", "E_co", "OnError", "Subscriber", "SubscriberStatistics"]

OnError: TypeAlias = Literal["raise", "event"]
ON_ERROR: Final[tuple[OnError, ...]] = get_args(OnError)


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    """One subscriber's books: published = delivered + lagged + filtered + pending.

    ``name``: of the subscriber. ``published``: events since it subscribed, until it closed.
    ``delivered``: events handed to it, or, of a ``CaptureError``, to be raised at the end.
    ``lagged``: events overwritten before it read them, the sum of its ``Lagged``. ``filtered``:
    events left out by its ``kinds`` or ``where``. ``pending``: events not yet read.
    """

    name: str
    published: int
    delivered: int
    lagged: int
    filtered: int
    pending: int


class Subscriber(Generic[E_co]):
    """A place in the stream, and the books of the events that came there.

    ``Subscriber[FlowEnded | Lagged]`` gets events of these classes alone.
    """

    def __init__(
        self, retained: Retained[Subscriber[Any]], *, kinds: Kinds, errors: OnError, name: str
    ) -> None:
        if errors not in ON_ERROR:
            raise OptionError(
                f"errors={errors!r}: must be one of {', '.join(ON_ERROR)}", option="errors"
            )
        asked = classes_of(kinds, "subscribe")
        self.name = name
        self._retained = retained
        self._kinds = None if asked is None else (*asked, *NEVER_HIDDEN)
        # Naming the class in ``kinds`` asks for the event.
        self._raises = errors == "raise" and CaptureError not in (asked or ())
        self._raised = False
        self._start = self._cursor = retained.published
        self._end: int | None = None
        self._delivered = self._lagged = self._filtered = 0
        self._last_ts = 0
        self._waiting = False
        self._turn_taken = False
        retained.join(self)

    @property
    def cursor(self) -> int:
        """The number of the next event it will read."""
        return self._cursor

    @property
    def interface(self) -> str | None:
        """The interface, or the replay's file, that the events are of; None if it is unknown."""
        return self._retained.interface

    @property
    def info(self) -> CaptureInfo | None:
        """The capture that the events are of, as it was opened; None until it is open."""
        return self._retained.info

    def _missed(self) -> Event | None:
        """Go on with the oldest retained event; return what there is to tell of those before it.

        The stream's error is not missed: it comes by itself, between two ``Lagged`` if need be.
        """
        retained = self._retained
        missed = step = retained.oldest - self._cursor
        error = retained.error
        if error is not None and 0 <= (before := error[0] - self._cursor) < step:
            if self._raises:
                missed -= 1
                self._delivered += 1
            elif before == 0:
                self._cursor += 1
                self._delivered += 1
                return error[1]
            else:
                missed = step = before
        self._cursor += step
        self._lagged += missed
        retained.lagged += missed
        return Lagged(ts=self._last_ts, missed=missed) if missed else None

    def _withholds(self, events: Sequence[Event]) -> bool:
        """Whether there are errors among the events, and they are raised at the end instead."""
        return (
            self._raises
            and self._retained.error is not None
            and not isinstance(events, LazyBatch)
            and CaptureError in map(type, events)
        )

    def _raise_at_end(self) -> None:
        """Raise the stream's error, once, if the stream has ended."""
        retained = self._retained
        if retained.closed and self._raises and not self._raised and retained.error is not None:
            self._raised = True
            raise retained.error[1].error

    async def next_batch(self, limit: int | None = None) -> Sequence[E_co]:
        """Return the next batch, at most ``limit`` events of it; ``[]`` at the end.

        Waits for one. The batch is the published one, by reference: flow events as an
        ``EventBatch``, or the part of it that is for this subscriber. At the end it first raises
        the capture's error, if there was one and the subscriber did not ask for it as an event.
        """
        if self._turn_taken and self._cursor < self._retained.published:
            event_loop(self.name)
            await asyncio.sleep(0)
        while True:
            events = self._batch_nowait(limit)
            self._turn_taken = events is not None
            if events is not None:
                return events
            if self._at_end():
                return []
            await self._wait()

    def _batch_nowait(self, limit: int | None = None) -> Sequence[E_co] | None:
        retained = self._retained
        if self._end is not None:
            return None
        while self._cursor < retained.published:
            if self._cursor < retained.oldest:
                if (told := self._missed()) is not None:
                    return (cast("E_co", told),)
                continue
            start, events = retained.find(self._cursor)
            if self._cursor > start or limit is not None:
                at = self._cursor - start
                events = events[at : None if limit is None else at + limit]
            self._cursor += len(events)
            self._last_ts = last_ts(events)
            chosen = self._choose(events)
            self._delivered += len(chosen)
            self._filtered += len(events) - len(chosen)
            retained.advanced()
            if self._withholds(chosen):
                chosen = [event for event in chosen if not isinstance(event, CaptureError)]
            if chosen:
                return cast("Sequence[E_co]", chosen)
        self._raise_at_end()
        return None

    def _choose(self, events: Sequence[Event]) -> Sequence[Event]:
        return events if self._kinds is None else events_at(events, places_of(events, self._kinds))

    def _at_end(self) -> bool:
        return self._end is not None or self._retained.closed

    async def _wait(self) -> None:
        if self._waiting:
            raise RuntimeError(f"{self.name}: two tasks iterate one subscriber; subscribe twice")
        event_loop(self.name)
        self._waiting = True
        try:
            if self._retained.unopened is not None:
                await asyncio.sleep(0)  # the task that opens it may come right after this one
            if self._retained.unopened is not None:
                raise ClosedError(f"{self.name}: {self._retained.unopened}")
            await self._retained.wait()
        finally:
            self._waiting = False

    def close(self) -> None:
        """Leave: the subscriber receives and counts nothing more. Idempotent."""
        if self._end is None:
            self._end = self._retained.published
            self._retained.subscribers.discard(self)
            self._retained.wake()  # its own task, if it waits
            self._retained.advanced()

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
        end = self._retained.published if self._end is None else self._end
        return SubscriberStatistics(
            name=self.name,
            published=end - self._start,
            delivered=self._delivered,
            lagged=self._lagged,
            filtered=self._filtered,
            pending=end - self._cursor,
        )
