"""Messages on standard error, and how many of them there are to be."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

from netring_bpf.errors import printable

__all__ = ["QUIET", "is_quiet", "say", "set_volume", "tell", "volume"]

QUIET: Final = -1
_volume = 0  # of the whole process, as is its standard error


def set_volume(wanted: int) -> None:
    """Choose what is said: ``QUIET`` for errors alone, 0 as usual, more for more of the log."""
    global _volume  # noqa: PLW0603
    _volume = wanted


def volume() -> int:
    """Return what ``set_volume`` chose."""
    return _volume


def is_quiet() -> bool:
    """Whether only errors are to be said."""
    return _volume <= QUIET


def tell(text: str, *, prefix: str = "netring-bpf: ") -> None:
    """Print a message that is no error, unless ``--quiet`` was given."""
    if not is_quiet():
        say(text, prefix=prefix)


def say(text: str, *, prefix: str = "netring-bpf: ") -> None:
    """Print a message on standard error; nothing fails if nobody reads it."""
    if sys.stderr is None:
        return
    shown = "\n".join(map(printable, text.split("\n")))
    try:
        sys.stderr.write(f"{prefix}{shown}\n")  # in one piece: other threads write to it, too
        sys.stderr.flush()
    except OSError:  # keep the interpreter from flushing once more
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
