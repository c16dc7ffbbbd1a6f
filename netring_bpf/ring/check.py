"""What the options of a capture are held to."""

from __future__ import annotations

from netring_bpf.errors import OptionError

__all__ = ["check", "power_of_two"]


def check(option: str, value: object, holds: bool, rule: str) -> None:
    """Raise ``OptionError``, with the rule in words, unless it holds."""
    if not holds:
        raise OptionError(f"{option}={value!r}: must be {rule}", option=option)


def power_of_two(value: int) -> bool:
    """Whether it is one."""
    return value > 0 and value & (value - 1) == 0
