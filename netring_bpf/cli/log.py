"""The log of the library on standard error, beside the command's own messages."""

from __future__ import annotations

import logging

from netring_bpf.errors import printable

__all__ = ["write_log"]


class _Formatter(logging.Formatter):
    r"""Shows what a terminal might obey as ``\x1b``: a record may quote any name."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def write_log() -> None:
    """Write warnings and errors of the library to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("netring-bpf: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
