"""A griffe extension: gives each field of a class the words that its class says of it.

Classes of the package explain their fields in their own docstring, as ``name``: words. The
reference shows each field by itself, so it gets those words. ``#:`` comments become docstrings too,
each public name says since which version it is there (docs/reference/since.md), and the names and
pages in docstrings become links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[2]
_NAME = r"``(\w+)``"
_DEFINED = re.compile(rf"(?:(?<=\s)|^){_NAME}(?:(?:, | and |, and ){_NAME})*(?: \([^)]*\))?:\s")
_MORE = re.compile(r"(?<=[.!?])\s+(?=``\w)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")
_NAMED = re.compile(r"(?<!\[)``([A-Z]\w+)(?:\.(\w+))?(?:\([^`]*\))?``")
_PAGE = re.compile(r"(?<![\w/\[])docs/([\w-]+)\.md")
_SINCE = re.compile(r"^\| `([\w.]+)` \| ([\w.]+) \|$", re.MULTILINE)


def described(docstring: str) -> dict[str, str]:
    """Return what a class's docstring says of each name that it has in double backticks.

    ``name``: words, up to the next such beginning, to a sentence that begins with another name, or
    to the end of the paragraph; else the first sentence that has the name.
    """
    told: dict[str, str] = {}
    sentences: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", docstring):
        text = " ".join(paragraph.split())
        beginnings = list(_DEFINED.finditer(text))
        for number, found in enumerate(beginnings, 1):
            end = beginnings[number].start() if number < len(beginnings) else len(text)
            for name in re.findall(_NAME, found[0]):
                told.setdefault(name, _MORE.split(text[found.end() : end])[0].strip().rstrip(";"))
        for sentence in _SENTENCE.split(text):
            for name in re.findall(_NAME, sentence):
                sentences.setdefault(name, sentence.strip())
    return sentences | told


def commented(lines: list[str], number: int) -> str | None:
    """Return the words of the ``#:`` comment at this line, or of those right above it."""
    if (found := re.search(r"#:\s*(.*\S)", lines[number - 1])) is not None:
        return found[1]
    above: list[str] = []
    while number >= 2 and (found := re.match(r"\s*#:\s*(.*\S)", lines[number - 2])) is not None:
        above.insert(0, found[1])
        number -= 1
    return " ".join(above) or None


def since() -> dict[str, str]:
    """Return the version since which each public name is there, by its path."""
    page = ROOT / "docs" / "reference" / "since.md"
    return dict(_SINCE.findall(page.read_text(encoding="utf-8")))


class Docstrings(griffe.Extension):
    """Completes the docstrings of the package once it was read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Complete all docstrings of a package."""
        if pkg.path == "netring_bpf":
            self._complete(pkg, {})
            versions = since()
            things = {path: _target(pkg, path) for path in versions}
            for path, thing in things.items():
                _add(thing, f"*Since version {versions[path]}.*")
            _link(pkg, {path.rpartition(".")[2]: (path, things[path]) for path in things})

    def _complete(self, holder: griffe.Module | griffe.Class, lines: dict[Path, list[str]]) -> None:
        told = {}
        if holder.is_class and holder.docstring is not None:
            told = described(holder.docstring.value)
        for name, member in holder.members.items():
            if member.is_alias:
                continue
            if isinstance(member, griffe.Module | griffe.Class):
                self._complete(member, lines)
            elif isinstance(member, griffe.Function):
                for parameter in member.parameters:
                    parameter.default = _shown(parameter.default, member.module)
            elif isinstance(member, griffe.Attribute) and member.docstring is None:
                file = member.filepath
                if not isinstance(file, Path) or file.suffix != ".py":
                    continue
                if file not in lines:
                    lines[file] = file.read_text(encoding="utf-8").splitlines()
                words = told.get(name)
                if words is None and member.lineno:
                    words = commented(lines[file], member.lineno)
                if words:
                    _add(member, _as_sentence(words))


def _shown(default: Any, module: griffe.Module) -> Any:
    """Return a default that a private name stands for, as its value."""
    constant = module.members.get(str(default)) if str(default).startswith("_") else None
    if isinstance(constant, griffe.Attribute) and constant.value is not None:
        return constant.value
    return default


def _target(pkg: griffe.Module, path: str) -> griffe.Object | griffe.Alias:
    """Return the object itself of a path that another module may only hand on."""
    found: griffe.Object | griffe.Alias = pkg
    while path != found.path:
        name = path.removeprefix(f"{found.path}.").partition(".")[0]
        rest = path.removeprefix(f"{found.path}.{name}")
        found = found.members[name]
        if found.is_alias:
            path, found = f"{found.target_path}{rest}", pkg
    return found


def _link(
    holder: griffe.Module | griffe.Class,
    things: dict[str, tuple[str, griffe.Object | griffe.Alias]],
) -> None:
    """Make links of the public names and the pages that docstrings name."""

    def linked(found: re.Match[str]) -> str:
        name, part = found[1], found[2]
        if name not in things:
            return found[0]
        path, thing = things[name]
        if part and not (isinstance(thing, griffe.Class) and part in thing.all_members):
            return found[0]
        return f"[{found[0]}][{path}{'.' + part if part else ''}]"

    for member in [holder, *holder.members.values()]:
        if member.is_alias:
            continue
        if member is not holder and isinstance(member, griffe.Module | griffe.Class):
            _link(member, things)
        elif member.docstring is not None:
            text = _NAMED.sub(linked, member.docstring.value)
            member.docstring.value = _PAGE.sub(r"[\g<0>](../\1.html)", text)


def _add(thing: griffe.Object | griffe.Alias, words: str) -> None:
    if thing.docstring is None:
        thing.docstring = griffe.Docstring(words, parent=thing)
    elif words not in thing.docstring.value:
        thing.docstring.value = f"{thing.docstring.value}\n\n{words}"


def _as_sentence(words: str) -> str:
    words = words[0].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."
