"""Every benchmark runs, on a load that only tries it, and says what it should."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import NAMES
from tests.support.paths import ROOT

NEEDS = {name: [pytest.mark.requires("broker")] for name in ("group", "mqtt")}
SHORT = {"file", "pipe"}

pytestmark = pytest.mark.requires("root", "netns", "bcc")


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [*NEEDS.get(name, ()), *(() if name in SHORT else [pytest.mark.long])]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in NAMES])
def test_a_benchmark_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--rounds", "1", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["benchmark"] == name
    assert report["tables"]
    for table in report["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}
