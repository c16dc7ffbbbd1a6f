"""Writes texts for people, folded into the columns of a terminal; needs no other package."""

from __future__ import annotations

import sys
import unicodedata

__all__ = ["folded", "write"]

_LEAST = 20  # columns for a text, however narrow the terminal is


def write(text: str) -> None:
    """Print the text at once; characters that the encoding lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def folded(text: str, width: int | None, indent: int = 0) -> str:
    """Return the text in lines of at most ``width`` columns, broken between words.

    ``width``: None for one line. ``indent``: the columns that the first line has lost already, and
    the spaces before each later one. A word that is longer than a line is cut.
    """
    if width is None:
        return text
    room = max(_LEAST, width - indent)
    lines, line, taken = [], "", 0
    for word in text.split(" "):
        size = _columns(word)
        if line and taken + 1 + size <= room:
            line, taken = f"{line} {word}", taken + 1 + size
            continue
        if line:
            lines.append(line)
        *whole, line = _cut(word, room)
        lines += whole
        taken = _columns(line)
    return f"\n{' ' * indent}".join([*lines, line])


def _cut(word: str, room: int) -> list[str]:
    """Return the parts of a word, each of at most ``room`` columns."""
    parts, part, taken = [], "", 0
    for char in word:
        size = _columns(char)
        if taken + size > room:
            parts.append(part)
            part, taken = "", 0
        part, taken = part + char, taken + size
    return [*parts, part]


def _columns(text: str) -> int:
    return sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"F", "W"} else 1
