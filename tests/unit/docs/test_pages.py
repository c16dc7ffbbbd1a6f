"""Each page can be found, and each of its code blocks is sound."""

from __future__ import annotations

import argparse
import ast
import configparser
import functools
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from netring_bpf.cli.app import parser
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
BY_THEMSELVES = ("tutorial", "how-to", "notes")  # folders whose pages the site's hook lists
LANGUAGES = {"console", "diff", "ini", "json", "python", "sh", "sql", "text", "toml", "yaml"}
FENCE = re.compile(r"^( *)```+([\w-]*)[^\n]*\n(.*?)^\1```+ *$", re.DOTALL | re.MULTILINE)
# A placeholder, or a shell's variable that is more than one word.
PLACEHOLDERS = re.compile(r"…|\bCOMMAND\b|\[|\.\.\.|\$\(")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of a page in these languages, without the indentation of their fences."""
    found = FENCE.findall(page.read_text())
    return [
        re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
        for indent, language, text in found
        if language in languages
    ]


def with_blocks(*languages: str) -> list[tuple[str, str]]:
    return [(name_of(page), text) for page in PAGES for text in blocks(page, *languages)]


def test_every_page_can_be_reached_from_the_navigation() -> None:
    listed = set(
        re.findall(r"(?:^|[ -])([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    )
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    beside = {"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "notes/index.md"}
    lost = {page for page in pages - listed if page.split("/")[0] not in BY_THEMSELVES}
    assert (lost, listed - pages - beside) == (set(), set())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_block_names_its_language(page: Path) -> None:
    assert {language for _, language, _ in FENCE.findall(page.read_text())} <= LANGUAGES
    assert page.read_text().count("```") % 2 == 0


@functools.cache
def _examples() -> str:
    programs = sorted((ROOT / "examples").rglob("*.py"))
    return "\n\f\n".join(_bare(program.read_text()) for program in programs)


def _bare(text: str) -> str:
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


def is_excerpt(block: str) -> bool:
    """Whether the lines of a block stand so in a program of the examples, which the tests run."""
    return f"\n{_bare(block)}" in _examples()


def programs() -> list[tuple[str, str]]:
    """Return the blocks of Python that are no excerpts."""
    return [(name, text) for name, text in with_blocks("python") if not is_excerpt(text)]


def test_lines_of_an_example_are_an_excerpt() -> None:
    lines = (ROOT / "examples" / "names.py").read_text().splitlines()
    assert is_excerpt("\n".join(lines[-8:-2]))
    assert not is_excerpt("\n".join([*lines[-8:-2], "and_more()"]))


def test_blocks_of_python_are_python() -> None:
    found = programs()
    assert len(found) > 15
    for name, text in found:
        compile(text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


def test_blocks_of_data_can_be_read() -> None:
    for name, text in with_blocks("json"):
        assert json.loads(text) is not None, name
    for name, text in with_blocks("toml"):
        assert tomllib.loads(text), name
    for name, text in with_blocks("ini"):
        read = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        read.optionxform = str  # type: ignore[method-assign, assignment]
        read.read_string(text if text.startswith("[") else f"[Service]\n{text}")  # a part of a unit
        assert read.sections(), name


def test_blocks_of_shell_are_shell() -> None:
    found = [*with_blocks("sh"), *((n, "\n".join(commands(t))) for n, t in with_blocks("console"))]
    assert len(found) > 15
    whole = "\n".join(f"f{number}() {{\n:\n{text}\n}}" for number, (_, text) in enumerate(found))
    done = subprocess.run(["bash", "-n"], input=whole, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def commands(console: str) -> list[str]:
    """Return what is typed in a block of a console: after ``$ ``, and what goes on from there."""
    found: list[str] = []
    goes_on = False
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append(line.removeprefix("$ "))
        elif goes_on:
            found[-1] += f"\n{line}"
        else:
            continue
        goes_on = found[-1].rstrip().endswith(("\\", "|", "&&"))
    return found


def simple_commands(shell: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of some lines of shell."""
    joined = re.sub(r"\\\n\s*", " ", shell)
    joined = re.sub(r"([|]|&&)\s*\n\s*", r"\1 ", joined)
    begun = ""
    for line in joined.splitlines():
        try:
            tokens = _tokens(f"{begun}{line}")
        except ValueError:  # a text in quotes goes on in the next line
            begun += f"{line}\n"
            continue
        begun = ""
        yield from _commands_of(tokens)
    assert begun == ""


