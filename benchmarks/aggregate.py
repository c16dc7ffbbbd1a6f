"""The cost of aggregates (docs/stats.md): of a flow, of an interval, and of a new key in a flood.

``table.c`` runs with aggregates and without, in turn; the run without them is the floor. The share
of a CPU is that at 10,000 flows that begin and end in a second, beside what Python does once an
interval.
"""

from __future__ import annotations

import functools
import ipaddress
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.table import build, instructions, run_once
from netring_bpf import StatsOptions
from netring_bpf._core import lib
from netring_bpf.aggregate.totals import ALL, INTERVAL, Totals

__all__ = ["run"]

_CAP = 65_536
_SMALL_CAP = 17_000  # of the profile: nearly all of its flows end
_PACKETS, _FLOOD = 4_000_000, 4_000_000
_RATE = 10_000  #: flows that begin and end in a second
_PYTHON = "Python, an interval"
_STATS = "aggregates: "
_PACKETS_OF_A_FLOW = {"short connections": 8, "short connections of TLS": 10, "SYN flood": 1}
_NOTE = (
    "The floor is the same run without aggregates. A short connection of TLS has names on in both "
    "runs. The flood has a new key for nearly every packet, in tables that have long been full. "
    "Python reads six tables twice, of 10 rows each, out of 1024 keys, every 10 seconds."
)


def _arguments(options: Options) -> dict[str, tuple[tuple[object, ...], tuple[str, ...]]]:
    """The program's arguments by case, and the words behind them."""
    packets, flood = (300_000, 500_000) if options.quick else (_PACKETS, _FLOOD)
    return {
        "short connections": (("whole", packets, _CAP, "paced"), ()),
        "short connections of TLS": (("hellos", packets, _CAP, 1, "paced"), ("names",)),
        "SYN flood": (("flood", flood, _CAP, "random"), ()),
    }


def _cases(program: Path, options: Options) -> Iterator[Case]:
    for name, (arguments, words) in _arguments(options).items():
        yield Case(name, functools.partial(run_once, program, *arguments, *words))
        yield Case(_STATS + name, functools.partial(run_once, program, *arguments, "stats", *words))


def _read_an_interval() -> dict[str, float]:
    """The CPU time of Python's part, with tables that are full."""
    totals = Totals(StatsOptions())
    rounds = 50
    spent = 0.0
    for n in range(rounds):
        for kind in range(lib.NR_TOP_COUNT):
            for host in range(1024):
                key = ipaddress.IPv4Address(host * 7 + n).packed + bytes(12) + b"\x04"
                size = 8 if kind not in {lib.NR_TOP_HOSTS, lib.NR_TOP_PREFIXES} else len(key)
                fed = key if size != 8 else (host % 30).to_bytes(8, "little")
                lib.nr_aggregate_feed(totals.native, kind, fed, size, host, host)
        before = time.process_time()
        totals.add_up()
        for of in (INTERVAL, ALL):
            totals.traffic(of)
            totals.top(of, _nobody, _nobody)
        totals.clear()
        spent += time.process_time() - before
    return {"ns": 1e9 * spent / rounds}


def _nobody(_: str) -> None:
    return None


def _added(results: Results, name: str) -> float:
    """The ns that aggregates add to a flow, the median over the rounds."""
    both = [results.values[case]["ns_per_packet"] for case in (_STATS + name, name)]
    extra = sorted(on - off for on, off in zip(*both, strict=True))
    return extra[len(extra) // 2] * _PACKETS_OF_A_FLOW[name]


def _instructions_added(program: Path, name: str, options: Options) -> str:
    """The instructions that aggregates add to a flow, by callgrind; empty without it."""
    if shutil.which("valgrind") is None:
        return ""
    (mode, _, _, *rest), words = _arguments(options)[name]
    few, many = (256_000, 512_000)
    counts = [
        sum(instructions(program, mode, packets, _SMALL_CAP, *rest, *more).values())
        for more in (words, ("stats", *words))
        for packets in (few, many)
    ]
    each = (counts[3] - counts[2] - counts[1] + counts[0]) / (many - few)
    return f"{each * _PACKETS_OF_A_FLOW[name]:.0f}"


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        added = {name: _instructions_added(program, name, options) for name in _arguments(options)}
        cases = [*_cases(program, options), Case(_PYTHON, _read_an_interval)]
        results = interleave(cases, options.rounds)
    rows = [
        (
            name,
            results.ratio(_STATS + name, name, "ns_per_packet").text(2),
            results.spread(_STATS + name, "ns_per_packet").text(),
            results.spread(name, "ns_per_packet").text(),
            f"{_added(results, name):.0f}",
            added[name],
            f"{100 * _added(results, name) * _RATE / 1e9:.2f} %",
        )
        for name in _arguments(options)
    ]
    python = results.median(_PYTHON, "ns")
    rows.append((_PYTHON, "", "", "", f"{python:,.0f}", "", f"{100 * python / 10e9:.3f} %"))
    columns = (
        "flows", "with / without", "ns a packet", "floor, ns a packet", "ns more a flow",
        "instructions more a flow", "of a CPU at 10,000 flows a second",
    )  # fmt: skip
    table = Table("Aggregates beside none", columns, tuple(rows))
    return Report("aggregate", (table,), (_NOTE,), figures=results.values)
