"""What goes out besides flows: the latest value of each topic, and events in their order.

Pure: no clock, no input or output. A value that a later one replaces before it went out is counted
and not sent, and so is one that changes nothing. Of each kind of topic, the books hold at every
moment: offered = published + unchanged + replaced + dropped + pending.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from netring_bpf.errors import ClosedError
from netring_bpf.sinks.base import TopicStatistics

__all__ = ["LARGEST", "Message", "Render", "StateBoard", "fitting"]

#: Makes the payload, in full at 0 and smaller at each higher number; None: no smaller one exists.
Render: TypeAlias = Callable[[int], bytes | None]
LARGEST: Final = 65_536  #: bytes of a payload
_MOST_EVENTS: Final = 256  # that wait
_SUSPICIOUS: Final = 2  # connections that broke over one message: it may be too large
_HOPELESS: Final = 5


@dataclass(slots=True)
class Message:
    """A message that is to go out.

    ``largest``: the bytes that its payload may have at most; ``room``: as connections have shown.
    """

    kind: str
    topic: str
    render: Render
    qos: int = 1
    retain: bool = True
    interval: float = 0.0
    essence: object = None
    largest: int = LARGEST
    room: int | None = None
    fresh: bool = True  # it has not gone out yet
    is_end: bool = False  # an empty message, which clears the topic
    due: float = 0.0
    sent: float = 0.0  # when the latest value of the topic went out
    breaks: int = 0


@dataclass(slots=True)
class _Books:
    offered: int = 0
    published: int = 0
    unchanged: int = 0
    replaced: int = 0
    repeated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class StateBoard:
    """The latest values of the topics, and the events, until the broker has them."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, Message] = OrderedDict()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._events: deque[Message] = deque()
        self._events_due = 0.0
        self._under_way: Message | None = None
        self._books: dict[str, _Books] = {}
        self._closed = False
        #: Called when there is something new to send.
        self.on_change: Callable[[], None] = lambda: None

    # -- in --

    def put(self, message: Message) -> None:
        """Take the latest value of a topic."""
        books = self._of(message.kind)
        books.offered += 1
        before = self._states.get(message.topic)
        if before is not None:
            if before.essence == message.essence and not before.is_end:
                books.unchanged += 1
                return
            self._replace(before)
            message.due, message.sent = before.due, before.sent
            message.room, message.breaks = before.room, before.breaks
        self._states[message.topic] = message
        self._wait(message)

    def clear(self, topic: str) -> None:
        """Remove what the broker retains of a topic, and the topic with it."""
        before = self._states.get(topic)
        if before is None or before.is_end:
            return
        self._replace(before)
        if before.retain:
            self._put_end(before.kind, topic, before.qos)
        else:
            del self._states[topic]
            self._waiting.pop(topic, None)

    def clear_unknown(self, kind: str, topic: str, qos: int) -> None:
        """Remove what the broker retains of a topic that has no value here."""
        if topic not in self._states:
            self._put_end(kind, topic, qos)

    def _put_end(self, kind: str, topic: str, qos: int) -> None:
        self._of(kind).offered += 1
        end = Message(kind, topic, _empty, qos=qos, is_end=True)
        self._states[topic] = end
        self._wait(end)

    def add_event(self, message: Message) -> None:
        """Take an event; the oldest one makes room."""
        books = self._of(message.kind)
        books.offered += 1
        self._events.append(message)
        if len(self._events) > _MOST_EVENTS:
            del self._events[1 if self._events[0] is self._under_way else 0]
            books.dropped["overflow"] += 1
        self.on_change()

    def leave_out(self, kind: str, reason: str) -> None:
        """Count a value for which there is no room."""
        books = self._of(kind)
        books.offered += 1
        books.dropped[reason] += 1

    def repeat(self, *, retained: bool = True, not_before: float = 0.0) -> None:
        """Send the values again.

        ``retained``: also those that the broker keeps for who comes later.
        """
        for message in self._states.values():
            if retained or not message.retain:
                message.due = not_before
                self._waiting[message.topic] = None
        self.on_change()

    def repeat_topic(self, topic: str) -> None:
        """Send this topic's value again, before all others, as its interval allows."""
        message = self._states.get(topic)
        if message is not None:
            message.due = message.sent + message.interval
            self._wait(message)
            self._waiting.move_to_end(topic, last=False)

    def close(self) -> None:
        """Take the last values as they are: no interval is kept to any more."""
        self._closed = True
        self.on_change()

    # -- out --

    @property
    def finished(self) -> bool:
        """Whether it is closed and nothing is left to send."""
        return self._closed and not self._waiting and not self._events

    def take(self, now: float) -> Message | None:
        """Return the next message whose time has come; it is under way until its end is told."""
        if self._under_way is not None:
            raise ClosedError("take a message while one is under way")
        self._under_way = self._next(now)
        return self._under_way

    def _next(self, now: float) -> Message | None:
        for topic in self._waiting:
            message = self._states[topic]
            if self._closed or message.due <= now:
                return message
        if self._events and (self._closed or self._events_due <= now):
            return self._events[0]
        return None

    def give_back(self) -> None:
        """Take the message back that is under way: it did not arrive."""
        message, self._under_way = self._under_way, None
        if message is not None and not self._is_present(message):
            self._replace(message)

    def next_due(self) -> float | None:
        """Return when ``take()`` will have a message, if nothing new comes."""
        dues = [self._states[topic].due for topic in self._waiting]
        if self._events:
            dues.append(self._events_due)
        return min(dues, default=None)

    def published(self, message: Message, now: float) -> None:
        """Count the message as arrived."""
        books = self._of(message.kind)
        if message.fresh:
            books.published += 1
        else:
            books.repeated += 1
        self._settle(message, now)

    def dropped(self, message: Message, reason: str, now: float) -> None:
        """Give the message up, and count it under ``reason``."""
        if message.fresh:
            self._of(message.kind).dropped[reason] += 1
        self._settle(message, now)

    def suspect(self, message: Message, size: int, now: float) -> bool:
        """Note that a connection broke over the message; return whether it is given up for that.

        The topic's messages get smaller meanwhile.
        """
        message.breaks += 1
        if message.breaks >= _SUSPICIOUS:
            message.room = size // 2
        present = self._states.get(message.topic)
        if present is not None:
            present.breaks, present.room = message.breaks, message.room
        if message.breaks < _HOPELESS:
            return False
        self.dropped(message, "refused", now)
        return True

    def _settle(self, message: Message, now: float) -> None:
        self._under_way = None
        if self._events and self._events[0] is message:
            self._events.popleft()
            self._events_due = now + message.interval
            return
        message.breaks = 0
        # A later value may have come while this one was on its way.
        present = self._states.get(message.topic)
        if present is not None:
            present.sent, present.due = now, now + message.interval
        if present is message:
            self._waiting.pop(message.topic, None)
            message.fresh = False
            if message.is_end:
                del self._states[message.topic]

    # -- books --

    def pending(self, kind: str) -> int:
        """Return the number of values that have not gone out yet."""
        found = sum(m.fresh for m in self._states.values() if m.kind == kind)
        found += sum(m.kind == kind for m in self._events)
        late = self._under_way
        if late is not None and late.kind == kind and late.fresh and not self._is_present(late):
            found += 1
        return found

    def topics(self, kind: str) -> Iterator[str]:
        """Iterate the topics of a kind that have a value."""
        return (m.topic for m in self._states.values() if m.kind == kind and not m.is_end)

    def statistics(self) -> Mapping[str, TopicStatistics]:
        """Return the books of each kind of topic."""
        return {
            kind: TopicStatistics(
                offered=books.offered,
                published=books.published,
                unchanged=books.unchanged,
                replaced=books.replaced,
                dropped=dict(books.dropped),
                pending=self.pending(kind),
                repeated=books.repeated,
            )
            for kind, books in self._books.items()
        }

    def _is_present(self, message: Message) -> bool:
        """Whether the message is what is to be told now: no later value has come."""
        if self._states.get(message.topic) is message:
            return True
        return bool(self._events) and self._events[0] is message

    def _replace(self, before: Message) -> None:
        """Count a value that a later one replaces, unless it has gone out or may yet arrive."""
        if before is not self._under_way:
            self._of(before.kind).replaced += before.fresh

    def _of(self, kind: str) -> _Books:
        return self._books.setdefault(kind, _Books())

    def _wait(self, message: Message) -> None:
        self._waiting[message.topic] = None
        self.on_change()


def _empty(smaller: int) -> bytes | None:
    return None if smaller else b""


def fitting(render: Render, room: int) -> bytes | None:
    """Return the largest payload that fits into ``room`` bytes; None if there is none."""
    smaller = 0
    while (payload := render(smaller)) is not None:
        if len(payload) <= room:
            return payload
        smaller += 1
    return None
