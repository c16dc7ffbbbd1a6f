"""Flow events as they crossed from C: kept as bytes, made into records when looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import compress
from typing import overload

from netring_bpf._core import ffi
from netring_bpf.records import Event, FlowEvent
from netring_bpf.ring.decode import KINDS, Layout, decode

__all__ = ["EventBatch"]

_KIND_AT = ffi.offsetof("nr_event", "kind")


@lru_cache(maxsize=64)
def _chosen(classes: tuple[type[Event], ...]) -> bytes:
    """For ``bytes.translate``: 1 for each kind that is of these classes, else 0."""
    return bytes(code in KINDS and issubclass(KINDS[code], classes) for code in range(256))


class EventBatch(Sequence[FlowEvent]):
    """Flow events in order; each is decoded when first looked at.

    Shared by reference between all subscribers, and so are the decoded events. A slice, and what
    ``of_kinds`` returns, is a batch over the same bytes.
    """

    __slots__ = ("_decoded", "_layout", "_raw", "_rows")

    def __init__(
        self,
        raw: bytes,
        layout: Layout,
        *,
        rows: Sequence[int] | None = None,
        decoded: list[FlowEvent | None] | None = None,
    ) -> None:
        self._raw = raw
        self._layout = layout
        count = len(raw) // layout.size
        self._rows: Sequence[int] = range(count) if rows is None else rows
        self._decoded: list[FlowEvent | None] = [None] * count if decoded is None else decoded

    def _over(self, rows: Sequence[int]) -> EventBatch:
        return EventBatch(self._raw, self._layout, rows=rows, decoded=self._decoded)

    @property
    def raw(self) -> bytes:
        """The bytes shared with other batches: the event of row n begins at n * event_size."""
        return self._raw

    @property
    def event_size(self) -> int:
        """Bytes of an event: an ``nr_event`` of ``api.h`` and what follows it."""
        return self._layout.size

    @property
    def rows(self) -> Sequence[int]:
        """Which rows of ``raw`` this batch has: a ``range`` where they follow each other."""
        return self._rows

    @property
    def kinds(self) -> bytes:
        """What each event is: a byte for each, ``NR_EVENT_*`` of ``api.h``. Decodes nothing."""
        kinds = self._raw[_KIND_AT :: self._layout.size]
        rows = self._rows
        if isinstance(rows, range):
            return kinds[rows.start : rows.stop : rows.step]
        return bytes(map(kinds.__getitem__, rows))

    def of_kinds(self, kinds: type[Event] | tuple[type[Event], ...]) -> EventBatch:
        """Return the events of these classes: this batch itself where all are. Decodes nothing."""
        chosen = self.kinds.translate(_chosen(kinds if isinstance(kinds, tuple) else (kinds,)))
        if (count := sum(chosen)) == len(self._rows):
            return self
        return self._over(tuple(compress(self._rows, chosen)) if count else range(0))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> FlowEvent: ...
    @overload
    def __getitem__(self, index: slice) -> EventBatch: ...
    def __getitem__(self, index: int | slice) -> FlowEvent | EventBatch:
        if isinstance(index, slice):
            return self._over(self._rows[index])
        return self._at(self._rows[index])

    def __iter__(self) -> Iterator[FlowEvent]:
        return map(self._at, self._rows)

    def _at(self, row: int) -> FlowEvent:
        event = self._decoded[row]
        if event is None:
            layout = self._layout
            event = self._decoded[row] = decode(self._raw, row * layout.size, layout)
        return event
