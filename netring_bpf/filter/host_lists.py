"""Finds long lists of hosts and nets in an expression, and makes sets of them.

libpcap takes seconds to compile some hundred hosts joined by ``or``, and the program compares each
frame with every one of them. A set has neither cost. Only the structure of an expression is read
here: ``and`` and ``or``, which bind alike, ``not``, parentheses, and which primitive is an address.
Whatever is not certain leaves the expression as it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from netring_bpf.errors import OptionError
from netring_bpf.filter.address_set import AddressSet

__all__ = ["find_lists"]

_FEWEST: Final = 16  # addresses; libpcap makes short work of fewer
_WORD: Final = re.compile(r"\s*(\{[^}]*\}|&&|\|\||[()!]|[^\s()!&|{}]+|[&|])")
_JOINING: Final = {"and": "and", "&&": "and", "or": "or", "||": "or"}
_NOT: Final = {"not", "!"}
_ADDRESS: Final = re.compile(r"([0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?")
_BYTES: Final = re.compile(r"[a-z0-9]+\[")
# A primitive may begin with one of these. Any other word could lean on what stands before it, as
# the second port of `port 80 or 443` does.
_WORDS: Final = {
    "ah", "arp", "atalk", "decnet", "dst", "esp", "ether", "geneve", "greater", "host", "icmp",
    "icmp6", "igmp", "ip", "ip6", "ipx", "iso", "len", "less", "link", "llc", "mpls", "net", "pim",
    "port", "portrange", "pppoed", "pppoes", "rarp", "sctp", "src", "stp", "tcp", "udp", "vlan",
    "vrrp",
}  # fmt: skip
# Each of these takes the words that follow it, as in `src or dst host 10.0.0.1`.
_OPEN: Final = {
    "src", "dst", "host", "net", "port", "portrange", "proto", "protochain", "ether", "greater",
    "less", "link", "gateway",
}  # fmt: skip


class _Word(NamedTuple):
    text: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class _Item:
    """One host or net. ``direction``: ``"src"``, ``"dst"`` or ``""`` for either."""

    direction: str
    network: str


_Part: TypeAlias = _Item | str  # a string is any other expression


class _UncertainError(Exception):
    """The structure is not certain."""


@dataclass(slots=True)
class _Level:
    """The inside of two parentheses, as far as it was read: parts joined by ``or``."""

    parts: list[_Part] = field(default_factory=list)
    joined_by: str = ""  # `and` or `or`: an operand must follow
    negations: int = 0
    latest: _Item | None = None  # the operand before, if it was one of these


def find_lists(expression: str) -> tuple[str, tuple[AddressSet, ...]] | None:
    """Return the expression with sets in the place of long lists; None if it has none.

    On a frame whose addresses are all there, both have the same verdict.
    """
    if len(expression) < _FEWEST * len("::1 or "):
        return None
    reading = _Reading(expression)
    try:
        text = reading.text()
    except (_UncertainError, OptionError):
        return None
    return (text, tuple(reading.sets)) if reading.sets else None


class _Reading:
    """Reads one expression, without recursion: it may have any number of parentheses."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self.sets: list[AddressSet] = []

    def text(self) -> str:
        """Return the expression with sets in the place of long lists."""
        words = list(self._words())
        levels = [_Level()]
        at = 0
        while at < len(words):
            word, level = words[at].text, levels[-1]
            if level.parts and not level.joined_by:
                if word == ")" and len(levels) > 1:
                    done = levels.pop()
                    self._join(levels[-1], done.parts)
                    levels[-1].latest = None
                elif word in _JOINING:
                    level.joined_by = _JOINING[word]
                else:
                    raise _UncertainError
                at += 1
            elif word in _NOT:
                level.negations += 1
                at += 1
            elif word == "(":
                levels.append(_Level())
                at += 1
            else:
                end = _end_of_primitive(words, at)
                part = self._primitive(words[at:end], level)
                self._join(level, [part])
                at = end
        if len(levels) > 1 or levels[0].joined_by or levels[0].negations:
            raise _UncertainError
        return self._rendered(levels[0].parts)

    def _words(self) -> Iterator[_Word]:
        at, end = 0, len(self._expression.rstrip())
        while at < end:
            found = _WORD.match(self._expression, at)
            if found is None:
                raise _UncertainError
            yield _Word(found[1], found.start(1), found.end(1))
            at = found.end()

    def _primitive(self, words: Sequence[_Word], level: _Level) -> _Part:
        texts = [word.text for word in words]
        if not texts or texts[-1] in _OPEN:
            raise _UncertainError
        follows = level.latest if level.joined_by == "or" and not level.negations else None
        if follows and len(texts) == 1 and _ADDRESS.fullmatch(texts[0]):
            level.latest = _Item(follows.direction, texts[0])  # `host 10.0.0.1 or 10.0.0.2`
            return level.latest
        level.latest = None
        if texts[0] not in _WORDS and not _BYTES.match(texts[0]):
            raise _UncertainError
        direction = texts[0] if texts[0] in {"src", "dst"} else ""
        rest = texts[1:] if direction else texts
        if len(rest) == 2 and rest[0] in {"host", "net"}:
            found = _ADDRESS.fullmatch(rest[1])
            if found and (rest[0] == "net") == bool(found[2]):
                item = _Item(direction, rest[1])
                level.latest = None if level.negations else item
                return item
        return self._expression[words[0].begin : words[-1].end]

    def _join(self, level: _Level, parts: list[_Part]) -> None:
        """Add an operand to what the level has."""
        if level.negations:
            parts = [f"{'not ' * level.negations}({self._rendered(parts)})"]
            level.negations = 0
        if level.joined_by == "and":
            parts = [f"({self._rendered(level.parts)}) and ({self._rendered(parts)})"]
            level.parts = parts
        elif level.parts:
            level.parts.extend(parts)
        else:
            level.parts = parts
        level.joined_by = ""

    def _rendered(self, parts: Sequence[_Part]) -> str:
        texts: list[str] = []
        for is_list, group in itertools.groupby(parts, lambda part: isinstance(part, _Item)):
            if is_list:
                texts += self._list([part for part in group if isinstance(part, _Item)])
            else:
                texts += [f"({part})" for part in group]
        return " or ".join(texts)

    def _list(self, items: Sequence[_Item]) -> list[str]:
        if len(items) < _FEWEST:
            return [_plain(item) for item in items]
        texts = []
        # The destination comes first: a frame that has it has the source, too.
        for direction in ("dst", "src"):
            wanted = [item.network for item in items if item.direction in {"", direction}]
            if wanted:
                made = AddressSet.of_nets(wanted)
                self.sets.append(made)
                texts.append(f"({direction} host in {made.name})")
        return texts


def _end_of_primitive(words: Sequence[_Word], at: int) -> int:
    depth = 0
    while at < len(words):
        word = words[at].text
        if depth == 0 and (word in _JOINING or word == ")"):
            break
        depth += (word == "(") - (word == ")")
        at += 1
    return at


def _plain(item: _Item) -> str:
    kind = "net" if "/" in item.network else "host"
    return f"({item.direction} {kind} {item.network})".replace("( ", "(")
