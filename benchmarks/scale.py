"""The gain of more queues, threads and sockets: 1 and 2 of each, and 4 with 8 CPUs or more.

Each sender is a generator on a CPU of its own. A veth puts the frames of one CPU into one receive
queue, so there are as many senders as queues. TPACKET_V3 has the same senders. The readers' threads
are on the last CPUs. With fewer CPUs than senders and threads together, some share one, and the
tables say less about the capture than about the machine.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.generator import Generator, Load
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from tests.support.lab import Namespace, VethPair

__all__ = ["run"]

_ROOT = Path(__file__).resolve().parents[1]
_FLOWS = 10_000
_FRAMES, _QUICK = 2_000_000, 50_000
_CPUS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Setup:
    """A capture. It has a sender for each queue; a thread of TPACKET_V3 is a socket."""

    backend: str
    queues: int
    threads: int

    @property
    def name(self) -> str:
        """The name in the table."""
        plural = "queue" if self.queues == 1 else "queues"
        threads = "thread" if self.threads == 1 else "threads"
        return f"{self.backend}, {self.queues} {plural}, {self.threads} {threads}"

    @property
    def cpus(self) -> str:
        """The CPUs of the readers' threads: the last ones, from the end."""
        return ",".join(str((_CPUS - 1 - n) % _CPUS) for n in range(self.threads))


def _setups() -> list[Setup]:
    counts = [1, 2] + ([4] if _CPUS >= 8 else [])
    return [
        Setup(backend, queues, threads)
        for backend in ("af_xdp", "tpacket_v3")
        for queues in counts
        for threads in counts
        if threads == 1 or threads == queues or (backend == "tpacket_v3" and queues == 1)
    ]


def _measure(setup: Setup, frames: int) -> dict[str, float]:
    load = Load(count=frames // setup.queues, flows=_FLOWS // setup.queues)
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(Namespace())
        VethPair(namespace, "va", namespace, "vb", queues=setup.queues)
        namespace.run(["ethtool", "-K", "vb", "gro", "on"])
        receiver = namespace.popen(
            ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "benchmarks.scale_capture", "vb",
             setup.backend, str(setup.threads), setup.cpus],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert receiver.stdout is not None
        if receiver.stdout.readline() != "ready\n":
            raise RuntimeError(f"{setup.name}: the capture did not start")
        senders = [
            stack.enter_context(Generator(namespace, "va", load, cpu=cpu % _CPUS))
            for cpu in range(setup.queues)
        ]
        for sender in senders:
            sender.start()
        offered = [sender.wait() for sender in senders]
        said, _ = receiver.communicate(timeout=60)
    figures = {name: float(value) for name, value in map(str.split, said.splitlines())}
    if not figures["balanced"]:
        raise RuntimeError(f"{setup.name}: the books do not balance")
    sent = sum(o.frames for o in offered)
    took = max(o.ns for o in offered)
    return {
        "offered_rate": 1e9 * sent / took,
        "received_rate": 1e9 * figures["received"] / took,
        "received_share": figures["received"] / sent,
        "lost_share": figures["lost"] / sent,
        "reader_ns": figures["reader_ns"] / max(figures["received"], 1),
        "tables": figures["tables"],
    }


def _rows(results: Results, setups: list[Setup]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for setup in setups:
        first = Setup(setup.backend, 1, 1)
        rows.append(
            (
                setup.name,
                results.ratio(setup.name, first.name, "received_rate").text(2),
                results.spread(setup.name, "offered_rate").text(2, 1e6),
                results.spread(setup.name, "received_rate").text(2, 1e6),
                results.spread(setup.name, "received_share").text(1, 0.01),
                results.spread(setup.name, "lost_share").text(1, 0.01),
                results.spread(setup.name, "reader_ns").text(),
                results.spread(setup.name, "tables").text(),
            )
        )
    return tuple(rows)


def run(options: Options) -> Report:
    """Run all of it, and tabulate."""
    frames = _QUICK if options.quick else _FRAMES
    setups = _setups()
    cases = [Case(s.name, lambda s=s: _measure(s, frames)) for s in setups]  # type: ignore[misc]
    results = interleave(cases, options.rounds)
    table = Table(
        f"{frames:,} frames of 60 bytes in {_FLOWS:,} flows",
        ("capture", "received, times 1 queue and 1 thread", "million offered/s",
         "million received/s", "% received", "% lost in the ring", "reader ns/frame",
         "tables in use"),
        _rows(results, setups),
    )  # fmt: skip
    note = (
        f"{_CPUS} CPUs: a sender for each queue on the first, the readers on the last. The veth "
        "lost all other frames, before the capture. No floor in C runs here: `live` has it for one "
        "queue and one thread, the row that the ratios refer to."
    )
    return Report("scale", (table,), (note,), results.values)
