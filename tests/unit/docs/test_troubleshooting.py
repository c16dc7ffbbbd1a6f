"""Troubleshooting quotes what the package really says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
GAP = "…"  # what differs each time
SYMPTOMS = (
    "no packets", "only one direction", "AF_XDP not chosen", "lost frames",
    "books do not balance", "permission denied", "bcc not found", "MQTT shows nothing",
    "Home Assistant shows nothing", "names are missing", "high CPU", "it stopped after a while",
)  # fmt: skip


def texts(source: str) -> Iterator[str]:
    """Yield each text of a program, with a gap for each value that is put into it."""
    tree = ast.parse(source)
    parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    told = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in told:  # a docstring is told to nobody who has the symptom
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
        ):
            yield re.sub(r"%[sdr]", GAP, node.value)


def quotes() -> list[str]:
    """Return the texts that the page quotes, in its text blocks and first columns of tables."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    found = [line for block in blocks for line in block.splitlines()]
    for line in PAGE.splitlines():
        if line.startswith("| "):
            spans = re.findall(r"`([^`]+)`", line.split(" | ")[0])
            found += [span for span in spans if " " in span and "[" not in span]
    return found


@pytest.fixture(scope="module")
def said() -> list[str]:
    files = sorted((ROOT / "netring_bpf").rglob("*.py"))
    return [text for file in files for text in texts(file.read_text())]


def test_each_quoted_text_is_in_the_source(said: list[str]) -> None:
    found = quotes()
    assert len(found) > 90
    assert [quote for quote in found if not _is_said(quote, said)] == []


def core_of(quote: str) -> str:
    """Return a quote without the gaps around it."""
    return quote.strip(f"{GAP} ().,:;")


def _is_said(quote: str, said: list[str]) -> bool:
    return any(core_of(quote) in text for text in said)


def test_a_text_that_nobody_says_is_found(said: list[str]) -> None:
    assert _is_said("capture on …: it is down; bring it up (…)", said)
    assert not _is_said("capture on …: it is upside down", said)


def test_a_gap_stands_for_each_value() -> None:
    program = '"""Told."""\nlog("%s: seen %d", a)\nraise E(f"on {a}: bad {b!r}" "!")\n'
    assert list(texts(program)) == ["…: seen …", "on …: bad …!"]


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_each_symptom_has_a_section(symptom: str) -> None:
    assert f"\n## {symptom[0].upper()}{symptom[1:]}\n" in PAGE or f"\n## {symptom}\n" in PAGE


def test_the_page_tells_of_each_kind_of_error_that_opening_raises() -> None:
    """The words of a message of each file that explains a failure are on the page."""
    explained = {
        "capture/choose.py", "capture/capture_port.py", "capture/open_errors.py", "privileges.py",
        "interface/capture_port.py", "bpf/compiler.py", "sinks/mqtt_connection.py",
    }  # fmt: skip
    cores = [core_of(quote) for quote in quotes()]
    silent = {
        name
        for name in explained
        if not any(
            core in t for t in texts((ROOT / "netring_bpf" / name).read_text()) for core in cores
        )
    }
    assert silent == set()
