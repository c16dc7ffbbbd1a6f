"""The sizes of the tests: small, or full with ``--long``."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["size"]

_Size = TypeVar("_Size")

is_long = False  # set by conftest.py, which comes before the tests


def size(short: _Size, long: _Size) -> _Size:
    """The size that a test has in this run."""
    return long if is_long else short
