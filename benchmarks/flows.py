"""What a packet costs between its frame and its flow, and what a flow takes of memory.

``benchmarks/flows.c`` is built against the C core and run: no kernel, no Python, frames in memory.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from pathlib import Path

__all__ = ["build", "main", "run"]

_HERE = Path(__file__).resolve().parent
_RING = _HERE.parent / "netring_bpf" / "ring"
_SIZES = (64, 10_000, 1_000_000)
_PACKETS = 3_000_000
_FLOOD = 10_000_000
_CAP = 65_536


def build(folder: Path) -> Path:
    """Compile the program as the package is compiled; returns its path."""
    program = folder / "flows"
    sources = [str(_HERE / "flows.c"), *map(str, sorted(_RING.glob("*.c")))]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{_RING}"]
    subprocess.run(["gcc", *flags, "-o", str(program), *sources, "-lpthread"], check=True)
    return program


def run(program: Path, *arguments: object) -> dict[str, float]:
    """Run it once; what it said, by name."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def main(rounds: int) -> None:
    """Print the medians of so many interleaved rounds, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        cases: dict[str, tuple[object, ...]] = {
            **{f"{size:,} flows": ("steady", size, _PACKETS) for size in (*_SIZES, _CAP)},
            "flood, random": ("flood", _FLOOD, _CAP, "random"),
            "flood, colliding": ("flood", _FLOOD, _CAP, "collide"),
        }
        said: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, arguments in cases.items():
                said[name].append(run(program, *arguments))
    print("| | ns per packet | bytes per flow |")
    print("|---|---|---|")
    for name, results in said.items():
        middle = statistics.median(result["ns_per_packet"] for result in results)
        memory = results[0].get("bytes_per_flow")
        print(f"| {name} | {middle:.0f} | {'' if memory is None else f'{memory:.0f}'} |")
