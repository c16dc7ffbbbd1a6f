"""Flow events as the bytes that C wrote, decoded when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, compress
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, get_args, overload

from netring_bpf._core import ffi, lib
from netring_bpf.events.event import CoreEvent, Event, FlowEvent
from netring_bpf.events.layout import KINDS, Layout, format_of, slice_of
from netring_bpf.events.select import Classes, LazyBatch, classes_of

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import TypeVar as TypeVarWithDefault  # its stubs alone are needed

    from netring_bpf.events.columns import Columns

__all__ = ["EventBatch"]

_PART = 64
_KIND_AT = ffi.offsetof("nr_event", "kind")
_NEIGHBOUR: Final = int(lib.NR_EVENT_NEIGHBOUR)
_OF_FLOWS: Final[tuple[type[Event], ...]] = get_args(FlowEvent)
_Kind = TypeVar("_Kind", bound=CoreEvent)
_TS = format_of("nr_event", ("ts",))

if TYPE_CHECKING:
    _F_co = TypeVarWithDefault("_F_co", bound=CoreEvent, covariant=True, default=CoreEvent)
    _EventSequence: TypeAlias = Sequence[_F_co]
else:
    _F_co = TypeVar("_F_co", bound=CoreEvent, covariant=True)

    class _EventSequence:
        """The methods of a sequence, but not its class.

        A library that takes data frames apart, as Polars, reads a ``Sequence`` row by row and never
        asks for its columns.
        """

        __slots__ = ()
        __contains__ = Sequence.__contains__
        __reversed__ = Sequence.__reversed__
        __class_getitem__ = classmethod(GenericAlias)
        index = Sequence.index
        count = Sequence.count


@lru_cache(maxsize=64)
def _chosen(classes: tuple[type[Event], ...]) -> bytes:
    """Return a table for ``bytes.translate``: 1 for each kind that has one of these classes."""
    return bytes(code in KINDS and issubclass(KINDS[code], classes) for code in range(256))


class EventBatch(_EventSequence[_F_co], LazyBatch):
    """Flow events in order; the first look at an event decodes it.

    ``raw`` begins with the events, of which there are ``count``; their application records follow.

    All subscribers share the batch and the decoded events. Slices and ``of_kinds`` give batches
    over the same bytes. Where ``FlowOptions.events`` asks for ``NeighbourSeen``, those are events
    of a batch as well. ``EventBatch[FlowEnded]`` is one of ended flows alone.
    """

    __slots__ = ("_count", "_decoded", "_layout", "_raw", "_rows")

    def __init__(
        self,
        raw: bytes,
        layout: Layout,
        count: int,
        *,
        rows: Sequence[int] | None = None,
        decoded: list[Any] | None = None,
    ) -> None:
        self._raw = raw
        self._layout = layout
        self._count = count
        self._rows: Sequence[int] = range(count) if rows is None else rows
        self._decoded: list[Any] = [None] * count if decoded is None else decoded

    def _over(self, rows: Sequence[int]) -> EventBatch[_F_co]:
        return EventBatch(self._raw, self._layout, self._count, rows=rows, decoded=self._decoded)

    @property
    def raw(self) -> bytes:
        """The bytes, shared with other batches; the event of row n begins at n * event_size.

        The application records of the events are behind the last one.
        """
        return self._raw

    @property
    def event_size(self) -> int:
        """Bytes of an event: an ``nr_event`` of ``api.h`` and the parts after it."""
        return self._layout.size

    @property
    def is_measured(self) -> bool:
        """Whether the events have parts after the ``nr_event``."""
        return self._layout.statistics or self._layout.first_packets > 0

    @property
    def rows(self) -> Sequence[int]:
        """The rows of ``raw`` that this batch has: a ``range`` if they follow each other."""
        return self._rows

    @property
    def kinds(self) -> bytes:
        """The kind of each event: a byte, ``NR_EVENT_*`` of ``api.h``. Decodes nothing."""
        size = self._layout.size
        kinds = self._raw[_KIND_AT : self._count * size : size]
        rows = self._rows
        if isinstance(rows, range):
            return kinds[slice_of(rows)]
        return bytes(map(kinds.__getitem__, rows))

    @property
    def last_ts(self) -> int:
        """When the last event happened. Raises ``IndexError`` if there is none. Decodes nothing."""
        return int(_TS.unpack_from(self._raw, self._rows[-1] * self._layout.size)[0])

    @overload
    def of_kinds(self, kinds: type[_Kind] | tuple[type[_Kind], ...]) -> EventBatch[_Kind]: ...
    @overload
    def of_kinds(self, kinds: Classes | UnionType) -> EventBatch[_F_co]: ...
    def of_kinds(self, kinds: Any) -> EventBatch[Any]:
        """Return the events of these classes; this batch itself if all are. Decodes nothing.

        Raises ``OptionError`` for what is no class of events.
        """
        places = self.places(classes_of(kinds, "of_kinds") or ())
        return self if len(places) == len(self._rows) else self.at(places)

    def places(self, kinds: Classes) -> Sequence[int]:
        """Return where in the batch the events of these classes are. Decodes nothing."""
        chosen = self.kinds.translate(_chosen(kinds if isinstance(kinds, tuple) else (kinds,)))
        places = range(len(chosen))
        return places if all(chosen) else list(compress(places, chosen))

    def at(self, places: Sequence[int]) -> EventBatch[_F_co]:
        """Return a batch of the events at these places. Decodes nothing."""
        return self._over([self._rows[place] for place in places] if places else range(0))

    def columns(self) -> Columns:
        """Return the flow events as a structured array of NumPy, read-only (docs/columns.md).

        A ``NeighbourSeen`` has no row: it has no columns of a flow.

        A view of the batch's own bytes, without copying or decoding. Events that do not follow
        each other (``of_kinds``) are copied. Raises ``PackageMissingError``.
        """
        from netring_bpf.events.columns import columns_of  # noqa: PLC0415 - NumPy is optional

        if _NEIGHBOUR in self.kinds:
            return self.of_kinds(_OF_FLOWS).columns()
        return columns_of(self._raw, self._layout, self._count, self._rows)

    def to_arrow(self, *, raw: bool = False) -> pa.RecordBatch:
        """Return the flow events as a ``pyarrow.RecordBatch`` (docs/columns.md).

        Addresses are text, the protocol and all states words. ``raw``: addresses are bytes, the
        protocol is its number, and words are dictionaries. Raises ``PackageMissingError``.
        """
        columns = self.columns()
        from netring_bpf.events.arrow import record_batch  # noqa: PLC0415 - pyarrow is optional

        return record_batch(columns, self._raw, raw=raw)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Give the events to a library with the Arrow PyCapsule interface, such as pyarrow."""
        schema, array = self.to_arrow().__arrow_c_array__(requested_schema)
        return schema, array

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the events to a library that reads streams by that interface, such as Polars."""
        columns = self.to_arrow()
        from netring_bpf.events.arrow import stream_of  # noqa: PLC0415 - pyarrow is optional

        return stream_of(columns.schema, [columns]).__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> _F_co: ...
    @overload
    def __getitem__(self, index: slice) -> EventBatch[_F_co]: ...
    def __getitem__(self, index: int | slice) -> _F_co | EventBatch[_F_co]:
        if isinstance(index, slice):
            return self._over(self._rows[index])
        return self._at(self._rows[index])

    def __iter__(self) -> Iterator[_F_co]:
        return chain.from_iterable(map(self._kept, self._parts()))

    def once(self) -> Iterator[_F_co]:
        """Iterate without keeping the decoded events, for a subscriber that is alone.

        It is faster: events that are soon forgotten leave the garbage collector nothing to walk.
        """
        return chain.from_iterable(map(self._unkept, self._parts()))

    def _parts(self) -> Iterator[Sequence[int]]:
        """Yield the rows to decode at once; an event at hand then costs no call."""
        rows = self._rows
        return (rows[at : at + _PART] for at in range(0, len(rows), _PART))

    def _kept(self, rows: Sequence[int]) -> list[_F_co]:
        from netring_bpf.events.decode import decode  # noqa: PLC0415 - text needs no decoding

        raw, layout, size, decoded = self._raw, self._layout, self._layout.size, self._decoded
        events: list[_F_co] = []
        for row in rows:
            event = decoded[row]
            if event is None:
                event = decoded[row] = decode(raw, row * size, layout)
            events.append(event)
        return events

    def _unkept(self, rows: Sequence[int]) -> list[_F_co]:
        from netring_bpf.events.decode import decode  # noqa: PLC0415

        raw, layout, size, decoded = self._raw, self._layout, self._layout.size, self._decoded
        events: list[Any] = [decoded[row] or decode(raw, row * size, layout) for row in rows]
        return events

    def _at(self, row: int) -> _F_co:
        event: Any = self._decoded[row]
        if event is None:
            from netring_bpf.events.decode import decode  # noqa: PLC0415

            layout = self._layout
            event = self._decoded[row] = decode(self._raw, row * layout.size, layout)
        found: _F_co = event
        return found