def _tokens(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    return list(lexer)


def _commands_of(tokens: list[str]) -> Iterator[list[str]]:
    words: list[str] = []
    skip = False
    for token in tokens:
        if token and set(token) <= set("|&;()"):
            yield words
            words = []
        elif token and set(token) <= set("<>"):
            skip = True  # the file of a redirection
        elif skip:
            skip = False
        else:
            words.append(token)
    yield words


def our_arguments(shell: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of netring-bpf."""
    for words in simple_commands(shell):
        names = [number for number, word in enumerate(words) if word.endswith("netring-bpf")]
        if names and not any(
            word in {"apt-get", "pip", "man", "command"} for word in words[: names[0]]
        ):
            yield words[names[0] + 1 :]


def calls_in_blocks() -> Iterator[tuple[str, list[str]]]:
    """Yield each call of the command in the blocks of a page."""
    for name, text in with_blocks("sh"):
        yield from ((name, words) for words in our_arguments(text))
    for name, text in with_blocks("console"):
        for line in commands(text):
            yield from ((name, words) for words in our_arguments(line))
    for name, text in with_blocks("ini"):
        for line in re.findall(r"^ExecStart=((?:.*\\\n)*.*)", text, re.MULTILINE):
            yield from ((name, words) for words in our_arguments(line))


def calls_in_text() -> Iterator[tuple[str, list[str]]]:
    """Yield each call that a sentence names; it may have a part of its flags only."""
    for page in PAGES:
        for span in re.findall(r"`(netring-bpf [a-z][^`]*)`", FENCE.sub("", page.read_text())):
            if not PLACEHOLDERS.search(span):
                words = our_arguments(" ".join(span.split()))
                yield from ((name_of(page), each) for each in words)


def test_each_call_of_the_command_is_one_that_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, wrong = parser(), []
    found = [*calls_in_blocks(), *calls_in_text()]
    assert len(found) > 40
    in_text = len(list(calls_in_text()))
    for number, (name, words) in enumerate(found):
        if not _is_taken(whole, words):
            said = capsys.readouterr().err
            is_part = number >= len(found) - in_text
            if not (is_part and ("are required" in said or "expected" in said)):
                wrong.append((name, words, said.splitlines()[-1:]))
    assert wrong == []


def _is_taken(whole: argparse.ArgumentParser, words: list[str]) -> bool:
    try:
        whole.parse_args(words)
    except SystemExit as end:
        return end.code == 0  # --help and --version
    return True


@pytest.mark.parametrize(
    ("shell", "arguments"),
    [
        ("netring-bpf flows -r a.pcap 'tcp port 443'", [["flows", "-r", "a.pcap", "tcp port 443"]]),
        ("tcpdump -w - | netring-bpf flows -r -   # a pipe", [["flows", "-r", "-"]]),
        ("A=1 netring-bpf top -i x > out", [["top", "-i", "x"]]),
        ("netring-bpf flows \\\n  -i x tcp |\n  jq .", [["flows", "-i", "x", "tcp"]]),
        ("pip install netring-bpf", []),
        ("sqlite3 'SELECT 1\n FROM x'\nnetring-bpf top -i ''", [["top", "-i", ""]]),
    ],
)
def test_the_arguments_of_a_command_are_found(shell: str, arguments: list[list[str]]) -> None:
    assert list(our_arguments(shell)) == arguments


def test_a_wrong_flag_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert not _is_taken(parser(), ["flows", "-i", "eth1", "--no-such-flag"])
    assert _is_taken(parser(), ["flows", "--help"])
    capsys.readouterr()


def test_a_block_within_a_list_is_found() -> None:
    text = "- so:\n\n  ```sh\n  ls\n  ```\n\n```json\n{}\n```\n"
    assert [(language, body) for _, language, body in FENCE.findall(text)] == [
        ("sh", "  ls\n"),
        ("json", "{}\n"),
    ]
