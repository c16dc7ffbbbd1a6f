"""The protocol of sinks, and the books that every sink keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from netring_bpf.broadcast.broadcast import (
    BroadcastStatistics,
    FlowSubscriber,
    SubscriberStatistics,
)
from netring_bpf.events.event import Event
from netring_bpf.sinks.outbox import OutboxStatistics
from netring_bpf.statistics import CaptureStatistics

__all__ = ["Books", "ReadsBooks", "Sink", "SinkStatistics", "TopicStatistics"]


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """The books of one kind of topic besides flows.

    offered = published + unchanged + replaced + dropped (summed) + pending. ``offered``: values and
    events that there were to tell. ``published``: messages that went out. ``pending``: messages
    that wait. ``unchanged``: messages not sent, as they equal the one before. ``replaced``:
    messages before whose turn a later value came. ``dropped``: messages given up, by reason.
    ``repeated``: messages sent once more, after a connection was lost or at another's request.
    """

    offered: int
    published: int
    unchanged: int = 0
    replaced: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """A sink's books, in flow events: accepted = acknowledged + dropped (summed) + pending.

    ``name``: of the sink. ``acknowledged``: flow events that arrived. ``pending``: flow events that
    wait. ``topics``: the books of each other topic, by its name. ``dropped``: flow events given up,
    by reason. ``reconnects``: connections after the first, of a sink that has one. ``connected``:
    whether it has one now. ``unasked`` counts the messages that came in without being asked for,
    and were ignored. ``takes_flows``: False of a sink that forwards no flow. ``outbox``: the books
    of an outbox on disk, over all its runs; ``accepted`` counts again those flows that it had left
    from an earlier run.
    """

    name: str
    accepted: int
    acknowledged: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    reconnects: int = 0
    connected: bool = True
    unasked: int = 0
    topics: Mapping[str, TopicStatistics] = field(default_factory=dict)
    takes_flows: bool = True
    outbox: OutboxStatistics | None = None


class Sink(Protocol):
    """Takes events somewhere else. ``Netring(sinks=…)`` gives each one a subscriber and a task.

    A sink that fails raises from ``run``. It ends alone: the capture and the other subscribers
    go on, and hear of it by ``SinkFailed``.
    """

    @property
    def name(self) -> str:
        """The sink's name in statistics and messages."""

    @property
    def kinds(self) -> tuple[type[Event], ...] | None:
        """The event classes that it wants; None for all.

        ``CaptureError``, ``SinkFailed`` and ``Lagged`` come whether it wants them or not.
        """

    async def run(self, events: FlowSubscriber) -> None:
        """Consume the stream to its end, and deliver what was accepted before returning.

        Iterate ``events``, or take undecoded batches with ``next_batch()``.
        """

    def statistics(self) -> SinkStatistics:
        """Return the sink's books."""


class Books(Protocol):
    """All books of a ``Netring``: its ``NetringStatistics``."""

    @property
    def capture(self) -> CaptureStatistics:
        """Those of the capture."""

    @property
    def broadcast(self) -> BroadcastStatistics:
        """Those of the broadcast and its open subscribers."""

    @property
    def sinks(self) -> tuple[SinkStatistics, ...]:
        """Those of the sinks."""

    @property
    def streams(self) -> tuple[SubscriberStatistics, ...]:
        """Those of the sinks' subscribers, in the order of ``sinks``."""


@runtime_checkable
class ReadsBooks(Protocol):
    """A sink that tells the books of the whole ``Netring``, beside the events."""

    def read_books(self, books: Callable[[], Books]) -> None:
        """Take the function that gives the books; call it in the event loop only."""
