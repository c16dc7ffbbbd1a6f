"""Zeek's ``uid`` of a flow: SipHash-1-3 (Aumasson and Bernstein, 2012) of its number."""

from __future__ import annotations

import string
from typing import Final

__all__ = ["uid"]

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_COUNTS: Final = (9, 8)  # digits that each of two hashes has to give
_MASK: Final = (1 << 64) - 1


def uid(flow_id: int, key: tuple[int, int]) -> str:
    """Return ``"C"`` and 17 digits of base 62."""
    digits = ["C"]
    for part, count in enumerate(_COUNTS):
        number = _siphash13(key, (flow_id, part))
        for _ in range(count):
            number, digit = divmod(number, 62)
            digits.append(_DIGITS[digit])
    return "".join(digits)


def _siphash13(key: tuple[int, int], words: tuple[int, ...]) -> int:
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]
    for word in (*words, len(words) * 8 << 56):
        v[3] ^= word
        _round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & _MASK
    v[1] = _rotated(v[1], 13) ^ v[0]
    v[0] = _rotated(v[0], 32)
    v[2] = (v[2] + v[3]) & _MASK
    v[3] = _rotated(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & _MASK
    v[3] = _rotated(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & _MASK
    v[1] = _rotated(v[1], 17) ^ v[2]
    v[2] = _rotated(v[2], 32)


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK
