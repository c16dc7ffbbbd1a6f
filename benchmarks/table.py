"""What a packet costs between its frame and its flow, and what a flow takes of memory.

``benchmarks/table.c`` is built against the C core and run: no kernel, no Python, frames in memory.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from benchmarks.harness import Case, Options, Report, Results, Table, interleave

__all__ = ["build", "run", "run_once"]

_HERE = Path(__file__).resolve().parent
_RING = _HERE.parent / "netring_bpf" / "ring"
_SIZES = (64, 10_000, 1_000_000)
_PACKETS = 3_000_000
_FLOOD = 10_000_000
_CAP = 65_536


def build(folder: Path) -> Path:
    """Compile the program as the package is compiled; returns its path."""
    program = folder / "table"
    sources = [str(_HERE / "table.c"), *map(str, sorted(_RING.glob("*.c")))]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{_RING}"]
    subprocess.run(["gcc", *flags, "-o", str(program), *sources, "-lpthread"], check=True)
    return program


def run_once(program: Path, *arguments: object) -> dict[str, float]:
    """Run it once; what it said, by name."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def run_cases(options: Options) -> Results:
    """Every case in turn, for so many rounds."""
    packets, flood = (100_000, 500_000) if options.quick else (_PACKETS, _FLOOD)
    arguments: dict[str, tuple[object, ...]] = {
        **{f"{size:,}": ("steady", size, packets) for size in (*_SIZES, _CAP)},
        "flood, random": ("flood", flood, _CAP, "random"),
        "flood, colliding": ("flood", flood, _CAP, "collide"),
    }
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases = [
            Case(name, functools.partial(run_once, program, *arguments[name])) for name in arguments
        ]
        return interleave(cases, options.rounds)


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    results = run_cases(options)
    rows = []
    for name, figures in results.values.items():
        memory = figures.get("bytes_per_flow")
        shown = "" if memory is None else f"{memory[0]:.0f}"
        rows.append((name, results.spread(name, "ns_per_packet").text(), shown))
    table = Table("From a frame to its flow", ("flows", "ns a packet", "bytes a flow"), tuple(rows))
    return Report("table", (table,), figures=results.values)
