"""A short run of the fuzzers; scripts/fuzz runs them for as long as one likes."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.requires("clang")


@pytest.mark.parametrize("target", ["dissect", "savefile"])
def test_nothing_is_found(target: str) -> None:
    command = [str(ROOT / "scripts" / "fuzz"), target, "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "stat::number_of_executed_units: 1000000" in done.stderr
