"""Waiting, ending, cancelling and filtering: what the model of single steps does not reach."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from netring_bpf import Event, FlowBroadcast, FlowEnded, FlowSubscriber, Lagged
from netring_bpf.errors import ClosedError, OptionError
from tests.support.events import ended, started
from tests.support.patience import PATIENCE


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main

    asyncio.run(bounded())


async def everything(subscriber: FlowSubscriber) -> list[Event]:
    return [event async for event in subscriber]


def test_a_waiting_subscriber_is_woken_by_the_next_batch() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe()
        waiting = asyncio.create_task(anext(subscriber))
        await asyncio.sleep(0)
        assert not waiting.done()
        event = ended(1)
        broadcast.publish([event])
        assert await waiting is event

    run(main())


def test_a_subscriber_that_is_forgotten_makes_room_for_a_publisher_that_waits() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast(buffer=4)
        forgotten = broadcast.subscribe()
        broadcast.publish([ended(n) for n in range(4)])
        waiting = asyncio.create_task(broadcast.wait_room(2))
        await asyncio.sleep(0)
        assert not waiting.done()
        del forgotten
        gc.collect()
        await waiting
        assert broadcast.receiver_count == 0

    run(main())


def test_closing_ends_the_stream_after_what_is_retained() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast(buffer=10)
        early, late = broadcast.subscribe(), broadcast.subscribe()
        reading = asyncio.create_task(everything(early))
        await asyncio.sleep(0)
        broadcast.publish([ended(n) for n in range(5)])
        broadcast.close()
        broadcast.close()
        assert await reading == [ended(n) for n in range(5)]
        assert await everything(late) == [ended(n) for n in range(5)]
        assert await everything(broadcast.subscribe()) == []

    run(main())


def test_publishing_after_the_end_is_an_error() -> None:
    broadcast = FlowBroadcast()
    broadcast.close()
    with pytest.raises(ClosedError):
        broadcast.publish([ended(1)])


def test_a_closed_subscriber_wakes_its_own_waiting_task() -> None:
    async def main() -> None:
        subscriber = FlowBroadcast().subscribe()
        reading = asyncio.create_task(everything(subscriber))
        await asyncio.sleep(0)
        await subscriber.aclose()
        assert await reading == []

    run(main())


def test_a_slow_subscriber_is_told_and_the_fast_one_sees_everything() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast(buffer=8)
        fast, slow = broadcast.subscribe(), broadcast.subscribe()
        reading = asyncio.create_task(everything(fast))
        for n in range(100):
            broadcast.publish([ended(n)])
            await asyncio.sleep(0)
        broadcast.close()
        assert await reading == [ended(n) for n in range(100)]
        first, *rest = await everything(slow)
        assert isinstance(first, Lagged)
        assert first.missed == 92
        assert rest == [ended(n) for n in range(92, 100)]
        books = slow.statistics()
        assert (books.delivered, books.lagged, books.published) == (8, 92, 100)

    run(main())


def test_a_cancelled_wait_loses_nothing() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe()
        for n in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(subscriber)
            broadcast.publish([ended(n)])
            assert await anext(subscriber) == ended(n)
        # Published and cancelled in one turn of the loop: the event is still there.
        waiting = asyncio.create_task(anext(subscriber))
        await asyncio.sleep(0)
        broadcast.publish([ended(99)])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert subscriber.next_nowait() == ended(99)

    run(main())


def test_kinds_and_where_choose_and_what_they_pass_over_is_counted() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        odd = broadcast.subscribe(kinds=FlowEnded, where=lambda event: event.ts % 2 == 1)
        for n in range(10):
            broadcast.publish([started(n), ended(n)])
        broadcast.close()
        assert await everything(odd) == [ended(n) for n in range(1, 10, 2)]
        books = odd.statistics()
        assert (books.published, books.delivered, books.filtered) == (20, 5, 15)

    run(main())


def test_what_a_predicate_raises_reaches_its_own_subscriber_alone() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        bad = broadcast.subscribe(where=lambda event: 1 // (event.ts - 11) >= 0)
        good = broadcast.subscribe()
        broadcast.publish([ended(1), ended(2)])
        with pytest.raises(ZeroDivisionError):
            await anext(bad)
        assert await anext(bad) == ended(2)
        assert [await anext(good), await anext(good)] == [ended(1), ended(2)]
        books = bad.statistics()
        assert (books.delivered, books.filtered, books.pending) == (1, 1, 0)

    run(main())


def test_two_tasks_on_one_subscriber_are_told_so() -> None:
    async def main() -> None:
        subscriber = FlowBroadcast().subscribe(name="mine")
        first = asyncio.create_task(anext(subscriber))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="mine: two tasks"):
            await anext(subscriber)
        first.cancel()

    run(main())


def test_a_forgotten_subscriber_is_no_receiver() -> None:
    broadcast = FlowBroadcast()
    subscriber = broadcast.subscribe()
    assert broadcast.receiver_count == 1
    del subscriber
    gc.collect()
    assert broadcast.receiver_count == 0


def test_batches_come_whole_and_end_with_an_empty_one() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast()
        subscriber = broadcast.subscribe()
        broadcast.publish([ended(n) for n in range(7)])
        broadcast.close()
        assert await subscriber.next_batch(4) == [ended(n) for n in range(4)]
        assert await subscriber.next_batch(4) == [ended(n) for n in range(4, 7)]
        assert await subscriber.next_batch(4) == []

    run(main())


@pytest.mark.parametrize("buffer", [0, -1])
def test_a_buffer_that_holds_nothing_is_refused(buffer: int) -> None:
    with pytest.raises(OptionError) as caught:
        FlowBroadcast(buffer)
    assert caught.value.option == "buffer"


class _Batch(list[Event]):
    """One that can be seen to be forgotten."""


def test_what_every_subscriber_has_read_is_let_go_and_nothing_that_one_has_not() -> None:
    async def main() -> None:
        broadcast = FlowBroadcast(buffer=1000)
        reader, slow = broadcast.subscribe(), broadcast.subscribe()
        batches = [_Batch(ended(n) for n in range(at, at + 100)) for at in range(0, 600, 100)]
        kept = [weakref.ref(batch) for batch in batches]
        batches.reverse()
        broadcast.publish(batches.pop())
        assert [await anext(reader) for _ in range(100)] == [ended(n) for n in range(100)]
        broadcast.publish(batches.pop())
        assert kept[0]() is not None
        assert [await anext(slow) for _ in range(150)] == [ended(n) for n in range(150)]
        assert [await anext(reader) for _ in range(100)] == [ended(n) for n in range(100, 200)]
        while batches:
            broadcast.publish(batches.pop())
        assert [batch() is None for batch in kept] == [True, *[False] * 5]
        assert [await anext(slow) for _ in range(450)] == [ended(n) for n in range(150, 600)]
        assert [s.lagged for s in broadcast.statistics().subscribers] == [0, 0]

    run(main())
