"""README and docs say what is there: the example is the one that runs, the links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import pytest

import netring_bpf
from netring_bpf.events.app import Details
from netring_bpf.events.app_record import PROTOCOLS
from netring_bpf.events.fields import RECORD
from netring_bpf.ring.books import _MISSED
from tests.support.command_line import PAGE, with_tables

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_first_example_is_the_file_that_the_tests_run() -> None:
    example = (ROOT / "examples" / "flows.py").read_text()
    assert blocks(README, "python")[0] == example
    assert len([line for line in example.splitlines() if line]) == 12


@pytest.mark.long
def test_the_examples_are_typed(tmp_path: Path) -> None:
    head = "import netring_bpf as nr\n\n\nasync def example(ring: nr.Netring) -> None:\n"
    for number, block in enumerate(blocks(README, "python")):
        whole = block if "import" in block else head + textwrap.indent(block, "    ")
        (tmp_path / f"example_{number}.py").write_text(whole)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict",
         "--cache-dir", ROOT / ".mypy_cache", *sorted(tmp_path.iterdir()),
         *sorted((ROOT / "examples").glob("*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
    missing = [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in anchors(page.parent / target if target else page)
    ]
    assert missing == []


def _is_public(name: str) -> bool:
    return hasattr(netring_bpf, name) or hasattr(netring_bpf.errors, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_documentation_names_of_the_package_exists(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"\bnr\.(\w+)", text))
    for name in re.findall(r"`((?:Flow|Link|Capture|Mqtt|Xdp|Tpacket)\w+)", text):
        named.add(name)
    assert sorted(name for name in named if not _is_public(name)) == []


def test_the_changelog_knows_of_this_version_or_has_it_unreleased() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in changelog or f"## {netring_bpf.__version__}" in changelog


def test_the_pages_tell_every_counter_of_names_and_devices() -> None:
    told = (ROOT / "docs" / "statistics.md").read_text().partition("\n## Names\n")[2]
    names = [field.name for field in dataclasses.fields(netring_bpf.NamesStatistics)]
    devices = [field.name for field in dataclasses.fields(netring_bpf.DeviceStatistics)]
    assert [name for name in (*names, *devices, *_MISSED.values()) if f"`{name}`" not in told] == []


def test_the_page_of_the_command_line_has_every_flag_of_every_command() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page), "scripts/command-line writes it"


def test_the_pages_tell_every_protocol_and_every_field_of_it() -> None:
    names = (ROOT / "docs" / "names.md").read_text()
    assert [name for name in PROTOCOLS if name and f"`{name}`" not in names] == []
    events = (ROOT / "docs" / "events.md").read_text()
    details = (*get_args(Details), netring_bpf.DnsAnswer)
    fields = [*RECORD, *(field for kind in details for field in kind._fields)]
    both = [(name, re.sub("^(orig|resp)_", "…_", name)) for name in fields]
    missing = [
        name for name, side in both if f"`{name}`" not in events and f"`{side}`" not in events
    ]
    assert missing == []
