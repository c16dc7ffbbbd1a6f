"""Each example has a test that runs it and a page that tells of it, and is short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
HERE = Path(__file__)
TESTS = "\n".join(
    path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")) if path != HERE
)
PAGES = {page: page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))}
#: They are more than a recipe: the traffic of the tutorials, and a group of processes.
LONG = {"lesson.py", "consumer_group.py"}


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 25


def test_each_example_has_a_test() -> None:
    assert [p.name for p in EXAMPLES if not re.search(rf'["/]{p.name}"', TESTS)] == []


def test_each_example_has_a_page_that_links_to_it() -> None:
    linked = {
        (page.parent / target).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)#:]+\.py)\)", text)
    }
    assert names([path for path in EXAMPLES if path not in linked]) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_its_usage_and_is_short(path: Path) -> None:
    text = path.read_text()
    if path.name != "flows.py":  # it stands in README, whole
        assert path.name in (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    assert path.name in LONG or len(text.splitlines()) <= 60


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name == "how-to"], ids=lambda page: page.name
)
def test_the_code_that_a_recipe_shows_stands_in_an_example(page: Path) -> None:
    sources = [dedented(path.read_text()) for path in EXAMPLES]
    blocks = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    shown = [dedented(block) for block in blocks]
    assert [block for block in shown if not any(block in source for source in sources)] == []


def dedented(text: str) -> str:
    """The lines without what stands before them, as a page shows a part of a function."""
    return "\n".join(line.strip() for line in text.strip().splitlines())
