"""Random filters on random frames, engine against engine: ``scripts/fuzz-filter``.

A pair is one expression and one frame. For each pair, libpcap's own interpreter, ``Filter.matches``
and the XDP program in the kernel must say the same. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from netring_bpf import Filter
from netring_bpf.bpf import program as program_module
from netring_bpf.bpf.engines import open_engine
from netring_bpf.errors import FilterError, NetringError
from netring_bpf.filter.libpcap import Interpreter, Savefile
from tests.support.engines import without_tag
from tests.support.grammar import Frames, Grammar

FRAMES_CHANGE_AFTER = 50  # expressions
# CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF: without CAP_PERFMON the C is another one.
THREE_CAPABILITIES = 1 << 12 | 1 << 13 | 1 << 39
_SHOWN = 20


@dataclass
class Outcome:
    pairs: int = 0
    expressions: int = 0
    refused: int = 0  # by libpcap: a contradiction, or an operation it does not have
    matched: int = 0
    mismatches: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.pairs += other.pairs
        self.expressions += other.expressions
        self.refused += other.refused
        self.matched += other.matched
        self.mismatches += other.mismatches


@contextlib.contextmanager
def _capabilities(held: int) -> Iterator[None]:
    original = program_module.effective
    program_module.effective = lambda: held
    try:
        yield
    finally:
        program_module.effective = original


def compare(expression: str, frames: list[bytes], *, live: bool, by_helper: bool) -> Outcome:
    """One expression on every frame, as for a file or as for live traffic."""
    outcome = Outcome(expressions=1)
    kind = f"{'live' if live else 'file'}, {'helper' if by_helper else 'direct'} loads"
    try:
        wanted = Filter(expression)
        judge: Interpreter | None = Interpreter(wanted.instructions)
        if live:
            wanted = wanted.for_interface("lo")
            # libpcap's interpreter knows of no tag beside the frame.
            judge = None if "vlan" in expression else judge
    except FilterError:
        return Outcome(refused=1)
    try:
        with (
            _capabilities(THREE_CAPABILITIES if by_helper else -1),
            open_engine("xdp", wanted) as xdp,
        ):
            for frame in frames:
                ours = wanted.matches(frame)
                said = {"python": ours, "xdp": xdp.matches(frame, len(frame))}
                if judge is not None:
                    shown = without_tag(frame) if live else frame
                    said["libpcap"] = judge.run(shown, len(shown)) != 0
                outcome.pairs += 1
                outcome.matched += ours
                if len(set(said.values())) != 1:
                    outcome.mismatches.append(f"{expression!r} ({kind}) {frame.hex()}: {said}")
    except NetringError as error:
        outcome.mismatches.append(f"{expression!r} ({kind}): {type(error).__name__}: {error}")
    return outcome


def run(
    seed: int,
    pairs: int,
    frames_each: int,
    captured: list[bytes] | None = None,
    *,
    job: int = 0,
    jobs: int = 1,
) -> Outcome:
    """One job's share of the pairs: at least ``pairs / jobs``."""
    total = Outcome()
    frames: list[bytes] = []
    batch = -1
    for index in itertools.count(job, jobs):
        if total.pairs * jobs >= pairs:
            return total
        if index // FRAMES_CHANGE_AFTER != batch:
            batch = index // FRAMES_CHANGE_AFTER
            frames = Frames((seed, batch), captured).batch(frames_each)
        total.add(
            compare(
                Grammar((seed, index)).expression(),
                frames,
                live=index % 5 in {1, 3},
                by_helper=index % 4 >= 2,
            )
        )
    raise AssertionError


def frames_of(paths: list[Path]) -> list[bytes]:
    """The Ethernet frames of capture files."""
    found: list[bytes] = []
    for path in paths:
        with Savefile(path) as savefile:
            if savefile.linktype == 1:
                found += [frame.data for frame in savefile]
    return found


def _job(arguments: tuple[int, int, int, list[bytes], int, int]) -> Outcome:
    seed, pairs, frames_each, captured, job, jobs = arguments
    return run(seed, pairs, frames_each, captured, job=job, jobs=jobs)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz-filter", description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=1000, help="frames for each expression")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("captures", nargs="*", type=Path, help="files to take frames from too")
    options = parser.parse_args()
    os.environ["NETRING_BPF_CACHE"] = ""  # every expression is new
    captured = frames_of(options.captures)
    begin = time.monotonic()
    total = Outcome()
    shares = [
        (options.seed, options.pairs, options.frames, captured, job, options.jobs)
        for job in range(options.jobs)
    ]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for outcome in pool.imap_unordered(_job, shares):
            total.add(outcome)
    for line in total.mismatches[:_SHOWN]:
        print(line)
    print(
        f"seed {options.seed}: {total.pairs} pairs of {total.expressions} expressions "
        f"({total.refused} more are none to libpcap), {total.matched} matched, "
        f"{len(total.mismatches)} mismatches, {time.monotonic() - begin:.0f} s"
    )
    return 1 if total.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
