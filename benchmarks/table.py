"""What a packet costs between its frame and its flow, and what a flow takes of memory.

``benchmarks/table.c`` is built against the C core and run: no kernel, no Python, frames in memory.
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
_MEASURABLE = 10_000  #: fewer flows take less than what a page more or less makes
_PACKETS = 3_000_000
_FLOOD = 10_000_000
_CAP = 65_536
_LEAST = 1.0  #: instructions a packet: what takes less is not of every packet


def build(folder: Path) -> Path:
    """Compile the program as the package is compiled; returns its path."""
    program = folder / "table"
    sources = [str(_HERE / "table.c"), *map(str, sorted(_RING.rglob("*.c")))]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{_RING}"]
    subprocess.run(["gcc", *flags, "-o", str(program), *sources, "-lpthread"], check=True)
    return program


def run_once(program: Path, *arguments: object) -> dict[str, float]:
    """Run it once; what it said, by name."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def profile(program: Path) -> Table | None:
    """Instructions by function for a packet of 64 connections, by callgrind; None without it."""
    if shutil.which("valgrind") is None:
        return None
    few, many = (_instructions(program, packets) for packets in (64_000, 192_000))
    cost = {name: (many[name] - few.get(name, 0)) / 128_000 for name in many}
    ours = {name: count for name, count in cost.items() if name not in {"steady", "run"}}
    total = sum(ours.values())
    ranked = sorted(ours.items(), key=lambda item: -item[1])
    rows = [
        (f"`{name}`", f"{n:.0f}", f"{100 * n / total:.0f} %") for name, n in ranked if n >= _LEAST
    ]
    rows.append(("all", f"{total:.0f}", "100 %"))
    columns = ("function, with what is inlined", "instructions a packet", "of all")
    return Table("Where the instructions go, 64 TCP", columns, tuple(rows))


def _instructions(program: Path, packets: int) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program)]
        command += ["steady", "64", str(packets), "tcp"]
        subprocess.run(command, check=True, capture_output=True)
        listing = subprocess.run(
            ["callgrind_annotate", "--threshold=100", str(out)],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    counts: Counter[str] = Counter()
    for count, name in re.findall(r"^ *([\d,]+) \([^)]*\) +\S+:([\w.]+)", listing, re.MULTILINE):
        counts[name.split(".")[0]] += int(count.replace(",", ""))
    return counts


def _arguments(options: Options) -> dict[str, tuple[object, ...]]:
    packets, flood = (100_000, 500_000) if options.quick else (_PACKETS, _FLOOD)
    sizes = _SIZES[:3] if options.quick else _SIZES
    steady: dict[str, tuple[object, ...]] = {
        f"{size:,} {kind}": ("steady", size, packets, kind.lower())
        for kind in ("TCP", "UDP")
        for size in sizes
    }
    return steady | {
        "short connections": ("whole", packets, _CAP),
        "SYN flood, random": ("flood", flood, _CAP, "random"),
        "SYN flood, colliding": ("flood", flood, _CAP, "collide"),
    }


def run_cases(options: Options) -> tuple[Results, Table | None]:
    """Every case in turn, for so many rounds; and the profile."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases = [
            Case(name, functools.partial(run_once, program, *arguments))
            for name, arguments in _arguments(options).items()
        ]
        return interleave(cases, options.rounds), profile(program)


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    results, instructions = run_cases(options)
    rows = []
    for name, (what, size, *_) in _arguments(options).items():
        cells = [results.spread(name, "ns_per_packet").text()]
        if what == "steady":
            memory = results.median(name, "bytes_per_flow")
            assert isinstance(size, int)
            cells.append(f"{memory:.0f}" if size >= _MEASURABLE else "")
            cells += [
                f"{results.median(name, figure):.0f}" for figure in ("ns_per_end", "ns_per_id")
            ]
        rows.append((name, *cells, *[""] * (4 - len(cells))))
    columns = (
        "flows",
        "ns a packet",
        "bytes a flow",
        "ns to end a flow",
        "ns for its Community ID",
    )
    table = Table("From a frame to its flow", columns, tuple(rows))
    ratios = {
        (flood, other): results.ratio(flood, other, "ns_per_packet").text(2)
        for flood in ("SYN flood, random", "SYN flood, colliding")
        for other in ("short connections", f"{_CAP:,} TCP")
    }
    note = " ".join(
        f"A packet of the {flood} takes {ratio} times one of {other}."
        for (flood, other), ratio in ratios.items()
    )
    tables = (table,) if instructions is None else (table, instructions)
    return Report("table", tables, (note,), figures=results.values)
