"""The broadcast against a slow, obvious model: every subscriber keeps its own unbounded list."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from netring_bpf import BatchSubscriber, Event, FlowBroadcast, FlowEnded, FlowSubscriber, Lagged
from tests.support.events import ended, started


class Model:
    """What one subscriber has yet to see, as plainly as it can be said."""

    def __init__(self, buffer: int, only_ends: bool) -> None:
        self.buffer = buffer
        self.only_ends = only_ends
        self.unseen: list[Event] = []
        self.delivered = self.lagged = self.filtered = 0

    def next(self) -> Event | int | None:
        """The next event, the number missed, or None."""
        if (missed := len(self.unseen) - self.buffer) > 0:
            del self.unseen[:missed]
            self.lagged += missed
            return missed
        while self.unseen:
            event = self.unseen.pop(0)
            if self.only_ends and not isinstance(event, FlowEnded):
                self.filtered += 1
                continue
            self.delivered += 1
            return event
        return None


class BatchModel(Model):
    """The same of a subscriber of batches: ``numbers`` say which batch each event came in."""

    def __init__(self, buffer: int, only_ends: bool) -> None:
        super().__init__(buffer, only_ends)
        self.numbers: list[int] = []

    def next_batch(self) -> list[Event] | int | None:
        """The next batch, the number missed, or None."""
        if len(self.unseen) > self.buffer:
            missed = self.next()
            assert isinstance(missed, int)
            del self.numbers[:missed]
            return missed
        while self.unseen:
            size = self.numbers.count(self.numbers[0])
            batch = self.unseen[:size]
            del self.unseen[:size], self.numbers[:size]
            chosen = [e for e in batch if isinstance(e, FlowEnded) or not self.only_ends]
            self.filtered += size - len(chosen)
            if chosen:
                self.delivered += len(chosen)
                return chosen
        return None


class Broadcasting(RuleBasedStateMachine):
    subscribers = Bundle("subscribers")
    batch_subscribers = Bundle("batch_subscribers")

    @initialize(buffer=st.integers(1, 12))
    def begin(self, buffer: int) -> None:
        self.broadcast = FlowBroadcast(buffer)
        self.open: list[tuple[FlowSubscriber | BatchSubscriber, Model]] = []
        self.number = self.batches = 0

    @rule(target=subscribers, only_ends=st.booleans())
    def subscribe(self, only_ends: bool) -> tuple[FlowSubscriber, Model]:
        kinds = FlowEnded if only_ends else None
        pair = (self.broadcast.subscribe(kinds=kinds), Model(self.broadcast.buffer, only_ends))
        self.open.append(pair)
        return pair

    @rule(target=batch_subscribers, only_ends=st.booleans())
    def subscribe_batches(self, only_ends: bool) -> tuple[BatchSubscriber, BatchModel]:
        kinds = FlowEnded if only_ends else None
        model = BatchModel(self.broadcast.buffer, only_ends)
        pair = (self.broadcast.subscribe_batches(kinds=kinds), model)
        self.open.append(pair)
        return pair

    @rule(kinds=st.lists(st.booleans(), max_size=30))
    def publish(self, kinds: list[bool]) -> None:
        batch = [
            ended(self.number + i) if is_end else started(self.number + i)
            for i, is_end in enumerate(kinds)
        ]
        self.number += len(batch)
        self.broadcast.publish(batch)
        self.batches += 1
        for _, model in self.open:
            model.unseen += batch
            if isinstance(model, BatchModel):
                model.numbers += [self.batches] * len(batch)

    @rule(pair=subscribers, times=st.integers(1, 20))
    def receive(self, pair: tuple[FlowSubscriber, Model], times: int) -> None:
        subscriber, model = pair
        for _ in range(times):
            got, expected = subscriber.next_nowait(), model.next()
            if isinstance(expected, int):
                assert isinstance(got, Lagged)
                assert got.missed == expected
            else:
                assert got is expected

    @rule(pair=batch_subscribers, times=st.integers(1, 5))
    def receive_batches(self, pair: tuple[BatchSubscriber, BatchModel], times: int) -> None:
        subscriber, model = pair
        for _ in range(times):
            got, expected = subscriber.next_nowait(), model.next_batch()
            if isinstance(expected, int):
                assert got is not None
                assert [e.missed for e in got if isinstance(e, Lagged)] == [expected]
                assert len(got) == 1
            elif expected is None:
                assert got is None
            else:
                assert got is not None
                assert all(a is b for a, b in zip(got, expected, strict=True))

    @rule(pair=consumes(subscribers) | consumes(batch_subscribers))
    def leave(self, pair: tuple[FlowSubscriber | BatchSubscriber, Model]) -> None:
        pair[0].close()
        self.open.remove(pair)
        assert pair[0].next_nowait() is None

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
TestBroadcasting.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
