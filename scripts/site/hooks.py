"""Hooks of MkDocs: what the site has besides the pages of docs/.

The pages beside README and the programs of examples/ become pages of the site, so that no link
leads out of it. The tutorial and the how-to pages come into the navigation by themselves.
"""

from __future__ import annotations

import ast
import posixpath
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

from netring_bpf.cli.app import parser

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # beside README
_LINK = re.compile(r"(\]\()([^)#\s:]+)((?:#[^)\s]*)?\))")
_COMMANDS = "<!-- commands -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of the tutorial and of the how-to to the navigation."""
    for section in config.nav or []:
        for title, folder in (("Tutorial", "tutorial"), ("How-to", "how-to")):
            if title in section:
                listed = section[title]
                found = sorted(
                    (DOCS / folder).glob("*.md"), key=lambda path: (path.stem != "index", path)
                )
                names = [f"{folder}/{path.name}" for path in found]
                section[title] = listed + [name for name in names if name not in listed]
    config.nav = [section for section in config.nav or [] if [] not in section.values()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those that lie elsewhere."""
    for name in BESIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    notes = sorted((DOCS / "notes").glob("*.md"))
    lines = [f"- [{_title(path.read_text('utf-8'))}]({path.name})" for path in notes]
    text = "# Notes\n\nMeasurements and trials, with their dates.\n\n" + "\n".join(lines) + "\n"
    files.append(File.generated(config, "notes/index.md", content=text))
    programs = sorted(path for path in (ROOT / "examples").rglob("*") if _is_shown(path))
    rows = ["# Examples", "", "| program | |", "|---|---|"]
    for path in programs:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, f"{name}.md", content=_shown(path, name)))
        label = path.relative_to(ROOT / "examples").as_posix()
        rows.append(f"| [{label}]({label}.md) | {_summary(path)} |")
    files.append(File.generated(config, "examples/index.md", content="\n".join(rows) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Turn links that lead out of docs/ to the pages here; write the commands out."""
    here = page.file.src_uri
    home = "" if here in BESIDE else "docs"

    def turned(found: re.Match[str]) -> str:
        there = posixpath.normpath(posixpath.join(home, posixpath.dirname(here), found[2]))
        inside = there.removeprefix("docs/") if there.startswith("docs/") else there
        if there.startswith("examples"):
            folder = (ROOT / there).is_dir()
            inside = "examples/index.md" if folder else f"{there}.md"
        elif there == "README.md":
            inside = "index.md"
        elif there == "LICENSE":
            return f"{found[1]}{found[2]}{found[3]}"
        elif there.startswith("docs/") and home:
            return found[0]  # a link of docs/ within docs/ is as it should be
        target = posixpath.relpath(inside, posixpath.dirname(here) or ".")
        return f"{found[1]}{target}{found[3]}"

    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, _commands())
    return _LINK.sub(turned, markdown)


# -- examples --


def _is_shown(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def _shown(path: Path, name: str) -> str:
    language = {".py": "python", ".json": "json", ".yml": "yaml", ".sh": "sh"}.get(
        path.suffix, "toml"
    )
    text = path.read_text("utf-8").rstrip()
    return f"# {name}\n\n````{language}\n{text}\n````\n"


def _summary(path: Path) -> str:
    if path.suffix != ".py":
        return ""
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return said.partition("\n")[0].replace("|", "\\|")


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


# -- the command line --


def _commands() -> str:
    found = next(
        a for a in parser()._actions if getattr(a, "choices", None) and a.dest == "command"
    )
    parts = []
    for name, command in found.choices.items():
        parts += [f"## netring-bpf {name}", "", _escaped(command.description or ""), ""]
        usage = " ".join(command.format_usage().split()).partition(" ")[2]
        folded = textwrap.fill(
            usage, 84, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
        parts += ["```text", folded, "```", "", "| flag | |", "|---|---|"]
        for action in command._actions:
            if action.help == "==SUPPRESS==":
                continue
            words = command._get_formatter()._expand_help(action) if action.help else ""
            parts.append(f"| {_flag(action)} | {_escaped(words)} |")
        parts.append("")
    return "\n".join(parts)


def _flag(action: Any) -> str:
    if action.nargs == 0:
        shown = action.option_strings
    else:
        value = action.metavar
        if isinstance(value, tuple):
            value = " ".join(value)
        if value is None and action.choices is not None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        value = value or action.dest.upper()
        shown = [f"{flag} {value}" for flag in action.option_strings] or [value]
    return ", ".join(f"`{text}`".replace("|", "\\|") for text in shown)


def _escaped(text: str) -> str:
    text = " ".join(text.split())
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)
