"""The flows that have ended, one by one or as columns."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Self

from netring_bpf.errors import ClosedError, NetringError, PackageMissingError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import FlowEnded
from netring_bpf.events.flow import Flow
from netring_bpf.read.event_reader import EventReader

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from netring_bpf.capture import AddressNames
    from netring_bpf.capture.source import Source
    from netring_bpf.statistics import CaptureStatistics

__all__ = ["FlowReader"]

_flow = attrgetter("flow")


class FlowReader:
    """The flows of a capture file or an interface, as they end: made by ``read_flows``.

    It needs no event loop. Iterate it for one ``Flow`` after the other, with ``reason`` telling
    why it ended; or take all flows as a table (``to_arrow``, ``to_pandas``, ``to_polars``); or hand
    the reader itself to a library that reads Arrow streams, such as DuckDB, Polars and pyarrow: it
    takes batch by batch, in bounded memory. The columns are those of docs/columns.md.

    The flows are read once, in one of these ways. A context manager: entering opens it, leaving
    closes it. Without ``with`` the first use opens it, and the last flow closes it. An error that
    ends the capture, as ``CaptureFileError`` of a damaged file, is raised after the last flow.
    Ctrl-C ends any wait. ``count``: the most flows to give. ``duration``: the seconds after which
    the capture ends by itself. Opening raises the errors of ``Netring``.
    """

    def __init__(
        self, source: Source, *, count: int | None = None, duration: float | None = None
    ) -> None:
        self._reader = EventReader(source, duration=duration)
        self._batches = _batches(self._reader, count)
        self._flows: Iterator[Flow] = map(
            _flow, chain.from_iterable(map(EventBatch.once, self._batches))
        )
        self._way: str | None = None

    @property
    def interface(self) -> str:
        """The name of the interface, or of the files."""
        return self._reader.source.interface

    @property
    def names(self) -> AddressNames:
        """The names of addresses, as the packets told them: ``flows.names.of("192.0.2.1")``.

        Raises ``ClosedError`` before it was opened.
        """
        return self._reader.source.names

    @property
    def error(self) -> NetringError | None:
        """The error that ended the capture, once the flows are read; it was raised, too."""
        return self._reader.error

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after closing.

        From any thread. Raises ``ClosedError`` before it was opened.
        """
        return self._reader.statistics()

    # -- one by one --

    def __iter__(self) -> Iterator[Flow]:
        """Iterate the flows; a second loop goes on where the first one was left."""
        self._read_by("flow by flow")
        return self._flows

    # -- as columns --

    def batches(self) -> Iterator[EventBatch]:
        """Iterate the flows in batches of ``FlowEnded``, at least one and at most 4096 each.

        ``EventBatch.columns()`` gives a batch to NumPy without copying or decoding.
        """
        self._read_by("in batches")
        return self._batches

    def to_arrow(self, *, raw: bool = False) -> pa.Table:
        """Read all flows into a ``pyarrow.Table``. Raises ``PackageMissingError``.

        ``raw``: as ``EventBatch.to_arrow``.
        """
        import netring_bpf.events.columns  # noqa: F401 - says that NumPy is missing
        from netring_bpf.events.arrow import table_of

        schema = self._reader.empty().to_arrow(raw=raw).schema
        self._read_by("as a table")
        return table_of(schema, (batch.to_arrow(raw=raw) for batch in self._batches))

    def to_pandas(self, *, raw: bool = False) -> pd.DataFrame:
        """Read all flows into a ``pandas.DataFrame``. Raises ``PackageMissingError``.

        ``raw``: as ``EventBatch.to_arrow``. A whole number that is absent in some flows makes its
        column one of floating point; ``to_arrow().to_pandas(types_mapper=pandas.ArrowDtype)`` does
        not.
        """
        _check_installed("pandas")
        return self.to_arrow(raw=raw).to_pandas()

    def to_polars(self, *, raw: bool = False) -> pl.DataFrame:
        """Read all flows into a ``polars.DataFrame``. Raises ``PackageMissingError``.

        ``raw``: as ``EventBatch.to_arrow``.
        """
        _check_installed("polars")
        import polars as pl

        return pl.DataFrame(self.to_arrow(raw=raw))

    def record_batches(self, *, raw: bool = False) -> pa.RecordBatchReader:
        """Return a ``pyarrow.RecordBatchReader`` of the flows, which reads them as it is read.

        ``raw``: as ``EventBatch.to_arrow``. Raises ``PackageMissingError``.
        """
        import netring_bpf.events.columns  # noqa: F401 - says that NumPy is missing
        from netring_bpf.events.arrow import stream_of

        schema = self._reader.empty().to_arrow(raw=raw).schema
        self._read_by("as a stream")
        return stream_of(schema, (batch.to_arrow(raw=raw) for batch in self._batches))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the flows to a library with the Arrow PyCapsule interface, batch by batch.

        A library may ask several times, as long as it reads one stream alone.
        """
        return self.record_batches().__arrow_c_stream__(requested_schema)

    def _read_by(self, way: str) -> None:
        """Take note of how the flows are read. Raises ``ClosedError`` if that is no more so."""
        if self._reader.closed:
            raise ClosedError(f"flows of {self.interface}: they were read; open them once more")
        if self._way not in {None, way}:
            raise ClosedError(
                f"flows of {self.interface}: they are being read {self._way} already; open them "
                f"once more to read them {way}"
            )
        self._way = way

    # -- life --

    def open(self) -> None:
        """Open it, unless it is open, and begin to capture. ``with`` does so."""
        self._reader.open()

    def stop(self) -> None:
        """Let the flows end early, with those that are live now. Idempotent.

        From any thread, and from a signal handler. Whoever reads the flows gets the rest of them.
        """
        self._reader.stop()

    def close(self) -> None:
        """Free everything, whether all flows were read or not. Idempotent."""
        self._reader.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _batches(reader: EventReader, count: int | None) -> Iterator[EventBatch]:
    """Yield the flows that have ended, at most ``count``; then raise the capture's error."""
    left = count
    for batch in reader.events():
        if not isinstance(batch, EventBatch) or left == 0:
            continue  # read on, so that the books balance
        flows = batch.of_kinds(FlowEnded)
        if left is not None:
            flows = flows[:left]
            left -= len(flows)
            if left == 0:
                reader.stop()
        if flows:
            yield flows
    if reader.error is not None and left != 0:
        raise reader.error


def _check_installed(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise PackageMissingError(
            f'flows to {package}: {package} is not installed; pip install "netring-bpf[{package}]"',
            package=package,
        )
