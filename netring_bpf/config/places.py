"""Finds the line of each key of a TOML text, which ``tomllib`` does not tell.

The scan trusts ``tomllib`` with the values: it only has to know where they end. Of a text that is
no TOML it tells the keys before the fault.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Path", "Places", "Twice", "dotted", "places_of"]

#: The way to a value: names of tables and keys, and the numbers of elements of arrays.
Path: TypeAlias = tuple[str | int, ...]

_DEEPEST: Final = 64
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]*")
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{1,2})?', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''.*?'''(?:'{1,2})?", re.DOTALL)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")


class Twice(NamedTuple):
    """A key that stands in two lines."""

    path: Path
    first: int
    again: int


@dataclass(slots=True)
class Places:
    """The lines of keys and tables, from 1."""

    lines: dict[Path, int] = field(default_factory=dict)
    twice: list[Twice] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """Return the line of a key, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def key_at(self, line: int) -> Path:
        """Return the last key that begins in this line; empty if none does."""
        found: Path = ()
        for path, at in self.lines.items():
            if at == line:
                found = path
        return found


def dotted(path: Path) -> str:
    """Return the key as a TOML file has it, with ``[0]`` for the first element of an array."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if _BARE_KEY.fullmatch(part) else _quoted(part)
            text += f".{word}" if text else word
    return text


def _quoted(part: str) -> str:
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'


def places_of(text: str) -> Places:
    """Return the places of a text's keys, as far as it is TOML."""
    scan = _Scan(text)
    with contextlib.suppress(_LostError):
        scan.document()
    return scan.places


class _LostError(Exception):
    """The text is no TOML from here on."""


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self.places = Places()
        self._arrays: dict[Path, int] = {}  # elements so far of an array of tables
        self._headers: set[Path] = set()

    def document(self) -> None:
        base: Path = ()
        while True:
            self._skip(_SPACE)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[[", self._at):
                base = self._element()
            elif self._text[self._at] == "[":
                base = self._table()
            else:
                self._pair(base, 0)
            self._skip(_BLANK)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n#":
                raise _LostError

    # -- tables --

    def _table(self) -> Path:
        line = self._line()
        self._at += 1
        path = self._resolved(self._key())
        self._expect("]")
        if path in self._headers:
            self.places.twice.append(Twice(path, self.places.lines[path], line))
        self._headers.add(path)
        self._around(path, line)
        self.places.lines.setdefault(path, line)
        return path

    def _around(self, path: Path, line: int) -> None:
        """Note the tables that a table makes by its name."""
        for size in range(1, len(path)):
            self.places.lines.setdefault(path[:size], line)

    def _element(self) -> Path:
        line = self._line()
        self._at += 2
        *front, last = self._key()
        path = (*self._resolved(tuple(front)), last)
        self._expect("]]")
        number = self._arrays.get(path, 0)
        self._arrays[path] = number + 1
        self._around(path, line)
        self.places.lines.setdefault(path, line)
        self.places.lines[*path, number] = line
        return (*path, number)

    def _resolved(self, names: Path) -> Path:
        """Return the path with the number of the latest element behind each array of tables."""
        path: Path = ()
        for name in names:
            path = (*path, name)
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        return path

    # -- keys and values --

    def _pair(self, base: Path, depth: int) -> None:
        line = self._line()
        path = (*base, *self._key())
        self._expect("=")
        for size in range(len(base) + 1, len(path)):  # tables that a dotted key makes
            self.places.lines.setdefault(path[:size], line)
        if path in self.places.lines:
            self.places.twice.append(Twice(path, self.places.lines[path], line))
        else:
            self.places.lines[path] = line
        self._skip(_BLANK)
        self._value(path, depth)

    def _key(self) -> Path:
        names: list[str] = []
        while True:
            self._skip(_BLANK)
            names.append(self._name())
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return tuple(names)
            if len(names) == _DEEPEST:
                raise _LostError
            self._at += 1

    def _name(self) -> str:
        for pattern in (_BARE_KEY, _BASIC, _LITERAL):
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                if pattern is _BARE_KEY:
                    return match[0]
                try:
                    return str(tomllib.loads(f"name = {match[0]}")["name"])
                except ValueError:
                    break
        raise _LostError

    def _value(self, path: Path, depth: int) -> None:
        if depth > _DEEPEST:
            raise _LostError
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._array(path, depth)
        elif first == "{":
            self._inline(path, depth)
        elif first in {'"', "'"}:
            self._string()
        else:
            self._skip(_PLAIN)

    def _string(self) -> None:
        for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC, _LITERAL):
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                return
        raise _LostError

    def _array(self, path: Path, depth: int) -> None:
        self._at += 1
        number = 0
        while True:
            self._skip(_SPACE)
            if self._take("]"):
                return
            self.places.lines[*path, number] = self._line()
            self._value((*path, number), depth + 1)
            number += 1
            self._between("]")

    def _inline(self, path: Path, depth: int) -> None:
        self._at += 1
        while True:
            self._skip(_SPACE)
            if self._take("}"):
                return
            self._pair(path, depth + 1)
            self._between("}")

    def _between(self, end: str) -> None:
        """Skip the comma, if there is one; else the end must follow."""
        self._skip(_SPACE)
        if not self._take(",") and not self._text.startswith(end, self._at):
            raise _LostError

    # -- characters --

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match is not None  # each matches the empty text
        self._at = match.end()

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise _LostError

    def _line(self) -> int:
        return bisect_right(self._ends, self._at - 1) + 1 if self._at else 1
