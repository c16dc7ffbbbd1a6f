"""The tutorials and recipes tell the truth: their commands are run, in a network of their own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.examples import EXAMPLES, make_lesson
from tests.support.lab import Namespace
from tests.support.paths import ROOT
from tests.support.told import fits, run_session, told_by

pytestmark = pytest.mark.requires("root", "netns", "bcc", "broker")

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorial").glob("*.md"))
RECIPES = sorted(
    page for page in (DOCS / "how-to").glob("*.md") if "```console" in page.read_text()
)


@pytest.mark.parametrize(
    "page",
    # The tutorials wait for captures that last some seconds.
    [*(pytest.param(page, marks=pytest.mark.long) for page in TUTORIALS), *RECIPES],
    ids=lambda page: page.stem,
)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    for example in EXAMPLES.glob("*.py"):
        shutil.copy(example, tmp_path)
    if page in RECIPES:
        make_lesson(tmp_path / "lesson.pcap")
    commands = told_by(page, tmp_path)
    with Namespace() as namespace:
        namespace.ip("link set lo up")
        printed = run_session(
            commands,
            tmp_path,
            {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
                "HOME": str(tmp_path),
                "LC_ALL": "C.UTF-8",
            },
            before=("nsenter", f"--net={namespace.path}"),
        )
    differences = [
        f"$ {told.command}\n{text}\n-- the page has:\n{told.output}"
        for told, text in zip(commands, printed, strict=True)
        if not fits(told.output, text)
    ]
    assert differences == [], "\n".join(differences)


def test_a_page_that_tells_otherwise_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n# one.py\nprint(1)\n```\n```console\n$ cat one.py \\\n    one.py | wc -l\n4\n"
        "$ seq 3\n1\n…\n$ seq 2\n1\n3\n```\n"
    )
    commands = told_by(page, tmp_path)
    printed = run_session(commands, tmp_path, {"PATH": os.environ["PATH"]})
    assert printed == ["4\n", "1\n2\n3\n", "1\n2\n"]
    assert [fits(told.output, text) for told, text in zip(commands, printed, strict=True)] == [
        True,
        True,
        False,
    ]
