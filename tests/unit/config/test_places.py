"""The lines of keys: found in every form in which TOML writes them, and lost by no hostile text."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, strategies

from netring_bpf.config.places import Path, Twice, dotted, places_of

WHOLE = '''\
one = 1
dotted.inner.key = true

[ a . "b c" ]
text = """
two = 2 # not a key
[c]
""\\" """
literal = \'\'\'
three = 3\'\'\'
list = [ # comment ]
  1, "]", [2,
  3],
]
inline = { k = 1, l = { m = [ {n = 1} ] } }

[[many]]
x = 1
[many.sub]
y = 1
[[many]]
x = 2
'''


def test_each_key_has_its_line() -> None:
    tomllib.loads(WHOLE)
    lines = places_of(WHOLE).lines
    expected: dict[Path, int] = {
        ("one",): 1,
        ("dotted",): 2,
        ("dotted", "inner"): 2,
        ("dotted", "inner", "key"): 2,
        ("a",): 4,
        ("a", "b c"): 4,
        ("a", "b c", "text"): 5,
        ("a", "b c", "literal"): 9,
        ("a", "b c", "list"): 11,
        ("a", "b c", "list", 0): 12,
        ("a", "b c", "list", 1): 12,
        ("a", "b c", "list", 2): 12,
        ("a", "b c", "list", 2, 0): 12,
        ("a", "b c", "list", 2, 1): 13,
        ("a", "b c", "inline"): 15,
        ("a", "b c", "inline", "k"): 15,
        ("a", "b c", "inline", "l"): 15,
        ("a", "b c", "inline", "l", "m"): 15,
        ("a", "b c", "inline", "l", "m", 0): 15,
        ("a", "b c", "inline", "l", "m", 0, "n"): 15,
        ("many",): 17,
        ("many", 0): 17,
        ("many", 0, "x"): 18,
        ("many", 0, "sub"): 19,
        ("many", 0, "sub", "y"): 20,
        ("many", 1): 21,
        ("many", 1, "x"): 22,
    }
    assert lines == expected


def test_a_key_without_a_line_has_that_of_the_table_around_it() -> None:
    places = places_of("\n\n[a.b]\nc = 1\n")
    assert [places.line(p) for p in (("a", "b", "z"), ("a", "z"), ("z",))] == [3, 3, 1]


def test_what_stands_twice_is_found() -> None:
    places = places_of("a = 1\na = 2\n[t]\nx = 1\n'x' = 2\n[t]\n")
    assert places.twice == [
        Twice(("a",), 1, 2),
        Twice(("t", "x"), 4, 5),
        Twice(("t",), 3, 6),
    ]


@pytest.mark.parametrize(
    "text",
    ["[", "[[", "a", "a =", "a = [", "a = {", 'a = "', 'a = """', "a = '", "a.", "[a", "= 1",
     "a = 1 b = 2", "a = [" * 100_000, "a = {b = " * 100_000, '"' * 100_001, "\x00", "a = \"\\",
     "[a]\n" * 10_000, "\r" * 1000, "a." * 500_000 + "a = 1",
     "[" + "a." * 500_000 + "a]", '"\\q" = 1'],
)  # fmt: skip
def test_a_broken_text_is_no_error(text: str) -> None:
    places_of(text)


NAMES = strategies.text("ab-_1", min_size=1, max_size=3) | strategies.text(max_size=4).filter(
    lambda name: name.isprintable()
)
VALUES = strategies.recursive(
    strategies.booleans() | strategies.integers(0, 99) | strategies.text(max_size=5),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(NAMES, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(strategies.dictionaries(NAMES, VALUES, max_size=4))
def test_the_scan_finds_the_keys_that_the_library_finds(data: dict[str, Any]) -> None:
    text = "".join(f"{dotted((name,))} = {_inline(value)}\n" for name, value in data.items())
    assert tomllib.loads(text) == data
    assert set(places_of(text).lines) == set(_paths(data, ()))


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dotted((k,))} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + "".join(f"{_inline(v)}, # ]\n" for v in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value).lower()


def _paths(value: Any, path: Path) -> list[Path]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[Path] = []
    for key, inner in pairs:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += _paths(inner, (*path, key))
    return found
