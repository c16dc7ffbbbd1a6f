"""The types that the package declares are exact and complete, as mypy and pyright see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TYPED = ROOT / "tests" / "typed"
HEAD = "import netring_bpf as nr\n\n\nasync def example(ring: nr.Netring) -> None:\n"
# The checks take seconds, so an ordinary run leaves them out.
pytestmark = pytest.mark.long


def mypy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache")]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def pyright(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run pyright, by the package that brings a JavaScript engine of its own."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # it does not see an editable installation
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def project(folder: Path, mode: str, *include: Path) -> Path:
    """Write the configuration of pyright for some files; return where it is."""
    options = {
        "include": [os.path.relpath(path, folder) for path in include],
        "extraPaths": [os.path.relpath(path, folder) for path in (ROOT, ROOT / "examples")],
        "pythonVersion": "3.11",
        "typeCheckingMode": mode,
        "reportUnnecessaryTypeIgnoreComment": mode == "strict",
    }
    path = folder / "pyrightconfig.json"
    path.write_text(json.dumps(options))
    return path


def test_mypy_knows_which_events_a_subscriber_gives() -> None:
    done = mypy("--warn-unreachable", *TYPED.glob("*.py"))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_pyright_knows_them_too_in_its_strict_mode(tmp_path: Path) -> None:
    done = pyright("--project", project(tmp_path, "strict", TYPED))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("0 errors")


def test_both_find_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import netring_bpf as nr\n\n\n"
        "async def run(ring: nr.Netring) -> None:\n"
        "    async for event in ring.subscribe(kinds=nr.FlowEnded):\n"
        "        print(event.flow)\n"  # of Lagged?
        "    nr.FlowEnd3d\n"
    )
    done = mypy("--warn-unreachable", wrong)
    assert re.findall(r"^\S+py:(\d+): error", done.stdout, re.MULTILINE) == ["6", "6", "7"]
    done = pyright("--project", project(tmp_path, "standard", wrong))
    assert set(re.findall(r"wrong\.py:(\d+):\d+ - error", done.stdout)) == {"6", "7"}


def test_pyright_accepts_the_readme_and_the_examples(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", readme, re.DOTALL)):
        whole = block if "import" in block else HEAD + textwrap.indent(block, "    ")
        (tmp_path / f"readme_{number}.py").write_text(whole)
    done = pyright("--project", project(tmp_path, "standard", tmp_path, ROOT / "examples"))
    assert done.returncode == 0, done.stdout


def test_the_type_of_each_public_name_is_known() -> None:
    done = pyright("--verifytypes", "netring_bpf", "--ignoreexternal", "--outputjson")
    report = json.loads(done.stdout)["typeCompleteness"]
    unknown = [
        (symbol["name"], [found["message"] for found in symbol["diagnostics"]])
        for symbol in report["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert unknown == []
    assert report["completenessScore"] == 1
    assert len(report["symbols"]) > 1000
