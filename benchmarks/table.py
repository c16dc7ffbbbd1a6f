"""The cost of a packet between its frame and its flow, and the memory of a flow.

``table.c`` is built against the C core and run: no kernel, no Python, frames in memory. The floor
is ``table_floor.c``, which parses the same frames and updates a bare hash table. Both are compiled
with the package's flags and take turns.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import Case, Options, Report, Results, Table, interleave

__all__ = ["build", "run", "run_once"]

_HERE = Path(__file__).resolve().parent
_RING = _HERE.parent / "netring_bpf" / "ring"
_SIZES = (64, 10_000, 65_536, 1_000_000, 4_000_000)
_MEASURABLE = 10_000  #: with fewer flows, one page more or less decides the figure
_PACKETS = 3_000_000
_FLOOD = 10_000_000
_CAP = 65_536
_LEAST = 1.0  #: instructions a packet; functions below it do not run for every packet
_NOTE = (
    "The floor parses the same frames, hashes the five-tuple and adds to packet and byte counters "
    "in an open-addressing table: no TCP, no history, no timers, no events, no memory fetched "
    "ahead. Packets that begin or evict flows have no floor: the bare table does neither."
)
_HARNESS = frozenset({"steady", "bare", "run", "run_floor", "fill", "describe", "create_traffic"})


def build(folder: Path) -> Path:
    """Compile the program as the package is compiled; returns its path."""
    program = folder / "table"
    own = [str(_HERE / name) for name in ("table.c", "table_floor.c")]
    sources = [*own, *map(str, sorted(_RING.rglob("*.c")))]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{_RING}"]
    subprocess.run(["gcc", *flags, "-o", str(program), *sources, "-lpthread", "-ldl"], check=True)
    return program


def run_once(program: Path, *arguments: object) -> dict[str, float]:
    """Run it once; returns its figures by name."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def profile(program: Path) -> Table | None:
    """Instructions by function for a packet of 64 connections, by callgrind; None without it."""
    if shutil.which("valgrind") is None:
        return None
    ours, floor = (_by_function(program, mode) for mode in ("steady", "floor"))
    total, least = sum(ours.values()), sum(floor.values())
    ranked = sorted(ours.items(), key=lambda item: -item[1])
    rows = [
        (f"`{name}`", f"{n:.0f}", f"{100 * n / total:.0f} %") for name, n in ranked if n >= _LEAST
    ]
    rows.append(("all", f"{total:.0f}", "100 %"))
    rows.append(("the floor", f"{least:.0f}", f"{100 * least / total:.0f} %"))
    columns = ("function, with what is inlined", "instructions a packet", "of all")
    return Table("Instructions by function, 64 TCP", columns, tuple(rows))


def _by_function(program: Path, mode: str) -> dict[str, float]:
    """Instructions a packet: the difference of two runs, so that opening the flows drops out."""
    few, many = (_instructions(program, mode, packets) for packets in (64_000, 192_000))
    return {
        name: (many[name] - few.get(name, 0)) / 128_000 for name in many if name not in _HARNESS
    }


def _instructions(program: Path, mode: str, packets: int) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)]
        command += [mode, "64", str(packets), "tcp"]
        subprocess.run(command, check=True, capture_output=True)
        listing = subprocess.run(
            ["callgrind_annotate", "--threshold=100", str(out)],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    counts: Counter[str] = Counter()
    for count, name in re.findall(r"^ *([\d,]+) \([^)]*\) +\S+:([\w.]+)", listing, re.MULTILINE):
        counts[name.split(".")[0]] += int(count.replace(",", ""))
    return counts


def _floor(name: str) -> str:
    return f"floor: {name}"


def _arguments(options: Options) -> dict[str, tuple[object, ...]]:
    """The program's arguments by case; a floor stands right before its case, to run beside it."""
    packets, flood = (100_000, 500_000) if options.quick else (_PACKETS, _FLOOD)
    cases: dict[str, tuple[object, ...]] = {}
    for kind in ("TCP", "UDP"):
        for size in _SIZES[:3] if options.quick else _SIZES:
            name = f"{size:,} {kind}"
            cases[_floor(name)] = ("floor", size, packets, kind.lower())
            cases[name] = ("steady", size, packets, kind.lower())
    return cases | {
        "short connections": ("whole", packets, _CAP),
        "SYN flood, random": ("flood", flood, _CAP, "random"),
        "SYN flood, colliding": ("flood", flood, _CAP, "collide"),
    }


def run_cases(options: Options) -> tuple[Results, Table | None]:
    """Run every case in turn, round by round, then the profile."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases = [
            Case(name, functools.partial(run_once, program, *arguments))
            for name, arguments in _arguments(options).items()
        ]
        return interleave(cases, options.rounds), profile(program)


def _row(results: Results, name: str, mode: object, size: object) -> tuple[str, ...]:
    own = results.spread(name, "ns_per_packet").text()
    if mode != "steady":
        return (name, "none", own, *[""] * 4)
    floor = _floor(name)
    assert isinstance(size, int)
    memory = results.median(name, "bytes_per_flow")
    return (
        name,
        results.ratio(name, floor, "ns_per_packet").text(2),
        own,
        results.spread(floor, "ns_per_packet").text(),
        f"{memory:.0f}" if size >= _MEASURABLE else "",
        *(f"{results.median(name, figure):.0f}" for figure in ("ns_per_end", "ns_per_id")),
    )


def _flood_ratios(results: Results) -> str:
    return " ".join(
        f"A packet of the {flood} takes "
        f"{results.ratio(flood, other, 'ns_per_packet').text(2)} times one of {other}."
        for flood in ("SYN flood, random", "SYN flood, colliding")
        for other in ("short connections", f"{_CAP:,} TCP")
    )


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    results, instructions = run_cases(options)
    rows = tuple(
        _row(results, name, mode, size)
        for name, (mode, size, *_) in _arguments(options).items()
        if mode != "floor"
    )
    columns = (
        "flows", "ours / floor", "ns a packet", "floor, ns a packet", "bytes a flow",
        "ns to end a flow", "ns for its Community ID",
    )  # fmt: skip
    table = Table("From a frame to its flow", columns, rows)
    tables = (table,) if instructions is None else (table, instructions)
    return Report("table", tables, (_NOTE, _flood_ratios(results)), figures=results.values)
