"""Puts sets of addresses into the programs that libpcap compiles.

libpcap compiles the expression with one made-up address in the place of each set. So its own rules
hold for links, tags, tunnels and directions. Then each comparison with that address becomes the
question whether the set has the address. The expression is compiled with two such addresses: the
instructions that differ are the comparisons, whatever else the expression compares with.

The optimizer is off: to it, an address that equals the made-up one can equal no other.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from netring_bpf.errors import FilterError
from netring_bpf.filter.address_set import AddressSet
from netring_bpf.filter.libpcap import Instruction

__all__ = ["IN4", "IN6", "IN6_X", "OFFSET", "SET_AT", "compile_with_sets", "sets_of", "show"]

# Instructions of our own, between those of classic BPF; NR_FILTER_* of api.h.
IN4: Final = 0x55  #: jump by jt if A is in set k
IN6: Final = 0x65  #: likewise with the 16 bytes at a fixed offset of the frame
IN6_X: Final = 0x6D  #: and with those at X + that offset
SET_AT: Final = 24  #: of the last two, k has the set from this bit on, and below it the offset
OFFSET: Final = (1 << SET_AT) - 1
_MAX_SETS: Final = 64

_TOKEN: Final = re.compile(r"\b(?:(src|dst) )?host in (\{[^}]*\})")
_JEQ, _JA, _LD_ABS, _LD_IND = 0x15, 0x05, 0x20, 0x40
_IPV4_WORD, _LAST_WORD, _LAST_WORD_AT = 4, 3, 12


def sets_of(expression: str, known: Mapping[str, AddressSet]) -> tuple[AddressSet, ...]:
    """Return the sets in an expression, in the order of their numbers."""
    names = dict.fromkeys(name for _, name in _TOKEN.findall(expression))
    return tuple(known[name] for name in names if name in known)


def compile_with_sets(
    compile: Callable[[str], Sequence[Instruction]],
    expression: str,
    sets: Sequence[AddressSet],
) -> tuple[Instruction, ...]:
    """Compile an expression with sets. ``compile``: libpcap's compiler without its optimizer."""
    if len(sets) > _MAX_SETS:
        raise FilterError(
            f"filter {expression!r}: has {len(sets)} sets of addresses, at most {_MAX_SETS}",
            expression=expression,
        )
    first, second = (_compile(compile, expression, sets, family) for family in (0, 1))
    program: list[Instruction] = []
    for at, (one, other) in enumerate(zip(first, second, strict=True)):
        if one == other:
            program.append(one)
            continue
        before = first[at - 1]
        made = _question(one, before)
        if made is None or one.code != other.code:
            raise FilterError(
                f"filter {expression!r}: this libpcap compares addresses in a way that "
                f"netring_bpf does not know ({one}, {before}); please report it",
                expression=expression,
            )
        program.append(made)
    return tuple(program)


def _compile(
    compile: Callable[[str], Sequence[Instruction]],
    expression: str,
    sets: Sequence[AddressSet],
    family: int,
) -> Sequence[Instruction]:
    text = _with_addresses(expression, sets, family)
    try:
        return compile(text)
    except FilterError as error:
        said = str(error).replace(repr(text), repr(expression))
        raise FilterError(said, expression=expression) from None


def _with_addresses(expression: str, sets: Sequence[AddressSet], family: int) -> str:
    numbers = {one.name: number for number, one in enumerate(sets)}

    def primitive(found: re.Match[str]) -> str:
        number = numbers.get(found[2])
        if number is None:
            return found[0]  # no set of ours, and no expression of libpcap's
        direction = f"{found[1]} " if found[1] else ""
        words = [_word(family, word, number) for word in range(5)]
        v4 = ipaddress.IPv4Address(words[_IPV4_WORD])
        v6 = ipaddress.IPv6Address(b"".join(word.to_bytes(4, "big") for word in words[:4]))
        # An empty set is one of IPv4: the question is asked, and the answer is no.
        wanted = [v4] if sets[number].has(4) or not sets[number].has(6) else []
        both = [*wanted, v6] if sets[number].has(6) else wanted
        return f"({' or '.join(f'{direction}host {address}' for address in both)})"

    return _TOKEN.sub(primitive, expression)


def _word(family: int, word: int, number: int) -> int:
    """Return a word of the made-up address of a set: its last one is that of IPv4."""
    return 0xF500_0000 | family << 20 | word << 16 | number


def _question(compare: Instruction, before: Instruction) -> Instruction | None:
    word, number = compare.k >> 16 & 7, compare.k & 0xFFFF
    if compare.code != _JEQ:
        return None
    if word == _IPV4_WORD:
        return Instruction(IN4, compare.jt, compare.jf, number)
    if word < _LAST_WORD:
        return Instruction(_JA, 0, 0, compare.jt)  # the last word's question is about all four
    code = {_LD_ABS: IN6, _LD_IND: IN6_X}.get(before.code)
    offset = before.k - _LAST_WORD_AT
    if code is None or not 0 <= offset <= OFFSET:
        return None
    return Instruction(code, compare.jt, compare.jf, number << SET_AT | offset)


def show(at: int, instruction: Instruction, sets: Sequence[AddressSet]) -> str | None:
    """Return a line of the listing for one of our own instructions; None for others."""
    code, jt, jf, k = instruction
    jumps = f"jt {at + 1 + jt}\tjf {at + 1 + jf}"
    match code:
        case 0x55:
            return f"({at:03d}) in4      {sets[k].name}\t{jumps}"
        case 0x65:
            return f"({at:03d}) in6      [{k & OFFSET}] {sets[k >> SET_AT].name}\t{jumps}"
        case 0x6D:
            return f"({at:03d}) in6      [x + {k & OFFSET}] {sets[k >> SET_AT].name}\t{jumps}"
        case _:
            return None
