"""The C core under ASan, UBSan and TSan, compiled for the purpose from the same files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.sizes import size

HERE = Path(__file__).resolve().parent
RING = ROOT / "netring_bpf" / "ring"
STRICT = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-O1", f"-I{RING}"]


def build(out: Path, program: str, *sanitize: str) -> Path:
    sources = [str(HERE / program), *map(str, sorted(RING.rglob("*.c")))]
    command = ["gcc", *STRICT, *sanitize, "-o", str(out), *sources, "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def run(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return build(tmp_path_factory.mktemp("asan") / "hostile", "hostile.c", *flags)


SEEDS = range(1, size(4, 24) + 1)  # each draws its own options
FRAMES = 100_000


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_frames_are_read_within_their_bounds_and_counted(hostile: Path, seed: int) -> None:
    *counts, verdict = run([str(hostile), str(seed), str(FRAMES)])
    assert verdict == "balanced"
    by_reason = {name: int(count) for name, count in map(str.split, counts)}
    assert by_reason.pop("inner") + by_reason.pop("fragments") >= 0
    assert sum(by_reason.values()) == FRAMES
    tally(seed, by_reason)


# What a set of options can end in differs: all together they must end in every way there is.
_ENDED_IN: dict[int, set[str]] = {}


def tally(seed: int, by_reason: dict[str, int]) -> None:
    _ENDED_IN[seed] = {reason for reason, count in by_reason.items() if count}
    if len(_ENDED_IN) == len(SEEDS):
        assert set.union(*_ENDED_IN.values()) == set(by_reason)


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return build(tmp_path_factory.mktemp("slots") / "slots", "slots.c", *flags)


def test_every_key_is_found_and_no_other_where_each_has_its_own_hash(slots: Path) -> None:
    run([str(slots), "1000", "1000", str(size(20_000, 200_000))])


def test_every_key_is_found_where_all_hashes_are_equal_and_the_counts_are_full(slots: Path) -> None:
    assert run([str(slots), "2000", "1", "20000"]) == ["255"]


def test_every_key_is_found_where_hashes_share_groups_and_counts(slots: Path) -> None:
    run([str(slots), "2000", "16", str(size(10_000, 50_000))])


def test_the_hand_off_is_free_of_races(tmp_path: Path) -> None:
    # The fences around the snapshot of the books order atomic words, which TSan sees anyway.
    race = build(tmp_path / "race", "handoff_race.c", "-fsanitize=thread", "-Wno-tsan")
    # Without address randomisation: old TSan runtimes do not know new kernels' layouts.
    assert run(["setarch", "-R", str(race)]) == ["right"]


def test_hostile_filters_stay_within_their_bounds_and_end(tmp_path: Path) -> None:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    hostile = build(tmp_path / "filters", "filter_hostile.c", *flags)
    [counts] = run([str(hostile), "1", str(size(30_000, 300_000))])
    checked, accepted = map(int, counts.split())
    # Enough pass the check, and run to either end.
    assert 1000 < accepted < checked - 1000
