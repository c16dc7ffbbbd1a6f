"""Text from traffic, made fit for a page: bounded, and without what a reader obeys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from netring_bpf.errors import printable

__all__ = ["MAX_TEXT", "clean", "clean_text"]

MAX_TEXT: Final = 256  # characters


def clean_text(text: str) -> str:
    r"""Return the text in at most ``MAX_TEXT`` characters.

    Control characters, ends of lines and marks of direction stand as ``\x1b``.
    """
    shown = printable(text[:MAX_TEXT])
    if len(text) <= MAX_TEXT and len(shown) <= MAX_TEXT:
        return shown
    return f"{shown[: MAX_TEXT - 1]}…"


def clean(value: object) -> object:
    """Return a plain value with each text in it cleaned."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {key: clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [clean(part) for part in value]
    return value
