"""Flow events as text, made in C from whole batches, without decoding them.

``json.py`` makes the same JSON of decoded events. The tests hold each format equal, byte for byte,
to a formatter in Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from netring_bpf._core import ffi, lib
from netring_bpf.errors import OptionError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import FlowEvent
from netring_bpf.events.layout import mask_of
from netring_bpf.formats.base import FORMATS
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
    ends each record. The format has a default for both. ``salt``: of Zeek's ``uid``. JSON alone
    takes ``interface`` and ``capture``, texts for each record, and ``seq``, the number of the
    first record; the numbers go on from batch to batch. Raises ``OptionError`` for another format.
    """

    def __init__(
        self,
        format: str,
        *,
        kinds: tuple[type[FlowEvent], ...] | None = None,
        terminator: bytes | None = None,
        salt: str = "",
        interface: str | None = None,
        capture: str | None = None,
        seq: int | None = None,
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
        place = b"" if interface is None else _json_text(interface)
        name = b"" if capture is None else _json_text(capture)
        self._keep = tuple(map(ffi.from_buffer, (terminator, place, name)))
        self._options = ffi.new(
            "nr_text_options *",
            {
                "format": _number_of(format),
                "kinds": mask_of(kinds),
                "uid_key": uid_key(salt),
                "seq": seq or 0,
                "interface": self._keep[1],
                "interface_size": len(place),
                "capture": self._keep[2],
                "capture_size": len(name),
                "has_seq": seq is not None,
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
        return (memoryview(piece).toreadonly() for piece in self._pieces(events, ffi.NULL))

    def encode_records(self, events: EventBatch) -> Text:
        """Return the events as text, with the ends of the records."""
        found = ffi.new("uint32_t[]", max(1, len(events)))
        pieces: list[bytes] = []
        ends: list[int] = []
        start = 0
        for piece in self._pieces(events, found):
            ends += [start + end for end in ffi.unpack(found, self._text.records)]
            pieces.append(bytes(piece))
            start += len(piece)
        return Text(b"".join(pieces), ends)

    def _pieces(self, events: EventBatch, ends: Any) -> Iterator[Any]:
        """Yield as much text at a time as fits the buffer; valid until the next piece."""
        raw, rows, size = ffi.from_buffer(events.raw), events.rows, events.event_size
        consecutive = isinstance(rows, range) and rows.step == 1
        first = raw + rows[0] * size if consecutive and rows else raw
        numbers = ffi.NULL if consecutive else ffi.new("uint32_t[]", list(rows))
        done = 0
        while done < len(rows):
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


def _json_text(text: str) -> bytes:
    """Return the text as JSON can hold it, as ``json.py`` does."""
    return json.dumps(text.encode(errors="backslashreplace").decode(), ensure_ascii=False).encode()
