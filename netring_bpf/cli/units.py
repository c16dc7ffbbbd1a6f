"""Amounts as people read them: decimal units, and numbers of a bounded width."""

from __future__ import annotations

from typing import Final

__all__ = ["amount", "count", "rate", "share", "size", "span"]

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def size(amount: float) -> str:
    """Return an amount of bytes, at most eight characters wide: ``"1.5 kB"``."""
    return _scaled(amount, "B")


def rate(bits: float) -> str:
    """Return bits a second: ``"12.3 Mbit/s"``."""
    return _scaled(bits, "bit/s")


def amount(number: float) -> str:
    """Return a number of things, at most six characters wide: ``"1.2k"``."""
    return _scaled(number, "").replace(" ", "")


def count(number: int) -> str:
    """Return a whole number: ``"65,536"``."""
    return f"{number:,}"


def share(part: float) -> str:
    """Return a share of 1 in percent; one that is not 0 never looks like it."""
    percent = part * 100
    if 0 < percent < 0.001:
        return "<0.001 %"
    return f"{percent:.3f} %" if 0 < percent < 1 else f"{percent:.0f} %"


def span(seconds: float) -> str:
    """Return a length of time, at most seven characters wide: ``"1.234 s"``, ``"2h 05m"``."""
    if seconds < 9.9995:
        return f"{seconds:.3f} s"
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02d}h"


def _scaled(amount: float, unit: str) -> str:
    last = len(_PREFIXES) - 1
    step = 0
    # What rounds up to 1000 of a prefix is 1.0 of the next.
    while step < last and round(amount, 1 if step else 0) >= 1000:
        amount /= 1000
        step += 1
    if step == 0:
        return f"{amount:.0f} {unit}"
    digits = 0 if step == last and amount >= 1000 else 1
    return f"{amount:.{digits}f} {_PREFIXES[step]}{unit}"
