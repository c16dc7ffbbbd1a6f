"""The broadcast against a slow, obvious model: every subscriber keeps its own unbounded list."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from netring_bpf import (
    BatchSubscriber,
    CaptureError,
    Event,
    EventBatch,
    FlowBroadcast,
    FlowEnded,
    FlowStarted,
    FlowSubscriber,
    Lagged,
    LinkDown,
    NetringError,
    SinkFailed,
)
from tests.support.events import ended, started
from tests.support.frames import udp
from tests.support.replay import START, one_batch
from tests.support.sizes import size

Where: TypeAlias = Callable[[Event], object] | None

FLOWS = 1024
TURNS = 4  # of the loop: what does not wait is done by then


# -- events --


@functools.cache
def pool() -> tuple[EventBatch, EventBatch]:
    """Flow events as the C core makes them: the starts and the ends of so many flows."""
    both = one_batch(udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(FLOWS))
    return both.of_kinds(FlowStarted), both.of_kinds(FlowEnded)


def native(first: int, kinds: Sequence[bool]) -> EventBatch:
    """A batch of its own: starts, or where it says so ends, of the pool's flows."""
    raw = bytearray()
    for number, is_end in enumerate(kinds, first):
        source = pool()[is_end]
        at = source.rows[number % FLOWS] * source.event_size
        raw += source.raw[at : at + source.event_size]
    return EventBatch(bytes(raw), pool()[0]._layout, len(kinds))


def number_of(event: Event) -> int:
    return event.flow.id if isinstance(event, FlowStarted | FlowEnded) else event.ts


def is_same(got: Event, expected: Event | int) -> bool:
    """The event itself; one like it where it was in an ``EventBatch``, which makes it on demand."""
    if isinstance(expected, int):
        return isinstance(got, Lagged) and got.missed == expected
    made = isinstance(expected, FlowStarted | FlowEnded) and expected.flow.start >= START
    return got == expected if made else got is expected


# -- what subscribers want --


class MoodyError(Exception):
    """The error that a ``where`` raises."""


def in_thirds(event: Event) -> int:
    return number_of(event) % 3


def moody(event: Event) -> bool:
    if number_of(event) % 4 == 0:
        raise MoodyError(number_of(event))
    return number_of(event) % 4 < 3


KINDS = st.sampled_from([None, FlowEnded, (FlowStarted, LinkDown), (FlowEnded, CaptureError)])
WHERE = st.sampled_from([None, in_thirds, moody])
ON_ERROR = st.sampled_from(["raise", "event"])
LIMITS = st.none() | st.integers(1, 8)


@dataclass
class Model:
    """The events that one subscriber has yet to see, in the plainest form.

    ``unseen``: events, each with the number of the batch that it came in; ``came_in``: that of the
    latest batch, -1 where it was overwritten. ``error``: what ``where`` has raised, and is yet to
    be raised again. ``stream_error``: the first ``CaptureError``, also of before it subscribed;
    ``ended``: whether the stream has ended.
    """

    buffer: int
    kinds: Any
    where: Where = None
    on_error: str = "event"
    stream_error: CaptureError | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self.unseen: list[tuple[int, Event]] = []
        self.came_in = -1
        self.error: Exception | None = None
        self.delivered = self.lagged = self.filtered = 0
        named = isinstance(self.kinds, tuple) and CaptureError in self.kinds
        self.raises = self.on_error == "raise" and not named

    def missed(self) -> Event | int:
        """Drop and count the events that are lost to it now; return the stream's error instead."""
        if (over := len(self.unseen) - self.buffer) <= 0:
            return 0
        lost = [event for _, event in self.unseen[:over]]
        if self.stream_error in lost:
            if self.raises:
                self.delivered += 1
                lost.remove(self.stream_error)
            elif lost[0] is self.stream_error:
                self.delivered += 1
                del self.unseen[0]
                return lost[0]
            else:
                del lost[lost.index(self.stream_error) :]
                over = len(lost)
        del self.unseen[:over]
        self.lagged += len(lost)
        return len(lost)

    def is_of_kind(self, event: Event) -> bool:
        return self.kinds is None or isinstance(event, (self.kinds, CaptureError | SinkFailed))

    def is_raised(self, event: Event) -> bool:
        """Whether it is an error, and raised at the end instead of handed out."""
        return self.raises and isinstance(event, CaptureError)

    def raise_at_end(self) -> None:
        if self.ended and self.raises and self.stream_error is not None:
            self.raises = False
            raise self.stream_error.error

    def next(self) -> Event | int | None:
        """The next event, the number missed, or None."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if missed := self.missed():
            return missed
        while self.unseen:
            _, event = self.unseen.pop(0)
            self.filtered += 1  # also if this raises
            if self.is_of_kind(event) and (
                self.where is None
                or isinstance(event, CaptureError | SinkFailed)
                or self.where(event)
            ):
                self.filtered -= 1
                self.delivered += 1
                if not self.is_raised(event):
                    return event
        self.raise_at_end()
        return None

    def next_batch(self, limit: int | None) -> list[Event | int] | None:
        """The next batch, the number missed (in front of a batch, or by itself), or None."""
        return self._published(limit) if self.where is None else self._passing(limit)

    def _published(self, limit: int | None) -> list[Event | int] | None:
        if missed := self.missed():
            self.came_in = -1
            return [missed]
        while self.unseen:
            self.came_in = self.unseen[0][0]
            batch = [event for number, event in self.unseen if number == self.came_in][:limit]
            del self.unseen[: len(batch)]
            chosen: list[Event | int] = [event for event in batch if self.is_of_kind(event)]
            self.delivered += len(chosen)
            self.filtered += len(batch) - len(chosen)
            chosen = [e for e in chosen if isinstance(e, int) or not self.is_raised(e)]
            if chosen:
                return chosen
        self.raise_at_end()
        return None

    def _passing(self, limit: int | None) -> list[Event | int] | None:
        if (first := self.next()) is None:
            return None
        events = [first]
        try:
            while len(events) != limit and (event := self.next()) is not None:
                events.append(event)
        except (MoodyError, NetringError) as error:
            self.error = error
        return events


# -- both, side by side --


def raised_by(function: Callable[[], Any]) -> tuple[Any, tuple[object, ...]]:
    """Return the result of a call, and the arguments of its error."""
    try:
        return function(), ()
    except (MoodyError, NetringError) as error:
        return None, error.args


async def at_once(coroutine: Coroutine[Any, Any, Any], at_end: object) -> Any:
    """Return the result that comes without waiting, or None."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        return None
    try:
        return task.result()
    except StopAsyncIteration:
        return at_end


