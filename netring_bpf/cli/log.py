"""The log of the library on standard error, beside the command's own messages."""

from __future__ import annotations

import logging
from typing import Final

from netring_bpf.cli.say import QUIET, volume
from netring_bpf.errors import printable

__all__ = ["log_level", "write_log"]

_LEVELS: Final = {QUIET: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


class _Formatter(logging.Formatter):
    r"""Shows what a terminal might obey as ``\x1b``: a record may quote any name."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def write_log() -> None:
    """Write the log to standard error, as much of it as ``--quiet`` and ``--verbose`` ask for.

    As usual these are warnings and errors. One ``--verbose`` adds what the library does, and two
    add the libraries below it.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("netring-bpf: %(message)s"))
    level = log_level()
    logging.basicConfig(handlers=[handler], level=level if volume() > 1 else max(level, _LEVELS[0]))
    logging.getLogger("netring_bpf").setLevel(level)


def log_level() -> int:
    """Return the level of ``logging`` from which on the library's records are written."""
    return _LEVELS.get(volume(), logging.DEBUG)
