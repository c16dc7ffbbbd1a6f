"""The outbox: what is accepted is acknowledged, dropped or pending, at every moment."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netring_bpf.errors import ClosedError
from netring_bpf.sinks.outbox import Outbox
from tests.support.patience import PATIENCE


def box(limit: int = 10, records: int = 4, size: int = 1000) -> Outbox:
    return Outbox(limit, batch_records=records, batch_bytes=size)


def books(outbox: Outbox) -> tuple[int, int, dict[str, int], int]:
    return outbox.accepted, outbox.acknowledged, dict(outbox.dropped), outbox.pending


def test_records_leave_in_order_in_batches() -> None:
    outbox = box()
    for n in range(6):
        outbox.accept([b"%d" % n])
    assert outbox.take() == [b"0", b"1", b"2", b"3"]
    outbox.acknowledge()
    assert outbox.take() == [b"4", b"5"]
    outbox.acknowledge()
    assert outbox.take() == []
    assert books(outbox) == (6, 6, {}, 0)


def test_the_oldest_make_room_and_are_counted() -> None:
    outbox = box(limit=3)
    for n in range(10):
        outbox.accept([b"%d" % n])
    assert books(outbox) == (10, 0, {"overflow": 7}, 3)
    assert outbox.take() == [b"7", b"8", b"9"]


def test_what_is_in_flight_counts_towards_the_limit_and_is_never_dropped() -> None:
    outbox = box(limit=5)
    for n in range(4):
        outbox.accept([b"%d" % n])
    flying = outbox.take()
    for n in range(4, 8):
        outbox.accept([b"%d" % n])
    assert books(outbox) == (8, 0, {"overflow": 3}, 5)
    outbox.give_back()
    assert outbox.take() == flying


def test_a_batch_given_back_is_first_again() -> None:
    outbox = box()
    for n in range(6):
        outbox.accept([b"%d" % n])
    first = outbox.take()
    outbox.give_back()
    assert outbox.take() == first
    assert books(outbox) == (6, 0, {}, 6)


def test_a_batch_is_bounded_in_bytes_as_it_will_be_sent() -> None:
    outbox = box(size=1024, records=100)
    for _ in range(20):
        outbox.accept([b"x" * 100])
    batch = outbox.take()
    assert len(b"[" + b",".join(batch) + b"]") <= 1024
    assert len(batch) == 10


def test_a_record_longer_than_a_message_is_dropped_and_counted() -> None:
    outbox = box(size=1024)
    outbox.accept([b"x" * 1022])
    outbox.accept([b"x" * 1023])
    assert books(outbox) == (2, 0, {"too_large": 1}, 1)


def test_batches_shrink_for_a_while_and_what_exceeds_a_message_is_dropped_on_its_way() -> None:
    outbox = box(size=1024, records=100)
    outbox.accept([b"x" * 100, b"y" * 300, b"x" * 100, b"z" * 198, b"x" * 100])
    outbox.resize(batch_bytes=150, message_bytes=200)
    sent = []
    while batch := outbox.take():
        assert len(b"[" + b",".join(batch) + b"]") <= 200
        sent += [len(batch[0])] * len(batch)
        outbox.acknowledge()
    assert sent == [100, 100, 198, 100]  # that of 198 bytes is longer than a batch and goes alone
    assert books(outbox) == (5, 4, {"too_large": 1}, 0)
    outbox.resize(batch_bytes=5000, message_bytes=5000)
    outbox.accept([b"x" * 100] * 20)
    assert len(outbox.take()) == 10  # never more than it was made for


def test_a_batch_given_up_is_counted_by_its_reason() -> None:
    outbox = box()
    outbox.drop("refused")
    outbox.accept([b"0", b"1", b"2", b"3", b"4"])
    outbox.take()
    outbox.drop("refused")
    assert books(outbox) == (5, 0, {"refused": 4}, 1)
    assert outbox.take() == [b"4"]


def test_many_are_taken_in_at_once_and_each_is_counted() -> None:
    outbox = box(limit=5, size=1024)
    outbox.accept([b"0", b"x" * 1023, b"1", b"2"])
    assert books(outbox) == (4, 0, {"too_large": 1}, 3)
    outbox.accept([b"%d" % n for n in range(3, 12)])
    assert books(outbox) == (13, 0, {"too_large": 1, "overflow": 7}, 5)
    outbox.accept([])
    assert outbox.take() == [b"7", b"8", b"9", b"10"]


def test_a_second_batch_in_flight_and_a_record_after_the_close_are_refused() -> None:
    outbox = box()
    outbox.accept([b"1"])
    outbox.take()
    with pytest.raises(ClosedError):
        outbox.take()
    outbox.close()
    with pytest.raises(ClosedError):
        outbox.accept([b"2"])
    assert not outbox.finished
    outbox.acknowledge()
    assert outbox.finished


def test_waiting_ends_with_a_full_batch_with_patience_or_with_the_close() -> None:
    async def main() -> None:
        outbox = box(records=2)
        waiting = asyncio.create_task(outbox.wait_batch(30))
        await asyncio.sleep(0)
        outbox.accept([b"1"])
        await asyncio.sleep(0)
        assert not waiting.done()
        outbox.accept([b"2"])
        await waiting
        outbox.take()
        outbox.acknowledge()
        outbox.accept([b"3"])
        await outbox.wait_batch(0.001)
        outbox.take()
        outbox.acknowledge()
        waiting = asyncio.create_task(outbox.wait_batch(30))
        await asyncio.sleep(0)
        outbox.close()
        await waiting
        assert outbox.finished

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(bounded())


STEPS = ["accept", "long", "take", "acknowledge", "give_back", "drop", "small", "large"]


@settings(max_examples=300, deadline=None)
@given(
    limit=st.integers(1, 8),
    records=st.integers(1, 5),
    steps=st.lists(st.sampled_from(STEPS)),
)
def test_the_books_balance_whatever_happens(limit: int, records: int, steps: list[str]) -> None:
    outbox = box(limit, records, 1024)
    flying: list[bytes] = []
    sent: list[bytes] = []
    number = 0
    for step in steps:
        match step:
            case "accept" | "long":
                outbox.accept([b"%d" % number if step == "accept" else b"x" * 2000])
                number += 1
            case "take" if not flying:
                flying = outbox.take()
            case "small" | "large":
                size = 3 if step == "small" else 5000
                outbox.resize(batch_bytes=size, message_bytes=size)
            case "drop":
                outbox.drop("refused")
                flying = []
            case "acknowledge":
                outbox.acknowledge()
                sent += flying
                flying = []
            case "give_back":
                outbox.give_back()
                flying = []
        assert outbox.accepted == (
            outbox.acknowledged + sum(outbox.dropped.values()) + outbox.pending
        )
        assert outbox.pending <= max(limit, len(flying))
    assert [int(record) for record in sent] == sorted({int(record) for record in sent})
    assert outbox.acknowledged == len(sent)
