"""The blocks of Python on the pages are typed, as their readers' programs would be."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.unit.docs.test_pages import programs

# What a page may take as known in a block that is a part of a program.
KNOWN = "ring: nr.Netring, frame: bytes, path: str, store: Any, watch: Any"
IMPORTS = "import asyncio\nfrom typing import Any\n\nimport netring_bpf as nr\n"
HEAD = f"{IMPORTS}\n\nasync def example({KNOWN}) -> None:\n"


def program(block: str) -> str:
    """Return a whole program of a block, which may be a part of one."""
    try:
        body = ast.parse(block).body
    except SyntaxError:  # `async with` outside of a function
        body = []
    imports = [node for node in body if isinstance(node, ast.Import)]
    if any(alias.name == "netring_bpf" for node in imports for alias in node.names):
        return block
    return HEAD + textwrap.indent(block, "    ")


@pytest.mark.long
def test_the_blocks_of_all_pages_are_typed(tmp_path: Path) -> None:
    found = programs()
    for number, (page, block) in enumerate(found):
        name = page.removesuffix(".md").replace("/", "_").replace("-", "_").replace(".", "_")
        (tmp_path / f"block_{number}_{name}.py").write_text(program(block))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-defs", "--allow-untyped-calls",
         "--no-warn-unused-ignores", "--cache-dir", ROOT / ".mypy_cache",
         *sorted(tmp_path.iterdir())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_part_of_a_program_becomes_one() -> None:
    assert program("ring.names").endswith("-> None:\n    ring.names")
    assert program("async with ring:\n    ...").startswith(HEAD)
    whole = "import netring_bpf as nr\n\nnr.Filter.tcp\n"
    assert program(whole) == whole
