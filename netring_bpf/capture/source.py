"""The interface between ``Netring`` and the source of its events: a capture or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from netring_bpf.capture.backend import Opened
from netring_bpf.errors import NetringError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event
from netring_bpf.filter.filter_set import FilterLike
from netring_bpf.interface import LinkWatch
from netring_bpf.ring.names import AddressNames
from netring_bpf.ring.reader import Span
from netring_bpf.statistics import CaptureStatistics

__all__ = ["Source"]


class Source(Protocol):
    """Gives flow events from a thread of its own; ``Capture`` documents each name."""

    @property
    def interface(self) -> str: ...  # noqa: D102
    @property
    def opened(self) -> Opened: ...  # noqa: D102
    @property
    def finite(self) -> bool:
        """Whether the source ends by itself, and waits until its events are taken."""

    @property
    def watch(self) -> LinkWatch | None:
        """The link messages of the interface; None of a file."""

    @property
    def names(self) -> AddressNames: ...  # noqa: D102
    def open(self) -> None: ...  # noqa: D102
    def start(  # noqa: D102
        self,
        done: Callable[[NetringError | None], None],
        tell: Callable[[Event], None] | None = None,
    ) -> None: ...
    def fileno(self) -> int: ...  # noqa: D102
    def flow_time(self) -> int: ...  # noqa: D102
    def take(self, limit: int) -> EventBatch: ...  # noqa: D102
    def take_interval(self) -> Span | None: ...  # noqa: D102
    def take_last_interval(self) -> Span: ...  # noqa: D102
    def set_filter(self, filter: FilterLike) -> None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102
    def finish(self, limit: int) -> Iterator[EventBatch]: ...  # noqa: D102
    def statistics(self) -> CaptureStatistics: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
