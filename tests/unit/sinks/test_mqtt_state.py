"""The board of what goes out besides flows: the latest value wins, and all of it is counted."""

from __future__ import annotations

import random

import pytest

from netring_bpf import TopicStatistics
from netring_bpf.errors import ClosedError
from netring_bpf.sinks.mqtt_state import Message, StateBoard, fitting


def value(topic: str, text: str, **options: object) -> Message:
    def render(smaller: int) -> bytes | None:
        return None if smaller else text.encode()

    return Message("kind", topic, render, essence=text, **options)  # type: ignore[arg-type]


def books(board: StateBoard, kind: str = "kind") -> TopicStatistics:
    found = board.statistics()[kind]
    assert found.offered == (
        found.published + found.unchanged + found.replaced + sum(found.dropped.values())
        + found.pending
    )  # fmt: skip
    return found


def send(board: StateBoard, now: float = 0.0) -> list[tuple[str, bytes | None]]:
    """Send all that is due now."""
    sent = []
    while (message := board.take(now)) is not None:
        sent.append((message.topic, message.render(0)))
        board.published(message, now)
    return sent


def test_the_latest_value_replaces_one_that_did_not_go_out() -> None:
    board = StateBoard()
    for text in ("a", "b", "c"):
        board.put(value("t", text))
    assert books(board).pending == 1
    assert send(board) == [("t", b"c")]
    assert books(board) == TopicStatistics(offered=3, published=1, replaced=2)


def test_a_value_that_changes_nothing_does_not_go_out() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    assert send(board) == [("t", b"a")]
    board.put(value("t", "a"))
    assert send(board) == []
    assert books(board) == TopicStatistics(offered=2, published=1, unchanged=1)


def test_a_topic_waits_for_its_interval_and_other_topics_do_not() -> None:
    board = StateBoard()
    board.put(value("t", "a", interval=10.0))
    assert send(board, 100.0) == [("t", b"a")]
    board.put(value("t", "b", interval=10.0))
    board.put(value("u", "x"))
    assert send(board, 105.0) == [("u", b"x")]
    assert board.next_due() == 110.0
    assert send(board, 109.9) == []
    assert send(board, 110.0) == [("t", b"b")]
    assert board.next_due() is None


def test_closing_waits_for_no_interval() -> None:
    board = StateBoard()
    board.put(value("t", "a", interval=10.0))
    send(board, 100.0)
    board.put(value("t", "b", interval=10.0))
    board.close()
    assert not board.finished
    assert send(board, 100.0) == [("t", b"b")]
    assert board.finished


def test_a_value_that_comes_while_another_is_under_way_goes_out_after_it() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    first = board.take(0.0)
    assert first is not None
    board.put(value("t", "b"))
    assert books(board).pending == 2
    board.published(first, 0.0)
    assert books(board) == TopicStatistics(offered=2, published=1, pending=1)
    assert send(board) == [("t", b"b")]
    assert books(board) == TopicStatistics(offered=2, published=2)


def test_a_value_under_way_that_did_not_arrive_gives_way_to_a_later_one() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    board.take(0.0)
    board.put(value("t", "b"))
    board.give_back()
    assert books(board) == TopicStatistics(offered=2, published=0, replaced=1, pending=1)
    assert send(board) == [("t", b"b")]


def test_a_value_under_way_that_did_not_arrive_goes_out_again() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    board.take(0.0)
    with pytest.raises(ClosedError):
        board.take(0.0)
    board.give_back()
    assert send(board) == [("t", b"a")]
    assert books(board) == TopicStatistics(offered=1, published=1)


def test_all_values_go_out_once_more_after_a_reconnect() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    board.put(value("u", "b", retain=False))
    send(board)
    board.repeat()
    assert send(board) == [("t", b"a"), ("u", b"b")]
    assert books(board) == TopicStatistics(offered=2, published=2, repeated=2)
    board.repeat(retained=False)
    assert send(board) == [("u", b"b")]


