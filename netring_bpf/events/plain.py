"""Plain values for records that leave the program, such that every reader of JSON keeps them.

Times are text, because JavaScript and others round integers above 2^53 (RFC 7493, 2.2).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

__all__ = ["count", "json_text", "seconds", "text", "time_text"]

_MAX_COUNT: Final = (1 << 53) - 1
# A terminal may obey these, and JSON need not escape them: DEL and the controls of ISO 6429.
_CONTROLS: Final = re.compile("[\x7f-\x9f]")


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def time_text(ns: int) -> str:
    """Return a time in UTC by RFC 3339, with nanoseconds: ``"2024-11-23T22:13:20.000000001Z"``."""
    second, rest = divmod(ns, 1_000_000_000)
    return f"{_second_text(second)}.{rest:09d}Z"


def seconds(ns: float) -> float:
    """Return a duration in seconds."""
    return ns / 1e9


def count(number: int) -> int:
    """Return the number, at most 2^53 - 1."""
    return min(number, _MAX_COUNT)


def text(value: str) -> str:
    """Return text that JSON can hold: an interface's name may have bytes that are no UTF-8."""
    return value.encode(errors="backslashreplace").decode()


def json_text(value: Mapping[str, object] | str) -> str:
    """Return the value as JSON in one line, without characters that a terminal obeys."""
    import json  # noqa: PLC0415 - C encodes most events

    made = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", made)
