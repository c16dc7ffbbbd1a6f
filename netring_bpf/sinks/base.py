"""What a sink is, and the books every sink keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from netring_bpf.broadcast.broadcast import FlowSubscriber
from netring_bpf.events.event import Event

__all__ = ["Sink", "SinkStatistics"]


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """A sink's books, in flow events: accepted = acknowledged + dropped (summed) + pending.

    ``dropped`` is by reason; ``reconnects`` counts connections after the first, where the sink
    has a connection; ``connected`` is whether it has one now.
    """

    name: str
    accepted: int
    acknowledged: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    reconnects: int = 0
    connected: bool = True


class Sink(Protocol):
    """Takes events somewhere else. ``Netring(sinks=…)`` gives each one a subscriber and a task.

    A sink that fails raises from ``run``: it ends alone, and the capture and the other
    subscribers go on.
    """

    @property
    def name(self) -> str:
        """What the sink is called in statistics and messages."""

    @property
    def kinds(self) -> tuple[type[Event], ...] | None:
        """The event classes it wants; None for all."""

    async def run(self, events: FlowSubscriber) -> None:
        """Consume the stream to its end, and hand over what is accepted before returning.

        ``events`` can be iterated, or taken in batches, undecoded, by ``next_batch()``.
        """

    def statistics(self) -> SinkStatistics:
        """Return the sink's books."""
