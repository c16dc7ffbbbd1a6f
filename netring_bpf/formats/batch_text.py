"""Flow events as text, made in C from whole batches, without decoding them.

``json.py`` makes the same JSON of decoded events, and of those with parts that C does not write.
The tests hold each format equal, byte for byte, to a formatter in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final, NamedTuple

from netring_bpf._core import ffi, lib
from netring_bpf.errors import OptionError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import CoreEvent
from netring_bpf.events.layout import mask_of
from netring_bpf.events.plain import json_text, text
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.csv import cell
from netring_bpf.formats.json import encode_event
from netring_bpf.formats.zeek import uid_key

__all__ = ["Text", "TextEncoder"]

_ROOM: Final = 1 << 19  # bytes of text made at once; the buffer stays in the cache


class Text(NamedTuple):
    """Records of text in ``data``, one behind the other; ``ends`` has the end of each."""

    data: bytes
    ends: list[int]

    def records(self) -> list[bytes]:
        """Return each record by itself, with its terminator."""
        starts = (0, *self.ends)
        return [self.data[start:end] for start, end in zip(starts, self.ends, strict=False)]


class TextEncoder:
    """Makes text of batches of flow events, in one of ``FORMATS``.

    ``kinds``: the event classes to encode; the encoder passes over the others. ``terminator``
    ends each record. The format has a default for both. ``salt``: of Zeek's ``uid``.
    ``interface``: named in each record of JSON, EVE and CSV. JSON alone takes
    ``capture``, another text for each record, and ``seq``, the number of the first record; the
    numbers go on from batch to batch. ``compress_ipv6``: EVE has IPv6 addresses as in RFC 5952,
    else in Suricata's long form. Raises ``OptionError`` for another format.
    """

    def __init__(
        self,
        format: str,
        *,
        kinds: tuple[type[CoreEvent], ...] | None = None,
        terminator: bytes | None = None,
        salt: str = "",
        interface: str | None = None,
        capture: str | None = None,
        seq: int | None = None,
        compress_ipv6: bool = False,
    ) -> None:
        if format not in FORMATS:
            raise OptionError(
                f"format={format!r}: must be one of {', '.join(FORMATS)}", option="format"
            )
        chosen = FORMATS[format]
        if kinds is None:
            kinds = chosen.kinds
        if terminator is None:
            terminator = chosen.terminator
        quoted = cell if format == "csv" else _json_string
        place = b"" if interface is None else quoted(interface).encode()
        name = b"" if capture is None else _json_string(capture).encode()
        self._kinds, self._terminator = kinds, terminator
        self._names = interface, capture
        self._is_json = format == "json"
        self._keep = tuple(map(ffi.from_buffer, (terminator, place, name)))
        self._options = ffi.new(
            "nr_text_options *",
            {
                "format": _number_of(format),
                "kinds": mask_of(kinds),
                "uid_key": (0, 0) if format in {"json", "csv"} else uid_key(salt),
                "seq": seq or 0,
                "interface": self._keep[1],
                "interface_size": len(place),
                "capture": self._keep[2],
                "capture_size": len(name),
                "has_seq": seq is not None,
                "compress_ipv6": compress_ipv6,
                "terminator": self._keep[0],
                "terminator_size": len(terminator),
            },
        )
        self._text = ffi.new("nr_text *")
        self._size = max(_ROOM, lib.nr_text_room(self._options))
        self._buffer = ffi.new("char[]", self._size)

    @property
    def seq(self) -> int:
        """The number of the next record."""
        return int(self._options.seq)

    @seq.setter
    def seq(self, number: int) -> None:
        self._options.seq = number

    def encode(self, events: EventBatch) -> bytes:
        """Return the events as text. The GIL is released meanwhile."""
        # map() copies a piece before C makes the next: join() alone would collect them all first.
        return b"".join(map(bytes, self.pieces(events)))

    def pieces(self, events: EventBatch) -> Iterator[memoryview]:
        """Yield the same text in pieces, without copying it.

        A piece is valid until you ask for the next one or call another method of this encoder.
        """
        if self._is_json and events.is_measured:
            return map(memoryview, self._measured(events))
        return (memoryview(piece).toreadonly() for piece in self._pieces(events, ffi.NULL))

    def encode_records(self, events: EventBatch) -> Text:
        """Return the events as text, with the ends of the records."""
        if self._is_json and events.is_measured:
            records = list(self._measured(events))
            return Text(b"".join(records), list(accumulate(map(len, records))))
        found = ffi.new("uint32_t[]", max(1, len(events)))
        pieces: list[bytes] = []
        ends: list[int] = []
        start = 0
        for piece in self._pieces(events, found):
            ends += [start + end for end in ffi.unpack(found, self._text.records)]
            pieces.append(bytes(piece))
            start += len(piece)
        return Text(b"".join(pieces), ends)

    def _measured(self, events: EventBatch) -> Iterator[bytes]:
        """Yield the records of events whose statistics or first packets C does not write."""
        interface, capture = self._names
        for event in events:
            if isinstance(event, self._kinds):
                seq = self.seq if self._options.has_seq else None
                record = encode_event(event, interface=interface, capture=capture, seq=seq)
                self.seq += 1
                yield record + self._terminator

    def _pieces(self, events: EventBatch, ends: Any) -> Iterator[Any]:
        """Yield as much text at a time as fits the buffer; valid until the next piece."""
        raw, rows, size = ffi.from_buffer(events.raw), events.rows, events.event_size
        consecutive = isinstance(rows, range) and rows.step == 1
        first = raw + rows[0] * size if consecutive and rows else raw
        numbers = ffi.NULL if consecutive else ffi.new("uint32_t[]", list(rows))
        done = 0
        while done < len(rows):
            self._options.batch, self._options.batch_size = raw, len(events.raw)
            done += lib.nr_encode(
                self._options,
                first + done * size if consecutive else first,
                size,
                ffi.NULL if consecutive else numbers + done,
                len(rows) - done,
                self._buffer,
                self._size,
                ends,
                self._text,
            )
            self._options.seq += self._text.records
            yield ffi.buffer(self._buffer, self._text.size)


def _number_of(format: str) -> int:
    """Return ``NR_FORMAT_ZEEK_JSON`` of ``"zeek-json"``."""
    return int(getattr(lib, f"NR_FORMAT_{format.upper().replace('-', '_')}"))


def _json_string(value: str) -> str:
    return json_text(text(value))
