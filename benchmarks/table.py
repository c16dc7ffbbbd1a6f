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

__all__ = ["build", "instructions", "run", "run_once"]

_HERE = Path(__file__).resolve().parent
_RING = _HERE.parent / "netring_bpf" / "ring"
_SIZES = (64, 10_000, 65_536, 1_000_000, 4_000_000)
_MEASURABLE = 10_000  #: with fewer flows, one page more or less decides the figure
_PACKETS = 3_000_000
_FLOOD = 10_000_000
_CAP = 65_536
_NAMES = "names on: "
_LEAST = 1.0  #: instructions a packet; functions below it do not run for every packet
_NOTE = (
    "The floor parses the same frames, hashes the five-tuple and adds to packet and byte counters "
    "in an open-addressing table: no TCP, no history, no timers, no events, no memory fetched "
    "ahead. Packets that begin or evict flows have no floor: the bare table does neither."
)
_NAMES_NOTE = (
    "Names on beside off: the same packets, and the floor is the run with names off. The clients' "
    "hellos are those of OpenSSL, 517 bytes; a packet of such connections is one of ten. "
    "Bytes a flow are without the store of names, which is bounded: four cells of 64 bytes a flow. "
    "The torrent has a million new hellos a minute of packet time, whole, or half of one whose "
    "other half never comes."
)
_HARNESS = frozenset(
    {"steady", "bare", "run", "run_frames", "run_floor", "fill", "describe", "create_traffic"}
)


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


def profile_names(program: Path) -> Table | None:
    """Instructions of the same packets with names off and on; None without callgrind."""
    if shutil.which("valgrind") is None:
        return None
    rows = []
    for kind in ("tcp", "udp", "tls"):
        off, on = (
            sum(_by_function(program, "steady", kind, *more).values()) for more in ((), ("names",))
        )
        rows.append((f"64 {kind.upper()}", f"{on / off:.3f}", f"{on:.0f}", f"{off:.0f}"))
    columns = ("flows", "on / off", "instructions a packet", "with names off")
    return Table("Instructions, names on beside off", columns, tuple(rows))


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


def _by_function(program: Path, mode: str, kind: str = "tcp", *more: str) -> dict[str, float]:
    """Instructions a packet: the difference of two runs, so that opening the flows drops out."""
    few, many = (
        instructions(program, mode, 64, packets, kind, *more) for packets in (64_000, 192_000)
    )
    return {
        name: (many[name] - few.get(name, 0)) / 128_000 for name in many if name not in _HARNESS
    }


def instructions(program: Path, *arguments: object) -> Counter[str]:
    """Return the instructions of a run by function, by callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)]
        command += map(str, arguments)
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


def _names_arguments(options: Options) -> dict[str, tuple[object, ...]]:
    """The program's arguments of the cases that run with names off and on."""
    packets, flood = (200_000, 2_000_000) if options.quick else (_PACKETS, _FLOOD)
    cases: dict[str, tuple[object, ...]] = {}
    for kind in ("TCP", "UDP", "TLS"):
        for size in _SIZES[:3] if options.quick else _SIZES[:4]:
            cases[f"{size:,} {kind}"] = ("steady", size, packets, kind.lower())
    return cases | {
        "short connections of TLS": ("hellos", packets, _CAP, 1),
        "short connections of TLS, hellos in two": ("hellos", packets, _CAP, 2),
        "torrent of hellos": ("torrent", flood, _CAP, "whole"),
        "torrent of halves": ("torrent", flood, _CAP, "half"),
    }


def _names_cases(program: Path, options: Options) -> list[Case]:
    """Names off, then on, case by case; those with names off have their places already in part."""
    known = _arguments(options)
    cases = []
    for name, arguments in _names_arguments(options).items():
        if name not in known:
            cases.append(Case(name, functools.partial(run_once, program, *arguments)))
        cases.append(Case(_NAMES + name, functools.partial(run_once, program, *arguments, "names")))
    return cases


def run_cases(options: Options) -> tuple[Results, list[Table]]:
    """Run every case in turn, round by round, then the profiles."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases = [
            Case(name, functools.partial(run_once, program, *arguments))
            for name, arguments in _arguments(options).items()
        ]
        cases += _names_cases(program, options)
        profiles = [profile(program), profile_names(program)]
        results = interleave(cases, options.rounds)
    return results, [table for table in profiles if table is not None]


_LEFT_OUT = ("too_long", "pool_full", "cut", "gap", "store_full", "left_out", "handoff_full")


def _names_row(results: Results, name: str, mode: object, size: object) -> tuple[str, ...]:
    on = _NAMES + name
    assert isinstance(size, int)
    counted = mode == "steady" and size >= _MEASURABLE
    memory = [f"{results.median(case, 'bytes_per_flow'):.0f}" for case in (on, name) if counted]
    stored = [f"{results.median(on, 'store_per_flow'):.0f}"] if counted else []
    grown = [f"{results.median(on, 'bytes_grown'):.0f}"] if mode == "torrent" else [""]
    missed = ", ".join(
        f"{reason} {count:,.0f}"
        for reason in _LEFT_OUT
        if (count := results.median(on, reason)) > 0
    )
    return (
        name,
        results.ratio(on, name, "ns_per_packet").text(2),
        results.spread(on, "ns_per_packet").text(),
        results.spread(name, "ns_per_packet").text(),
        *(memory or ["", ""]),
        *(stored or [""]),
        *grown,
        f"{results.median(on, 'names_read'):,.0f}",
        missed,
    )


def _names_table(results: Results, options: Options) -> Table:
    rows = tuple(
        _names_row(results, name, mode, size)
        for name, (mode, size, *_) in _names_arguments(options).items()
    )
    columns = (
        "flows", "names on / off", "ns a packet", "floor: off, ns a packet", "bytes a flow",
        "with names off", "store, bytes a flow", "bytes grown", "exchanges read", "left out",
    )  # fmt: skip
    return Table("Names on beside off", columns, rows)


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
    results, profiles = run_cases(options)
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
    tables = (table, _names_table(results, options), *profiles)
    notes = (_NOTE, _flood_ratios(results), _NAMES_NOTE)
    return Report("table", tables, notes, figures=results.values)