Pair: TypeAlias = tuple[FlowSubscriber, Model]
BatchPair: TypeAlias = tuple[BatchSubscriber, Model]


class Broadcasting(RuleBasedStateMachine):
    subscribers = Bundle("subscribers")
    batch_subscribers = Bundle("batch_subscribers")

    @initialize(buffer=st.integers(1, 12) | st.integers(100, 200))
    def begin(self, buffer: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.broadcast = FlowBroadcast(buffer)
        self.open: list[Pair | BatchPair] = []
        self.number = 0
        self.stream_error: CaptureError | None = None
        self.batches: list[Sequence[Event]] = []

    @rule(target=subscribers, kinds=KINDS, where=WHERE, errors=ON_ERROR)
    def subscribe(self, kinds: Any, where: Any, errors: Any) -> Pair:
        subscriber = self.broadcast.subscribe(kinds=kinds, where=where, errors=errors)
        pair = subscriber, Model(self.broadcast.buffer, kinds, where, errors, self.stream_error)
        self.open.append(pair)
        return pair

    @rule(target=batch_subscribers, kinds=KINDS, errors=ON_ERROR)
    def subscribe_batches(self, kinds: Any, errors: Any) -> BatchPair:
        subscriber = self.broadcast.subscribe_batches(kinds=kinds, errors=errors)
        pair = subscriber, Model(self.broadcast.buffer, kinds, None, errors, self.stream_error)
        self.open.append(pair)
        return pair

    # -- publishing --

    def publish(self, batch: Sequence[Event], events: Sequence[Event]) -> None:
        self.number += len(events)
        for _, model in self.open:
            model.unseen += [(len(self.batches), event) for event in events]
        self.batches.append(batch)
        self.broadcast.publish(batch)

    @rule(kinds=st.lists(st.booleans(), max_size=30))
    def publish_a_list(self, kinds: list[bool]) -> None:
        batch = [
            ended(number) if is_end else started(number)
            for number, is_end in enumerate(kinds, self.number)
        ]
        self.publish(batch, batch)

    @rule(kinds=st.lists(st.booleans(), max_size=30), times=st.sampled_from([1, 1, 1, 10]))
    def publish_a_batch(self, kinds: list[bool], times: int) -> None:
        self.publish(native(self.number, kinds * times), list(native(self.number, kinds * times)))

    @rule(kinds=st.lists(st.booleans(), min_size=1, max_size=30), step=st.sampled_from([-1, 2, 3]))
    def publish_a_part_of_a_batch(self, kinds: list[bool], step: int) -> None:
        whole = native(self.number, kinds)
        self.publish(whole[::step], list(native(self.number, kinds))[::step])

    @rule(starts=st.booleans(), kinds=st.lists(st.booleans(), max_size=30))
    def publish_one_kind_of_a_batch(self, starts: bool, kinds: list[bool]) -> None:
        kind = FlowStarted if starts else FlowEnded
        whole = native(self.number, kinds)
        self.publish(whole.of_kinds(kind), [e for e in list(whole[:]) if isinstance(e, kind)])

    @rule()
    def announce(self) -> None:
        down = (LinkDown(self.number, "eth0"),)
        self.publish(down, down)

    @rule(number=st.integers(0, 2))
    def fail(self, number: int) -> None:
        """An error, between other events of the same batch."""
        error = CaptureError(self.number, NetringError(f"error {self.number}"))
        failed = SinkFailed(self.number, "sink", NetringError("sink"))
        downs = [LinkDown(self.number + n, "eth0") for n in range(number)]
        events: list[Event] = [*downs, error, failed, *downs]
        if self.stream_error is None:
            self.stream_error = error
            for _, model in self.open:
                model.stream_error = error
        self.publish(events, events)

    # -- receiving --

    def at_once(self, coroutine: Coroutine[Any, Any, Any], at_end: object = None) -> Any:
        return self.loop.run_until_complete(at_once(coroutine, at_end))

    @rule(pair=subscribers, times=st.integers(1, 20))
    def receive(self, pair: Pair, times: int) -> None:
        subscriber, model = pair
        for _ in range(times):
            self.check(raised_by(subscriber.next_nowait), raised_by(model.next))

    @rule(pair=subscribers, times=st.integers(1, 10))
    def iterate(self, pair: Pair, times: int) -> None:
        subscriber, model = pair
        for _ in range(times):
            got = raised_by(lambda: self.at_once(subscriber.__anext__()))
            self.check(got, raised_by(model.next))

    def check(self, got: tuple[Any, object], expected: tuple[Any, object]) -> None:
        assert got[1] == expected[1]
        assert got[0] is expected[0] is None or is_same(got[0], expected[0])

    @rule(pair=batch_subscribers, times=st.integers(1, 5))
    def receive_batches(self, pair: BatchPair, times: int) -> None:
        subscriber, model = pair
        for _ in range(times):
            self.check_batch(model, subscriber.next_nowait)

    @rule(pair=subscribers | batch_subscribers, times=st.integers(1, 5), limit=LIMITS)
    def ask_for_batches(self, pair: Pair | BatchPair, times: int, limit: int | None) -> None:
        subscriber, model = pair
        for _ in range(times):
            self.check_batch(model, lambda: self.at_once(subscriber.next_batch(limit)), limit)

    def check_batch(
        self, model: Model, receive: Callable[[], Any], limit: int | None = None
    ) -> None:
        got, error = raised_by(receive)
        expected, expected_error = raised_by(lambda: model.next_batch(limit))
        assert error == expected_error
        if expected is None:
            assert got is None
            return
        assert len(got) == len(expected)
        assert all(map(is_same, got, expected))
        if model.where is None and model.came_in >= 0:
            published = self.batches[model.came_in]
            assert isinstance(got, EventBatch) == isinstance(published, EventBatch)
            if limit is None and len(got) == len(published):
                assert got is published

    # -- the end --

    @rule(pair=consumes(subscribers) | consumes(batch_subscribers))
    def leave(self, pair: Pair | BatchPair) -> None:
        subscriber, _ = pair
        subscriber.close()
        self.open.remove(pair)
        assert subscriber.next_nowait() is None
        assert self.at_once(subscriber.next_batch()) == []
        assert self.at_once(subscriber.__anext__(), "the end") == "the end"

    def teardown(self) -> None:
        """After the end of the stream each reads what is retained for it, and then its end."""
        if not hasattr(self, "open"):
            return
        try:
            self.broadcast.close()
            for subscriber, model in self.open:
                model.ended = True
                self.read_to_the_end(subscriber, model)
            self.books_balance()
        finally:
            self.loop.close()

    def read_to_the_end(self, subscriber: FlowSubscriber | BatchSubscriber, model: Model) -> None:
        while model.unseen or model.error or (model.raises and model.stream_error):
            if isinstance(subscriber, BatchSubscriber):
                self.check_batch(model, lambda: self.at_once(subscriber.__anext__()))
            else:
                got = raised_by(lambda: self.at_once(subscriber.__anext__()))
                self.check(got, raised_by(model.next))
        assert self.at_once(subscriber.__anext__(), "the end") == "the end"

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "open"):
            return
        assert self.broadcast.receiver_count == len(self.open)
        for subscriber, model in self.open:
            books = subscriber.statistics()
            assert (books.delivered, books.lagged, books.filtered, books.pending) == (
                model.delivered,
                model.lagged,
                model.filtered,
                len(model.unseen),
            )
            assert books.published == (
                books.delivered + books.lagged + books.filtered + books.pending
            )


TestBroadcasting = Broadcasting.TestCase
TestBroadcasting.settings = settings(
    max_examples=size(50, 200), stateful_step_count=40, deadline=None
)
