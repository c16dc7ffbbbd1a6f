"""From a frame on the wire to the coroutine of a subscriber that hears of its flow.

The generator writes the time into the first frame of each flow as it sends it. The subscriber
compares that with the time at which it holds the ``FlowStarted``, so that kernel, reader, flow
table, hand-off, event loop and decoding all count. On two CPUs the generator has one to itself; the
reader's thread and the event loop share the other.

The floor is a loop in C that reads the same ring and compares the same times when it has the frame:
kernel and wake-up count, but neither a flow table nor Python. Each setting has the floor of its
ring beside it.

The table has sender and receiver run as ordinary programs, in line for a CPU. With ``--every``, a
second one gives them a real-time priority (SCHED_FIFO), so that they wait for no other program, at
more rates and beside a busy event loop as well.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.generator import Load
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.latency_capture import BESIDE_SENDER
from benchmarks.processor import RECEIVER, python_on
from benchmarks.receivers import Receiver, build, floor
from benchmarks.trial import Trial, measure
from tests.support.rig import PORT

__all__ = ["run"]

_BUSY_POLLING = "af_xdp, busy polling"
_FLOORS = {
    "af_xdp": "af_xdp native",
    BESIDE_SENDER: "af_xdp native",
    _BUSY_POLLING: "af_xdp native",
    "tpacket_v3": "tpacket_v3",
    "tpacket_v3, 1 ms": "tpacket_v3 latency",
}
_WAYS = ("af_xdp", BESIDE_SENDER, "tpacket_v3", "tpacket_v3, 1 ms")
#: Frames a second; one frame in so many begins a flow.
_RATES = ((1_000, 1), (10_000, 1), (100_000, 10), (100_000, 1))
_SECONDS = 1
_COLUMNS = (
    "capture", "event loop", "frames/s", "new flows/s", "p50, times the floor",
    "p99, times the floor", "p50", "p99", "p99.9", "missed",
)  # fmt: skip
_NOTES = (
    "The floor is a loop in C that compares the same times when it has the frame, beside no event "
    "loop.",
    "Another task keeps the busy event loop for a millisecond at a time: an event waits for the "
    "callback that takes it, and once more for its subscriber's turn.",
    "The kernel keeps 50 ms of each second for ordinary programs that want to run, before any "
    "real-time program: figures near 50 ms mean that the machine was not quiet.",
    "Busy polling needs a CPU of its own for the reader and has none here, so it is measured in "
    "line only. Missed events: the subscriber was more than 65,536 events behind.",
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a table."""

    way: str
    beside: str
    rate: int
    every: int
    favoured: bool
    program: Path  #: of the floor

    @property
    def name(self) -> str:
        return f"{self.way}, {self.beside}, {self.rate} of {self.every}, {self.place}"

    @property
    def floor(self) -> str:
        """The name of the case below this one; several rows share it."""
        return f"floor: {_FLOORS[self.way]}, {self.rate} of {self.every}, {self.place}"

    @property
    def place(self) -> str:
        return "first" if self.favoured else "in line"

    def cases(self, seconds: float) -> list[Case]:
        """The floor and the row itself."""
        load = Load(int(self.rate * seconds), per_flow=1, rate=self.rate, stamp=self.every)
        command = python_on(RECEIVER, "benchmarks.latency_capture", PORT, self.way, self.beside)
        least = floor(PORT, _FLOORS[self.way], self.program, "age")
        receivers = (
            dataclasses.replace(least, name=self.floor),
            Receiver(self.name, command, native=self.way.startswith("af_xdp")),
        )
        return [
            Case(
                receiver.name,
                functools.partial(
                    measure,
                    Trial(dataclasses.replace(receiver, favoured=self.favoured), load),
                ),
            )
            for receiver in receivers
        ]

    def cells(self, results: Results, *, is_floor: bool) -> tuple[str, ...]:
        """Its line in the table, or that of its floor."""
        name = self.floor if is_floor else self.name
        ratios = tuple(
            "" if is_floor else results.ratio(name, self.floor, p).text(1) for p in ("p50", "p99")
        )
        spreads = (results.spread(name, p).text(3, 1e6) for p in ("p50", "p99", "p99.9"))
        offered = results.median(name, "offered") // self.every
        missed = f"{offered - results.median(name, 'heard'):,.0f}"
        shown = f"floor: {_FLOORS[self.way]}" if is_floor else self.way
        beside = "" if is_floor else self.beside
        new = f"{self.rate // self.every:,}"
        return (shown, beside, f"{self.rate:,}", new, *ratios, *spreads, missed)


def _lines(rows: Sequence[_Row], results: Results) -> Iterator[tuple[str, ...]]:
    """Each row, and in front of the first that has it, its floor."""
    shown: set[str] = set()
    for row in rows:
        if row.floor not in shown:
            yield row.cells(results, is_floor=True)
            shown.add(row.floor)
        yield row.cells(results, is_floor=False)


def run(options: Options) -> Report:
    """Measure all ways in line; with ``every``, also first, at all rates, beside both loops."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(options, build(Path(folder), "floor"))


def _run(options: Options, program: Path) -> Report:
    rates, seconds = (((10_000, 1),), 0.2) if options.quick else (_RATES, _SECONDS)
    in_line = [
        _Row(way, "idle", *rate, favoured=False, program=program)
        for rate in rates[-2:]
        for way in (*_WAYS, _BUSY_POLLING)
    ]
    first = [
        _Row(way, beside, *rate, favoured=True, program=program)
        for rate in rates
        for beside in ("idle", "busy")
        for way in _WAYS
        if options.every
    ]
    cases = {case.name: case for row in (*in_line, *first) for case in row.cases(seconds)}
    results = interleave([*cases.values()], options.rounds)
    title = "Milliseconds from the wire to the coroutine"
    tables = tuple(
        Table(f"{title}, {how}", _COLUMNS, tuple(_lines(rows, results)), 2)
        for how, rows in (("in line for the CPUs", in_line), ("before all else on them", first))
        if rows
    )
    return Report("latency", tables, _NOTES, results.values)
