"""From a frame on the wire to the coroutine of a subscriber that hears of its flow.

The generator writes the time into the first frame of each flow as it sends it. The subscriber
compares that with the time at which it holds the ``FlowStarted``, so that kernel, reader, flow
table, hand-off, event loop and decoding all count. On two CPUs the generator has one to itself; the
reader's thread and the event loop share the other.

The floor is a loop in C that reads the same ring and compares the same times when it has the frame:
kernel and wake-up count, but neither a flow table nor Python. It is there for the default settings
of both backends, beside an idle event loop.

The first table gives sender and receiver a real-time priority (SCHED_FIFO), so that they wait for
no other program. The second runs them as ordinary programs, which may have to wait for a CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
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
_FLOORS = {"af_xdp": "af_xdp native", "tpacket_v3": "tpacket_v3"}
_WAYS = ("af_xdp", BESIDE_SENDER, "tpacket_v3", "tpacket_v3, 1 ms")
#: Frames a second; one frame in so many begins a flow.
_RATES = ((1_000, 1), (10_000, 1), (100_000, 10), (100_000, 1))
_SECONDS = 3
_COLUMNS = (
    "capture", "event loop", "frames/s", "new flows/s", "p50, times the floor",
    "p99, times the floor", "p50", "p99", "p99.9", "missed",
)  # fmt: skip
_NOTES = (
    "The floor is a loop in C that compares the same times when it has the frame. Other settings "
    "and the busy event loop have no floor.",
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
        place = "first" if self.favoured else "in line"
        return f"{self.way}, {self.beside}, {self.rate} of {self.every}, {place}"

    @property
    def floor(self) -> str | None:
        """The name of the case below this one."""
        if self.way not in _FLOORS or self.beside != "idle":
            return None
        return f"floor: {self.name}"

    def cases(self, seconds: float) -> list[Case]:
        load = Load(int(self.rate * seconds), per_flow=1, rate=self.rate, stamp=self.every)
        command = python_on(RECEIVER, "benchmarks.latency_capture", PORT, self.way, self.beside)
        receivers = [Receiver(self.name, command, native=self.way.startswith("af_xdp"))]
        if self.floor is not None:
            least = floor(PORT, _FLOORS[self.way], self.program, "age")
            receivers.insert(0, dataclasses.replace(least, name=self.floor))
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

    def rows(self, results: Results) -> list[tuple[str, ...]]:
        if self.floor is None:
            return [self._cells(results, self.way, self.name, ("none", "none"))]
        ratios = (results.ratio(self.name, self.floor, p).text(1) for p in ("p50", "p99"))
        return [
            self._cells(results, f"floor: {self.way}", self.floor, ("", "")),
            self._cells(results, self.way, self.name, tuple(ratios)),
        ]

    def _cells(
        self, results: Results, shown: str, name: str, ratios: tuple[str, ...]
    ) -> tuple[str, ...]:
        spreads = (results.spread(name, p).text(3, 1e6) for p in ("p50", "p99", "p99.9"))
        offered = results.median(name, "offered") // self.every
        missed = f"{offered - results.median(name, 'heard'):,.0f}"
        beside = "" if name == self.floor else self.beside
        new = f"{self.rate // self.every:,}"
        return (shown, beside, f"{self.rate:,}", new, *ratios, *spreads, missed)


def run(options: Options) -> Report:
    """Measure all ways at all rates, beside an idle and a busy event loop, first and in line."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(options, build(Path(folder), "floor"))


def _run(options: Options, program: Path) -> Report:
    rates, seconds = (((10_000, 1),), 0.2) if options.quick else (_RATES, _SECONDS)
    first = [
        _Row(way, beside, *rate, favoured=True, program=program)
        for rate in rates
        for beside in ("idle", "busy")
        for way in _WAYS
    ]
    in_line = [
        _Row(way, "idle", *rate, favoured=False, program=program)
        for rate in rates[-2:]
        for way in (*_WAYS, _BUSY_POLLING)
    ]
    cases = [case for row in (*first, *in_line) for case in row.cases(seconds)]
    results = interleave(cases, options.rounds)
    title = "Milliseconds from the wire to the coroutine"
    tables = tuple(
        Table(f"{title}, {how}", _COLUMNS, tuple(c for row in rows for c in row.rows(results)), 2)
        for how, rows in (("before all else on the CPUs", first), ("in line for them", in_line))
    )
    return Report("latency", tables, _NOTES, results.values)
