"""The types that the package declares are exact and complete, as mypy and pyright see them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TYPED = ROOT / "tests" / "typed"


def pyright(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_mypy_knows_which_events_a_subscriber_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--warn-unused-ignores",
         "--cache-dir", ROOT / ".mypy_cache", *sorted(TYPED.glob("*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.long
def test_pyright_knows_them_too_in_its_strict_mode(tmp_path: Path) -> None:
    done = pyright("--project", TYPED / "pyrightconfig.json", "--warnings")
    assert done.returncode == 0, done.stdout


@pytest.mark.long
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
