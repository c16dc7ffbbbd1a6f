"""Random filters on random frames: libpcap's interpreter, Filter.matches and XDP agree.

``scripts/fuzz-filter`` does the same for longer; docs/testing.md has what it found.
"""

from __future__ import annotations

import pytest

from netring_bpf import Filter
from netring_bpf.errors import FilterError
from tests.support.differential import Outcome, frames_of, run
from tests.support.grammar import Frames, Grammar
from tests.support.paths import ORACLES
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "bcc")

JOBS = size(1, 10)
PAIRS = size(4_000, 100_000)
SEED = 20_261_124


@pytest.mark.parametrize("job", range(JOBS))
def test_the_engines_agree_on_every_pair(job: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRING_BPF_CACHE", "")  # every expression is new
    captured = frames_of(sorted((ORACLES / "filter").glob("*.pcap")))  # none, where they are absent
    outcome: Outcome = run(SEED, PAIRS, 1000, captured, job=job, jobs=JOBS)
    assert outcome.mismatches == []
    assert outcome.pairs * JOBS >= PAIRS
    # Neither the frames nor the expressions are so odd that the same is always said.
    assert outcome.pairs / 50 < outcome.matched < outcome.pairs * 49 / 50


def test_the_same_seed_makes_the_same_expressions_and_frames() -> None:
    assert [Grammar(1).expression() for _ in range(3)] == [Grammar(1).expression()] * 3
    assert Frames(1).batch(50) == Frames(1).batch(50)
    assert Frames(1).batch(50) != Frames(2).batch(50)


def test_most_expressions_are_some_to_libpcap() -> None:
    refused = 0
    for seed in range(300):
        try:
            Filter(Grammar(seed).expression())
        except FilterError:
            refused += 1
    assert refused < 100