def test_a_topic_that_is_asked_for_again_and_again_keeps_to_its_interval() -> None:
    board = StateBoard()
    board.put(value("t", "a", interval=2.0))
    board.put(value("u", "b"))
    assert send(board, 10.0) == [("t", b"a"), ("u", b"b")]
    sent = []
    for tenth in range(100, 150):
        board.repeat_topic("t")
        sent += [(tenth / 10, topic) for topic, _ in send(board, tenth / 10)]
    assert sent == [(12.0, "t"), (14.0, "t")]
    assert books(board) == TopicStatistics(offered=2, published=2, repeated=2)


def test_a_topic_that_is_cleared_goes_out_empty_and_is_then_forgotten() -> None:
    board = StateBoard()
    board.put(value("t", "a", interval=10.0))
    send(board)
    board.clear("t")
    assert send(board) == [("t", b"")]
    board.repeat()
    assert send(board) == []
    assert books(board) == TopicStatistics(offered=2, published=2)


def test_a_topic_that_comes_back_before_it_was_cleared_is_not_cleared() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    send(board)
    board.clear("t")
    board.put(value("t", "a"))
    assert send(board) == [("t", b"a")]
    assert books(board) == TopicStatistics(offered=3, published=2, replaced=1)


def test_events_keep_their_order_and_wait_for_their_turn() -> None:
    board = StateBoard()
    for text in ("a", "b", "c"):
        board.add_event(value("e", text, interval=0.1))
    assert send(board, 0.0) == [("e", b"a")]
    assert send(board, 0.05) == []
    assert send(board, 0.1) == [("e", b"b")]
    assert board.next_due() == 0.2
    board.close()
    assert send(board, 0.1) == [("e", b"c")]


def test_too_many_events_make_room_at_the_old_end_and_are_counted() -> None:
    board = StateBoard()
    for number in range(300):
        board.add_event(value("e", str(number)))
    first = board.take(0.0)
    assert first is not None
    assert first.render(0) == b"44"
    board.add_event(value("e", "300"))  # the one under way stays
    board.published(first, 0.0)
    assert send(board)[0] == ("e", b"46")
    assert books(board) == TopicStatistics(offered=301, published=256, dropped={"overflow": 45})


def test_a_value_that_connections_break_over_gets_smaller_and_is_given_up() -> None:
    board = StateBoard()
    board.put(value("t", "a"))
    rooms = []
    for attempt in range(5):
        message = board.take(0.0)
        assert message is not None
        assert board.suspect(message, 1000, 0.0) == (attempt == 4)
        rooms.append(message.room)
        board.give_back()
    assert rooms == [None, 500, 500, 500, 500]
    assert books(board) == TopicStatistics(offered=1, published=0, dropped={"refused": 1})


def test_the_largest_payload_that_fits_is_taken() -> None:
    def render(smaller: int) -> bytes | None:
        return None if smaller > 3 else bytes(100 >> smaller)

    assert [len(fitting(render, room) or b"none") for room in (100, 99, 25, 12, 11)] == [
        100, 50, 25, 12, 4,
    ]  # fmt: skip


def test_the_books_balance_whatever_happens() -> None:
    chance = random.Random(17)
    board = StateBoard()
    now = 0.0
    for _ in range(20_000):
        now += chance.random()
        topic, text = chance.choice("abc"), str(chance.randrange(3))
        match chance.randrange(8):
            case 0 | 1:
                board.put(value(topic, text, interval=chance.choice([0.0, 3.0])))
            case 2:
                board.put(value(topic.upper(), text, retain=False))
            case 3:
                board.clear(chance.choice([topic, topic.upper()]))
            case 4:
                board.add_event(value("e", text, interval=1.0))
            case 5:
                board.repeat(retained=chance.random() < 0.5)
            case _:
                message = board.take(now)
                if message is not None:
                    board.put(value(topic, text))
                    match chance.randrange(4):
                        case 0:
                            board.give_back()
                        case 1:
                            board.dropped(message, "refused", now)
                        case 2 if chance.random() < 0.5:
                            board.clear(message.topic)
                            board.give_back()
                        case _:
                            board.published(message, now)
        assert books(board).pending <= 256 + 7
    board.close()
    send(board)
    assert (board.finished, books(board).pending) == (True, 0)
