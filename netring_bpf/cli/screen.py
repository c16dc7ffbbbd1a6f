"""The terminal that standard output may be: its size, and whether it shows colours."""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple

__all__ = ["Screen", "has_colours", "is_apart", "screen_of"]

_FALLBACK: Final = 80, 24
_DIGITS: Final = 5


class Screen(NamedTuple):
    """``columns``: the longest line; None: any length. ``rows``: None: nothing scrolls away."""

    columns: int | None
    rows: int | None


def screen_of(descriptor: int) -> Screen:
    """Return the size that lines have to fit into; ``COLUMNS`` and ``LINES`` may make it smaller.

    A terminal is never taken for larger than it is: programs leave these variables to their
    children, and the window may have changed since.
    """
    columns, rows = _number("COLUMNS"), _number("LINES")
    if not os.isatty(descriptor):
        return Screen(columns, None)
    try:
        told = os.get_terminal_size(descriptor)
    except OSError:
        told = os.terminal_size((0, 0))
    return Screen(
        _smaller(columns, told.columns) or _FALLBACK[0], _smaller(rows, told.lines) or _FALLBACK[1]
    )


def has_colours(descriptor: int) -> bool:
    """Whether a terminal shows what is written there, in colours that nobody has turned off."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {None, "", "dumb"}
    return wanted and os.isatty(descriptor)


def is_apart(descriptor: int) -> bool:
    """Whether nothing that is written there can come to a terminal, as of a file."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return False  # its reader may write to the terminal
    return not os.isatty(descriptor)


def _smaller(asked: int | None, told: int) -> int | None:
    return min(asked, told) if asked and told else asked or told


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return (
        int(value)
        if value.isascii() and value.isdecimal() and len(value) < 7 and int(value) > 0
        else None
    )
