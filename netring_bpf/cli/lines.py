"""Makes the lines that ``netring-bpf flows`` prints, in each format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event

__all__ = ["Lines", "open_lines", "up_to"]

_STDOUT: Final = 1


class Lines(Protocol):
    """Makes the lines of a batch."""

    def header(self) -> bytes:
        """Return the lines before the first event; may be empty."""

    def of(self, events: Sequence[Event]) -> Iterable[bytes | memoryview]:
        """Return the lines of these events, each with its newline, in parts.

        Events that the format leaves out have no line. A part is valid until the next one is
        taken.
        """

    def close(self) -> None:
        """Finish what was begun. Idempotent."""


def open_lines(
    format: str,
    *,
    interface: str | None = None,
    compress_ipv6: bool = False,
    with_names: bool = True,
) -> Lines:
    """Return the maker of the format's lines.

    ``interface``: of a live capture, for EVE and CSV. ``compress_ipv6``: EVE writes IPv6 addresses
    as in RFC 5952. ``with_names``: the table has names of hosts.
    """
    if format == "table":
        return _TableLines(with_names=with_names)
    if format == "json":
        return _JsonLines()
    return _FormatLines(format, interface, compress_ipv6)


def up_to(batch: Sequence[Event], left: int | None) -> tuple[Sequence[Event], int | None]:
    """Return the events up to the ``left``-th flow event, and the number left after them."""
    if left is None:
        return batch, None
    if left == 0 or not isinstance(batch, EventBatch):
        return batch if left else (), left
    shown = batch[:left]
    return shown, left - len(shown)


class _Lines:
    """Lines of standard output alone, which need no end."""

    def close(self) -> None:
        pass


class _TableLines(_Lines):
    def __init__(self, *, with_names: bool) -> None:
        from netring_bpf.cli.screen import has_colours, screen_of
        from netring_bpf.cli.table import Table

        self._table = Table(
            lambda: screen_of(_STDOUT),
            colours=has_colours(_STDOUT),
            with_names=with_names,
        )

    def header(self) -> bytes:
        return self._table.header()

    def of(self, events: Sequence[Event]) -> Iterable[bytes | memoryview]:
        return (self._table.lines(events),)


class _JsonLines(_Lines):
    """Every event. Those of flows are encoded in C; of the others there are few."""

    def __init__(self) -> None:
        from netring_bpf.formats.batch_text import TextEncoder

        self._encoder = TextEncoder("json")

    def header(self) -> bytes:
        return b""

    def of(self, events: Sequence[Event]) -> Iterable[bytes | memoryview]:
        if isinstance(events, EventBatch):
            return self._encoder.pieces(events)
        from netring_bpf.formats.json import encode_event

        return (encode_event(event) + b"\n" for event in events)


class _FormatLines(_Lines):
    """The flows that have ended, encoded in C."""

    def __init__(self, format: str, interface: str | None, compress_ipv6: bool) -> None:
        from netring_bpf.formats.base import FORMATS
        from netring_bpf.formats.batch_text import TextEncoder

        self._header = FORMATS[format].header
        self._encoder = TextEncoder(format, interface=interface, compress_ipv6=compress_ipv6)

    def header(self) -> bytes:
        return self._header

    def of(self, events: Sequence[Event]) -> Iterable[bytes | memoryview]:
        return self._encoder.pieces(events) if isinstance(events, EventBatch) else ()
