"""Whole batches by reference: of the broadcast, and the batches of flow events themselves."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import (
    Event,
    EventBatch,
    FlowBroadcast,
    FlowEnded,
    FlowStarted,
    Lagged,
    LinkDown,
)
from tests.support.events import ended, started
from tests.support.frames import udp
from tests.support.replay import one_batch


def batch_of(flows: int) -> EventBatch:
    """One batch: so many starts, then as many ends."""
    return one_batch(udp("10.0.0.1", "10.0.0.2", 1000 + n, 53) for n in range(flows))


def test_a_batch_comes_as_the_object_that_was_published() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        batch = batch_of(5)
        down = (LinkDown(7, "eth0"),)
        async with broadcast.subscribe_batches() as one, broadcast.subscribe_batches() as other:
            broadcast.publish(batch)
            broadcast.publish(down)
            broadcast.close()
            got: list[object] = [events async for events in one]
            assert got[0] is batch
            assert got[1] is down
            assert [events async for events in other] == got
            books = one.statistics()
            assert (books.published, books.delivered, books.pending) == (11, 11, 0)

    asyncio.run(main())


def test_a_waiting_subscriber_is_woken_and_closing_ends_it() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe_batches()
        waiting = asyncio.ensure_future(anext(subscriber))
        await asyncio.sleep(0)
        events = [ended(1), ended(2)]
        broadcast.publish(events)
        assert await waiting is events
        waiting = asyncio.ensure_future(anext(subscriber, []))
        await asyncio.sleep(0)
        subscriber.close()
        assert await waiting == []

    asyncio.run(main())


def test_who_is_behind_gets_lagged_alone_and_then_the_rest_of_the_batch_over_the_same_bytes() -> (
    None
):
    broadcast = FlowBroadcast(buffer=8)
    subscriber = broadcast.subscribe_batches()
    batch = batch_of(5)
    broadcast.publish(batch)
    broadcast.publish([ended(1)])
    lagged = subscriber.next_nowait()
    assert lagged == (Lagged(0, 3),)
    rest = subscriber.next_nowait()
    assert isinstance(rest, EventBatch)
    assert rest.raw is batch.raw
    assert list(rest) == list(batch)[3:]
    assert all(a is b for a, b in zip(rest, list(batch)[3:], strict=True))
    assert subscriber.next_nowait() == [ended(1)]
    assert subscriber.next_nowait() is None
    books = subscriber.statistics()
    assert (books.published, books.delivered, books.lagged, books.pending) == (11, 8, 3, 0)


def test_the_time_of_lagged_is_that_of_the_latest_event_seen() -> None:
    broadcast = FlowBroadcast(buffer=2)
    subscriber = broadcast.subscribe_batches()
    broadcast.publish([started(1), started(5)])
    assert subscriber.next_nowait() == [started(1), started(5)]
    broadcast.publish([ended(n) for n in range(3)])
    assert subscriber.next_nowait() == (Lagged(5, 1),)


def test_kinds_choose_and_what_they_pass_over_is_counted() -> None:
    broadcast = FlowBroadcast()
    subscriber = broadcast.subscribe_batches(kinds=FlowEnded)
    both = broadcast.subscribe_batches(kinds=(FlowStarted, FlowEnded))
    batch = batch_of(4)
    plain: list[Event] = [started(1), ended(1), LinkDown(3, "eth0")]
    broadcast.publish(batch)
    broadcast.publish([started(0)])
    broadcast.publish(plain)
    ends = subscriber.next_nowait()
    assert isinstance(ends, EventBatch)
    assert ends.raw is batch.raw
    assert list(ends) == [event for event in batch if isinstance(event, FlowEnded)]
    assert subscriber.next_nowait() == (ended(1),)
    assert subscriber.next_nowait() is None
    books = subscriber.statistics()
    assert (books.published, books.delivered, books.filtered) == (12, 5, 7)
    assert both.next_nowait() is batch


def test_a_batch_is_a_sequence_and_so_are_its_parts() -> None:
    batch = batch_of(6)
    events = list(batch)
    assert len(batch) == 12
    assert bool(batch[:0]) is False
    assert [batch[0], batch[-1]] == [events[0], events[-1]]
    for part in (slice(2, 9), slice(None, None, -1), slice(1, 12, 3), slice(5, 5), slice(-4, None)):
        assert list(batch[part]) == events[part]
    odd = batch.of_kinds(FlowEnded)
    assert [list(odd[1:3]), odd[-1]] == [events[7:9], events[-1]]
    assert batch.of_kinds((FlowStarted, FlowEnded)) is batch
    assert list(batch.of_kinds(LinkDown)) == []
    assert batch.kinds == b"\x01" * 6 + b"\x04" * 6
    assert odd.kinds == b"\x04" * 6
    assert batch[::2].kinds == b"\x01" * 3 + b"\x04" * 3
    assert batch[::-1].kinds == b"\x04" * 6 + b"\x01" * 6
    assert batch[7::-3].kinds == b"\x04\x01\x01"
    assert list(batch[::-1].of_kinds(FlowEnded)) == events[:5:-1]


def interleaved(flows: int) -> EventBatch:
    """Start, end, start, end, and so on."""
    batch = batch_of(flows)
    return batch.at([place for n in range(flows) for place in (n, flows + n)])


def test_what_one_subscriber_has_decoded_is_shared_with_the_others() -> None:
    broadcast = FlowBroadcast()
    one, other = broadcast.subscribe(), broadcast.subscribe()
    broadcast.publish(batch_of(5))
    pairs = [(one.next_nowait(), other.next_nowait()) for _ in range(10)]
    assert all(a is b is not None for a, b in pairs)


def test_one_who_is_alone_gets_the_same_events_and_the_batch_keeps_none() -> None:
    broadcast = FlowBroadcast()
    alone = broadcast.subscribe()
    batch = batch_of(200)
    broadcast.publish(batch)
    events = [alone.next_nowait() for _ in range(400)]
    assert alone.next_nowait() is None
    assert batch._decoded == [None] * 400
    assert events == list(batch)
    assert list(batch.once()) == list(batch)


def test_kinds_pass_over_events_between_each_other_and_the_books_follow() -> None:
    broadcast = FlowBroadcast()
    subscriber = broadcast.subscribe(kinds=FlowEnded)
    batch = interleaved(70)
    broadcast.publish(batch)
    ends = [event for event in batch if isinstance(event, FlowEnded)]
    for n, end in enumerate(ends):
        assert subscriber.next_nowait() == end
        books = subscriber.statistics()
        assert (books.delivered, books.filtered, books.pending) == (n + 1, n + 1, 138 - 2 * n)
    assert subscriber.next_nowait() is None
    assert subscriber.statistics().pending == 0


def test_single_events_and_batches_can_be_taken_in_turn() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe(kinds=FlowEnded)
        batch = interleaved(10)
        ends = list(batch.of_kinds(FlowEnded))
        broadcast.publish(batch)
        assert await anext(subscriber) == ends[0]
        rest = await subscriber.next_batch(9)
        assert isinstance(rest, EventBatch)
        assert list(rest) == ends[1:5]
        assert await anext(subscriber) == ends[5]
        assert list(await subscriber.next_batch()) == ends[6:]
        books = subscriber.statistics()
        assert (books.delivered, books.filtered, books.pending) == (10, 10, 0)
        broadcast.close()
        assert await subscriber.next_batch() == []

    asyncio.run(main())


def test_a_predicate_holds_for_batches_too() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe(where=lambda event: event.ts % 2 == 0)
        broadcast.publish([started(n) for n in range(10)])
        broadcast.close()
        assert await subscriber.next_batch(3) == [started(n) for n in (0, 2, 4)]
        assert await subscriber.next_batch() == [started(n) for n in (6, 8)]
        assert await subscriber.next_batch() == []
        books = subscriber.statistics()
        assert (books.delivered, books.filtered, books.pending) == (5, 5, 0)

    asyncio.run(main())


def test_what_a_predicate_raises_comes_after_the_events_before_it() -> None:
    def where(event: Event) -> bool:
        if event.ts == 3:
            raise KeyError(event.ts)
        return True

    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe(where=where)
        broadcast.publish([started(n) for n in range(6)])
        assert await subscriber.next_batch() == [started(n) for n in range(3)]
        with pytest.raises(KeyError):
            await subscriber.next_batch()
        assert await subscriber.next_batch() == [started(4), started(5)]
        books = subscriber.statistics()
        assert (books.delivered, books.filtered, books.pending) == (5, 1, 0)

    asyncio.run(main())


def test_what_a_predicate_raises_is_not_lost_with_the_events_that_are_overwritten() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast(2)
        subscriber = broadcast.subscribe(where=lambda event: 1 // (event.ts - 1) <= 1)
        broadcast.publish([started(0), started(1)])
        assert await subscriber.next_batch() == [started(0)]
        broadcast.publish([started(n) for n in range(2, 7)])
        with pytest.raises(ZeroDivisionError):
            await subscriber.next_batch()
        assert await subscriber.next_batch() == [Lagged(1, 3), started(5), started(6)]
        books = subscriber.statistics()
        assert (books.delivered, books.lagged, books.filtered) == (3, 3, 1)

    asyncio.run(main())


def test_one_with_much_to_catch_up_with_lets_the_loop_turn() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        turns: list[int] = []
        received = 0

        async def others() -> None:
            while True:
                turns.append(received)
                await asyncio.sleep(0)

        subscriber = broadcast.subscribe()
        broadcast.publish([started(n) for n in range(1000)])
        broadcast.close()
        task = asyncio.create_task(others())
        async for _ in subscriber:
            received += 1
        task.cancel()
        assert received == 1000
        assert turns == list(range(128, 1000, 128))

    asyncio.run(main())


def test_when_the_last_event_happened_is_known_without_making_it() -> None:
    batch = batch_of(3)
    parts = (batch, batch[:2], batch[::-1], batch.of_kinds(FlowStarted))
    last = (batch[5], batch[1], batch[0], batch[2])
    assert [part.last_ts for part in parts] == [event.ts for event in last]
