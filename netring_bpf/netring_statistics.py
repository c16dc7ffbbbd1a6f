"""All books of a ``Netring``, and the laws of conservation that hold between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netring_bpf.broadcast.broadcast import BroadcastStatistics, SubscriberStatistics
from netring_bpf.sinks.base import SinkStatistics
from netring_bpf.statistics import CaptureStatistics, Equation

__all__ = ["NetringStatistics"]


@dataclass(frozen=True, slots=True)
class NetringStatistics:
    """All books: the capture's, the broadcast's, and each sink's.

    ``capture``: from the driver to the hand-off. ``broadcast``: of the events and their open
    subscribers. ``sinks``: of each sink. ``streams``: the books of each sink's subscriber, in the
    order of ``sinks``. They stay when the sink has ended, while ``broadcast.subscribers`` has only
    the open ones.
    ``announced``: the number of aggregates, events about devices, link changes, changes of the
    backend and errors, published beside the flow events.
    ``failed_sinks``: the sinks that ended by an error, with its message.
    """

    capture: CaptureStatistics
    broadcast: BroadcastStatistics
    sinks: tuple[SinkStatistics, ...]
    streams: tuple[SubscriberStatistics, ...]
    announced: int
    failed_sinks: Mapping[str, str] = field(default_factory=dict)

    def equations(self) -> tuple[Equation, ...]:
        """Return the laws of conservation with the figures put in."""
        return (
            *self.capture.equations(),
            Equation(
                "events published = taken + announced",
                self.broadcast.published,
                self.capture.events_taken + self.announced,
            ),
            *(
                Equation(
                    f"{s.name}: published = delivered + lagged + filtered + pending",
                    s.published,
                    s.delivered + s.lagged + s.filtered + s.pending,
                )
                for s in {*self.broadcast.subscribers, *self.streams}
            ),
            *(
                Equation(
                    f"{s.name}: accepted = acknowledged + dropped + pending",
                    s.accepted,
                    s.acknowledged + sum(s.dropped.values()) + s.pending,
                )
                for s in self.sinks
            ),
            *(
                Equation(
                    f"{s.name}, {kind}: offered = published + unchanged + replaced + dropped + "
                    "pending",
                    t.offered,
                    t.published + t.unchanged + t.replaced + sum(t.dropped.values()) + t.pending,
                )
                for s in self.sinks
                for kind, t in s.topics.items()
            ),
        )

    @property
    def balanced(self) -> bool:
        """Whether every equation holds; exact once the capture is closed."""
        return all(equation.holds for equation in self.equations())
