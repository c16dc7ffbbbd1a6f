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
_SIZES = (64, 10_000, 65_536, 1_000_000, 4_000_000)
_MEASURABLE = 10_000  #: fewer flows take less than what a page more or less makes
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


def run_cases(options: Options) -> Results:
    """Every case in turn, for so many rounds."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases = [
            Case(name, functools.partial(run_once, program, *arguments))
            for name, arguments in _arguments(options).items()
        ]
        return interleave(cases, options.rounds)


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    results = run_cases(options)
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
    ratios = [
        results.ratio("SYN flood, random", other, "ns_per_packet").text(1)
        for other in ("short connections", f"{_CAP:,} TCP")
    ]
    note = (
        f"A packet of the flood takes {ratios[0]} times what one of short connections does (8 "
        f"packets from the SYN to the last ACK), and {ratios[1]} times one of {_CAP:,} that go on."
    )
    return Report("table", (table,), (note,), figures=results.values)
