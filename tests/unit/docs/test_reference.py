"""The reference has every public name, and each says what it is, in which unit, since when."""

from __future__ import annotations

import enum
import importlib
import inspect
import re

import pytest

import netring_bpf
from tests.support.paths import ROOT
from tests.support.reference import (
    PUBLIC,
    classes,
    described,
    fields,
    fields_told,
    members,
    public,
    shown,
    value_at,
)

REFERENCE = ROOT / "docs" / "reference"
SINCE = dict(
    re.findall(
        r"^\| `([\w.]+)` \| ([\d.]+) \|$", (REFERENCE / "since.md").read_text(), re.MULTILINE
    )
)
# The unit of a quantity: of time, of size, or the things that are counted.
UNIT = re.compile(
    r"\b(nano|micro)?seconds?\b|\bUnix epoch\b|\bbytes?\b|\bbits?\b|\bshare\b|power of two|"
    r"\b(frames?|packets?|flows?|events?|messages?|devices?|names?|records?|segments|windows|"
    r"descriptors?|chunks?|blocks?|threads?|queues?|keys|rows|files?|fragments?|errors?|exchanges|"
    r"matches|times|steps|pieces|subscribers?|neighbours|addresses|intervals|pages|connections|"
    r"processes|CPUs?|port|version|flags|VNI|id)\b|\bnumbers?\b|\bfrom \d|\b\d+ (to|or) [\d,]+|"
    r"\b1 if\b|\bso many\b",
    re.IGNORECASE,
)


def test_the_reference_shows_every_public_name_once() -> None:
    paths = shown()
    assert [path for path in paths if paths.count(path) > 1] == []
    had = {id(value_at(path)) for path in paths}
    assert [path for path, value in public().items() if id(value) not in had] == []


def test_each_public_name_has_its_line_in_the_table_of_versions() -> None:
    """A new name needs a line in docs/reference/since.md, with the version that will bring it."""
    had = {id(value_at(path)) for path in SINCE}
    assert [path for path, value in public().items() if id(value) not in had] == []
    assert set(SINCE.values()) <= set(_versions())


def _versions() -> list[str]:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    return [netring_bpf.__version__, *re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_says_what_it_is(name: str) -> None:
    assert (importlib.import_module(name).__doc__ or "").strip()


def test_each_public_class_and_function_says_what_it_is() -> None:
    silent = []
    for path, value in public().items():
        if not isinstance(value, type) and not inspect.isroutine(value):
            continue  # a constant, or an alias of a type
        told = value.__doc__ or ""
        # Named tuples and data classes make a docstring of their fields if they have none.
        if not told.strip() or told.startswith(f"{value.__name__}("):
            silent.append(path)
    assert silent == []


def test_each_method_and_property_says_what_it_is() -> None:
    silent = [
        f"{path}.{name}"
        for path, cls in classes().items()
        for name, member in members(cls)
        if not (member.__doc__ or "").strip()
    ]
    assert silent == []


def test_each_field_is_told_in_the_docstring_of_its_class() -> None:
    untold = [
        f"{path}.{name}"
        for path, cls in classes().items()
        for name in fields(cls)
        if name not in fields_told(cls)
    ]
    assert untold == []


def test_each_quantity_has_a_unit() -> None:
    bare = []
    for path, cls in classes().items():
        if issubclass(cls, enum.Enum):
            continue
        told = fields_told(cls)
        quantities = {n: told.get(n, "") for n, kind in fields(cls).items() if _is_number(kind)}
        for name, member in members(cls):
            if isinstance(member, property) and member.fget is not None:
                kind = str(member.fget.__annotations__.get("return", ""))
                if _is_number(kind):
                    quantities[name] = member.__doc__ or ""
        bare += [
            f"{path}.{name}: {said}" for name, said in quantities.items() if not UNIT.search(said)
        ]
    assert bare == []


def _is_number(kind: str) -> bool:
    return re.search(r"\b(int|float)\b", kind) is not None


def test_what_a_docstring_says_of_a_field_is_found() -> None:
    class Two:
        """Two things.

        ``a``, ``b``: seconds. ``c`` and ``d`` (of both): bytes
        on the wire; each. The last one is ``e``, a count of frames. ``a`` is more.

        ``f``: the end.
        """

    assert described(Two.__doc__ or "") == {
        "a": "seconds.",
        "b": "seconds.",
        "c": "bytes on the wire; each. The last one is ``e``, a count of frames.",
        "d": "bytes on the wire; each. The last one is ``e``, a count of frames.",
        "e": "The last one is ``e``, a count of frames.",
        "f": "the end.",
    }
