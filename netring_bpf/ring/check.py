"""Checks the values of options."""

from __future__ import annotations

from netring_bpf.errors import OptionError

__all__ = ["check", "power_of_two"]


def check(option: str, value: object, holds: bool, rule: str) -> None:
    """Raise ``OptionError``, with the rule in words, unless the rule holds."""
    if not holds:
        raise OptionError(f"{option}={value!r}: must be {rule}", option=option)


def power_of_two(value: int) -> bool:
    """Whether ``value`` is a power of two, 1 included."""
    return value > 0 and value & (value - 1) == 0
