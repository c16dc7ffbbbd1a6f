"""The tables of flags in docs/command-line.md, made from the parsers.

``scripts/command-line`` writes them into the page.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from netring_bpf.cli.app import COMMANDS, parser
from netring_bpf.cli.parsers import Parser
from tests.support.paths import ROOT

__all__ = ["PAGE", "Row", "rows_of", "with_tables"]

PAGE: Final = ROOT / "docs" / "command-line.md"
_BEGIN: Final = "<!-- The rest is written by scripts/command-line. -->\n"
_HEAD: Final = "| flag | does | range | default |\n|---|---|---|---|\n"
# The groups that are told once, for all commands that have them.
_SHARED: Final = (
    "filter",
    "capture of an interface",
    "rings",
    "when a flow ends or is told",
    "which packets make a flow",
    "what is read, and how much is kept",
    "messages",
)


class Row(NamedTuple):
    """A flag as a line of a table."""

    flags: tuple[str, ...]
    value: str
    does: str
    range: str
    default: str

    def __str__(self) -> str:
        """Return the line."""
        flags = ", ".join(f"`{flag}`" for flag in self.flags)
        value = f" `{self.value}`" if self.value else ""
        told = (re.sub(r"([*<>\[\]])", r"\\\1", text) for text in self[2:])
        cells = (f"{flags}{value}", *told)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def rows_of(command: Parser) -> dict[str, list[Row]]:
    """Return the rows of a command by the title of their group; ``""``: of none."""
    found: dict[str, list[Row]] = {}
    for group in command._action_groups:
        title = group.title or ""
        for action in group._group_actions:
            if action.option_strings and not isinstance(action, argparse._HelpAction):
                own = title if title not in {"options", "optional arguments"} else ""
                found.setdefault(own, []).append(_row(action))
    return found


def _row(action: argparse.Action) -> Row:
    text = " ".join(str(action.help).split())
    does, _, default = text.partition(" [")
    default = default.removesuffix("]").removeprefix("default: ")
    default = default.replace("%(default)s", str(action.default))
    value = action.metavar or ("" if action.choices is None else "NAME")
    if action.nargs == 0:
        value = ""
    values = getattr(action.type, "rule", "") or ", ".join(map(str, action.choices or ()))
    return Row(tuple(sorted(action.option_strings)), str(value), does, values, default)


def with_tables(page: str) -> str:
    """Return the page with the tables of now."""
    return page.partition(_BEGIN)[0] + _BEGIN + "".join(_sections())


def _sections() -> Iterator[str]:
    [commands] = [action for action in parser()._actions if action.nargs == argparse.PARSER]
    assert isinstance(commands.choices, dict)
    told: set[Row] = set()
    tables = {name: rows_of(commands.choices[name]) for name in COMMANDS}
    for title in _SHARED:
        having = [name for name in COMMANDS if title in tables[name]]
        common = set.intersection(*({row.flags for row in tables[name][title]} for name in having))
        rows = [row for row in tables[having[0]][title] if row.flags in common]
        yield f"\n## {title[0].upper()}{title[1:]}\n\n"
        yield f"{_listed(having)} have these flags.\n\n{_HEAD}"
        yield from map(str, rows)
        told.update(rows)
    for name in COMMANDS:
        yield f"\n## netring-bpf {name}\n\n{commands.choices[name].description}\n\n"
        own = [row for rows in tables[name].values() for row in rows if row not in told]
        yield _HEAD
        yield from map(str, own)
        shared = [title for title in _SHARED if title in tables[name]]
        if shared:
            links = [f"[{title}](#{_anchor(title)})" for title in shared]
            yield f"\nAlso the flags of {_listed(links, code=False)}.\n"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _listed(names: list[str], *, code: bool = True) -> str:
    shown = [f"`{name}`" if code else name for name in names]
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
