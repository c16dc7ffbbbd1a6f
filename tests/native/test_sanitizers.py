"""The C core under ASan, UBSan and TSan, compiled for the purpose from the same files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sanitized import THREADS, link
from tests.support.sizes import size

HERE = Path(__file__).resolve().parent

Linked = Callable[[str], str]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    """A function that links a program with the core under ASan and UBSan."""
    folder = tmp_path_factory.mktemp("core")
    return lambda name: str(link(folder / name, HERE / f"{name}.c"))


@pytest.fixture(scope="module")
def core_with_threads(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    """The same under TSan."""
    folder = tmp_path_factory.mktemp("tsan")
    return lambda name: str(link(folder / name, HERE / f"{name}.c", sanitize=THREADS))


def run(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def hostile(core: Linked) -> str:
    return core("hostile")


# Each draws its own options. The two of the short run meet every reason twice or more often.
SEEDS = size([4, 13], [*range(1, 25)])
FRAMES = size(40_000, 100_000)


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
def slots(core: Linked) -> str:
    return core("slots")


def test_every_key_is_found_and_no_other_where_each_has_its_own_hash(slots: str) -> None:
    run([slots, "1000", "1000", str(size(20_000, 200_000))])


def test_every_key_is_found_where_all_hashes_are_equal_and_the_counts_are_full(slots: str) -> None:
    assert run([slots, "2000", "1", str(size(8_000, 20_000))]) == ["255"]


def test_every_key_is_found_where_hashes_share_groups_and_counts(slots: str) -> None:
    run([slots, "2000", "16", str(size(10_000, 50_000))])


# Without address randomisation: old TSan runtimes do not know new kernels' layouts.


@pytest.mark.long
def test_the_hand_off_is_free_of_races(core_with_threads: Linked) -> None:
    assert run(["setarch", "-R", core_with_threads("handoff_race")]) == ["right"]


@pytest.mark.long
def test_the_hand_over_of_intervals_is_free_of_races(core_with_threads: Linked) -> None:
    assert run(["setarch", "-R", core_with_threads("stats_race")]) == ["right"]


def test_every_interval_of_a_file_is_handed_over_whole(core: Linked) -> None:
    assert run([core("stats_race")]) == ["right"]


@pytest.mark.long
def test_the_names_of_addresses_are_free_of_races(core_with_threads: Linked) -> None:
    assert run(["setarch", "-R", core_with_threads("names_race")]) == ["right"]


def test_the_names_of_addresses_stay_within_their_bounds(core: Linked) -> None:
    assert run([core("names_race")]) == ["right"]


@pytest.mark.long
def test_reading_packets_beside_the_books_and_the_stop_is_free_of_races(
    core_with_threads: Linked,
) -> None:
    race = core_with_threads("closing_race")
    assert run(["setarch", "-R", race, "300"]) == ["right"]


def test_hostile_filters_stay_within_their_bounds_and_end(core: Linked) -> None:
    [counts] = run([core("filter_hostile"), "1", str(size(30_000, 300_000))])
    checked, accepted = map(int, counts.split())
    # Enough pass the check, and run to either end.
    assert 1000 < accepted < checked - 1000
