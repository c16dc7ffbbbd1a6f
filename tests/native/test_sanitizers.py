"""The C core under ASan, UBSan and TSan, compiled for the purpose from the same files."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.sizes import size

HERE = Path(__file__).resolve().parent
RING = ROOT / "netring_bpf" / "ring"
STRICT = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-O1", f"-I{RING}"]
ADDRESSES = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# The fences around the snapshot of the books order atomic words, which TSan sees anyway.
THREADS = ("-fsanitize=thread", "-Wno-tsan")


def gcc(*arguments: str | Path) -> None:
    command = ["gcc", *STRICT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Core:
    """The C core, compiled once for all programs that are linked with it."""

    folder: Path
    sanitize: tuple[str, ...]

    @classmethod
    def compiled(cls, folder: Path, *sanitize: str) -> Core:
        def compile_one(source: Path) -> None:
            name = "-".join(source.relative_to(RING).parts)
            gcc(*sanitize, "-c", "-o", folder / f"{name}.o", source)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(compile_one, sorted(RING.rglob("*.c"))))
        return cls(folder, sanitize)

    def program(self, name: str) -> str:
        out = self.folder / name
        objects = sorted(self.folder.glob("*.o"))
        gcc(*self.sanitize, "-o", out, HERE / f"{name}.c", *objects, "-lpthread", "-ldl")
        return str(out)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return Core.compiled(tmp_path_factory.mktemp("core"), *ADDRESSES)


def run(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def hostile(core: Core) -> str:
    return core.program("hostile")


SEEDS = range(1, size(2, 24) + 1)  # each draws its own options
FRAMES = 100_000


@pytest.mark.parametrize("seed", SEEDS)
def test_hostile_frames_are_read_within_their_bounds_and_counted(hostile: str, seed: int) -> None:
    *counts, verdict = run([hostile, str(seed), str(FRAMES)])
    assert verdict == "balanced"
    by_reason = {name: int(count) for name, count in map(str.split, counts)}
    assert by_reason.pop("inner") + by_reason.pop("fragments") >= 0
    assert sum(by_reason.values()) == FRAMES
    tally(seed, by_reason)


# Each set of options reaches other reasons; all sets together must reach every reason.
_ENDED_IN: dict[int, set[str]] = {}


def tally(seed: int, by_reason: dict[str, int]) -> None:
    _ENDED_IN[seed] = {reason for reason, count in by_reason.items() if count}
    if len(_ENDED_IN) == len(SEEDS):
        assert set.union(*_ENDED_IN.values()) == set(by_reason)


@pytest.fixture(scope="module")
def slots(core: Core) -> str:
    return core.program("slots")


def test_every_key_is_found_and_no_other_where_each_has_its_own_hash(slots: str) -> None:
    run([slots, "1000", "1000", str(size(20_000, 200_000))])


def test_every_key_is_found_where_all_hashes_are_equal_and_the_counts_are_full(slots: str) -> None:
    assert run([slots, "2000", "1", "20000"]) == ["255"]


def test_every_key_is_found_where_hashes_share_groups_and_counts(slots: str) -> None:
    run([slots, "2000", "16", str(size(10_000, 50_000))])


@pytest.fixture(scope="module")
def core_with_threads(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return Core.compiled(tmp_path_factory.mktemp("tsan"), *THREADS)


# Without address randomisation: old TSan runtimes do not know new kernels' layouts.


@pytest.mark.long
def test_the_hand_off_is_free_of_races(core_with_threads: Core) -> None:
    assert run(["setarch", "-R", core_with_threads.program("handoff_race")]) == ["right"]


@pytest.mark.long
def test_the_names_of_addresses_are_free_of_races(core_with_threads: Core) -> None:
    assert run(["setarch", "-R", core_with_threads.program("names_race")]) == ["right"]


def test_the_names_of_addresses_stay_within_their_bounds(core: Core) -> None:
    assert run([core.program("names_race")]) == ["right"]


@pytest.mark.long
def test_reading_packets_beside_the_books_and_the_stop_is_free_of_races(
    core_with_threads: Core,
) -> None:
    race = core_with_threads.program("closing_race")
    assert run(["setarch", "-R", race, "300"]) == ["right"]


def test_hostile_filters_stay_within_their_bounds_and_end(core: Core) -> None:
    [counts] = run([core.program("filter_hostile"), "1", str(size(30_000, 300_000))])
    checked, accepted = map(int, counts.split())
    # Enough pass the check, and run to either end.
    assert 1000 < accepted < checked - 1000
