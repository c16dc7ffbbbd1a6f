"""The loggers of files that read captures, made at their first record: ``logging`` loads slowly."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["inform", "logger", "prepare_first"]

_prepare: Callable[[], None] | None = None


def prepare_first(prepare: Callable[[], None]) -> None:
    """Call this before the first record, as to set up where records go."""
    global _prepare  # noqa: PLW0603
    _prepare = prepare


def logger(name: str) -> logging.Logger:
    """Return the logger of this name."""
    import logging  # noqa: PLC0415

    global _prepare
    prepare, _prepare = _prepare, None
    if prepare is not None:
        prepare()
    return logging.getLogger(name)


def inform(name: str, text: str) -> None:
    """Log what is no problem, unless nobody has loaded ``logging``, so that nobody would see it."""
    if "logging" in sys.modules:
        logger(name).info("%s", text)
