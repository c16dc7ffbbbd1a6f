"""Every benchmark runs, on a load that only tries it, and says what it should."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import NAMES
from tests.support.paths import ROOT

_NEEDS = {"mqtt": ("broker",)}

pytestmark = pytest.mark.requires("root", "netns", "bcc")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.requires(*_NEEDS.get(n, ()))) for n in NAMES]
)
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
