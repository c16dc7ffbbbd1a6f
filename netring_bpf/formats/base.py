"""What a format is, and the formats there are."""

from __future__ import annotations

import importlib
from typing import Final, Protocol

from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded

__all__ = ["FORMATS", "Format", "open_format"]

FORMATS: Final = ("zeek", "zeek-json", "eve", "csv")
_PLACES: Final = {
    "zeek": ("netring_bpf.formats.zeek", "ZeekTsv"),
    "zeek-json": ("netring_bpf.formats.zeek", "ZeekJson"),
    "eve": ("netring_bpf.formats.eve", "Eve"),
    "csv": ("netring_bpf.formats.csv", "Csv"),
}


class Format(Protocol):
    """Makes lines of ended flows. Reproducible: the same flows give the same bytes."""

    def header(self) -> bytes:
        """What comes before the first line; may be empty."""

    def line(self, event: FlowEnded) -> bytes:
        """The flow as one line, with its newline."""


def open_format(name: str, *, salt: str = "") -> Format:
    """Return the format of that name, one of ``FORMATS``.

    ``salt``: goes into identifiers that must differ between captures (Zeek's uid). Raises
    ``OptionError`` for a name that is none of them.
    """
    if name not in _PLACES:
        raise OptionError(f"name={name!r}: must be one of {', '.join(FORMATS)}", option="name")
    module, attribute = _PLACES[name]
    made: Format = getattr(importlib.import_module(module), attribute)(salt)
    return made
