"""A short run of the fuzzers; scripts/fuzz runs them for as long as one likes."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.paths import ROOT

# Building a target takes longer than running it.
pytestmark = [pytest.mark.requires("clang"), pytest.mark.long]

RUNS = 200_000
TARGETS = sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("*.c"))


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    command = [str(ROOT / "scripts" / "fuzz"), target, str(RUNS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    [executed] = re.findall(r"^stat::number_of_executed_units: (\d+)$", done.stderr, re.MULTILINE)
    assert int(executed) >= RUNS  # it ends between two seeds only
