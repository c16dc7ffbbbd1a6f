"""The sizes of the tests: small, or full with ``--long``."""

from __future__ import annotations

import os
from typing import TypeVar

__all__ = ["size", "soak"]

_Size = TypeVar("_Size")

is_long = False  # set by conftest.py, which comes before the tests


def size(short: _Size, long: _Size) -> _Size:
    """The size that a test has in this run."""
    return long if is_long else short


def soak(short: _Size, long: _Size, full: _Size) -> _Size:
    """As ``size``; ``full`` with ``--long`` and NETRING_SOAK, which CI does not set."""
    return full if is_long and os.environ.get("NETRING_SOAK") else size(short, long)
