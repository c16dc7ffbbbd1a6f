"""The public names of the package, and what their docstrings say of each part of them."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.support.paths import ROOT

__all__ = [
    "PUBLIC",
    "classes",
    "described",
    "fields",
    "fields_told",
    "members",
    "public",
    "shown",
    "value_at",
]

PUBLIC: Final = ("netring_bpf", "netring_bpf.errors", "netring_bpf.web")  # modules


def _extension() -> types.ModuleType:
    """Load the extension by which the site completes docstrings; no package has it."""
    path = ROOT / "scripts" / "site" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("netring_site_docstrings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


described: Callable[[str], dict[str, str]] = _extension().described


def public() -> dict[str, Any]:
    """Return each public object by its path; one with several paths has the shortest."""
    found: dict[str, Any] = {}
    seen: dict[int, str] = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if not each.startswith("_") and id(value) not in seen:
                seen[id(value)] = found_at = f"{name}.{each}"
                found[found_at] = value
    return found


def value_at(path: str) -> Any:
    """Return the object of a path, through modules and their names."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(value_at(module), name)


def shown() -> list[str]:
    """Return the paths of all objects that the pages of the reference show."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    text = "\n".join(page.read_text() for page in pages)
    return re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)


def classes() -> dict[str, type]:
    """Return the public classes."""
    return {path: value for path, value in public().items() if isinstance(value, type)}


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that the package gives a class."""
    for base in cls.__mro__:
        if not base.__module__.startswith("netring_bpf"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            is_bound = isinstance(value, classmethod | staticmethod)
            member = value.__func__ if is_bound else value
            if isinstance(member, property) or inspect.isfunction(member):
                yield name, member


def fields(cls: type) -> dict[str, str]:
    """Return the public fields of a class with the texts of their types.

    Fields are those of a record, the members of an enumeration, and what an error is made with.
    """
    if issubclass(cls, enum.Enum):
        return dict.fromkeys(cls.__members__, "")
    typed: dict[str, str] = {}
    if dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"):
        for base in reversed(cls.__mro__):
            typed |= {
                name: _text(kind) for name, kind in vars(base).get("__annotations__", {}).items()
            }
        kept = (
            [field.name for field in dataclasses.fields(cls)]
            if dataclasses.is_dataclass(cls)
            else list(cls._fields)
        )
        return {name: typed[name] for name in kept if not name.startswith("_")}
    if issubclass(cls, Exception):
        made = inspect.signature(cls).parameters.values()
        typed = {
            each.name: _text(each.annotation) for each in made if each.kind is each.KEYWORD_ONLY
        }
    return typed


def _text(kind: object) -> str:
    if isinstance(kind, typing.ForwardRef):
        return kind.__forward_arg__
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def fields_told(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and of its bases say of its fields."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("netring_bpf") and base.__doc__:
            told |= described(inspect.cleandoc(base.__doc__))
    if issubclass(cls, enum.Enum):
        told |= dict(re.findall(r"^\s+(\w+) = .*?#: (.+)$", inspect.getsource(cls), re.MULTILINE))
    return told
