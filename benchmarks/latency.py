"""From a frame on the wire to the coroutine of a subscriber that hears of its flow.

The generator writes the time into each frame that is the first of a flow, as it sends it. The
subscriber compares that with the time at which it has the ``FlowStarted`` in its hands: kernel,
reader, flow table, hand-off, event loop and decoding are all in it. On two CPUs the generator has
one to itself, the reader's thread and the event loop share the other.

First as a user has it whose program waits for nobody on its CPU: sender and receiver run before
all else of the machine (SCHED_FIFO). Then as one of many, which may have to wait for a CPU.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from benchmarks.generator import Load
from benchmarks.harness import Case, Options, Report, Results, Table, interleave
from benchmarks.latency_capture import BESIDE_SENDER
from benchmarks.processor import RECEIVER, python_on
from benchmarks.receivers import Receiver
from benchmarks.trial import Trial, measure
from tests.support.rig import PORT

__all__ = ["run"]

_BUSY_POLLING = "af_xdp, busy polling"
_WAYS = ("af_xdp", BESIDE_SENDER, "tpacket_v3", "tpacket_v3, 1 ms")
_RATES = ((1_000, 1), (10_000, 1), (100_000, 10), (100_000, 1))  #: of how many one is a new flow
_SECONDS = 3
_COLUMNS = ("capture", "event loop", "frames/s", "new flows/s", "p50", "p99", "p99.9", "missed")
_NOTES = (
    "A busy event loop is one that another task keeps for a millisecond at a time: an event waits "
    "for the callback that takes it, and once more for its subscriber's turn.",
    "The kernel keeps 50 ms of each second for ordinary programs even so, where some want to run: "
    "figures near that are of a machine that was not quiet.",
    "Busy polling wants a CPU of its own for the reader, and has none here: it is measured in line "
    "with the others only. Missed: the subscriber was more than 65,536 events behind.",
)


@dataclass(frozen=True, slots=True)
class _Row:
    """What one row of a table measures."""

    way: str
    beside: str
    rate: int
    every: int
    favoured: bool

    @property
    def name(self) -> str:
        place = "first" if self.favoured else "in line"
        return f"{self.way}, {self.beside}, {self.rate} of {self.every}, {place}"

    def case(self, seconds: float) -> Case:
        command = python_on(RECEIVER, "benchmarks.latency_capture", PORT, self.way, self.beside)
        receiver = Receiver(
            self.name, command, native=self.way.startswith("af_xdp"), favoured=self.favoured
        )
        load = Load(int(self.rate * seconds), per_flow=1, rate=self.rate, stamp=self.every)
        return Case(self.name, functools.partial(measure, Trial(receiver, load)))

    def cells(self, results: Results) -> tuple[str, ...]:
        spreads = (results.spread(self.name, p).text(3, 1e6) for p in ("p50", "p99", "p99.9"))
        offered = results.median(self.name, "offered") // self.every
        missed = f"{offered - results.median(self.name, 'heard'):,.0f}"
        new = f"{self.rate // self.every:,}"
        return (self.way, self.beside, f"{self.rate:,}", new, *spreads, missed)


def run(options: Options) -> Report:
    """All ways at all rates, beside an idle and a busy event loop, first and in line."""
    rates, seconds = (((10_000, 1),), 0.2) if options.quick else (_RATES, _SECONDS)
    first = [
        _Row(way, beside, *rate, favoured=True)
        for rate in rates
        for beside in ("idle", "busy")
        for way in _WAYS
    ]
    in_line = [
        _Row(way, "idle", *rate, favoured=False)
        for rate in rates[-2:]
        for way in (*_WAYS, _BUSY_POLLING)
    ]
    results = interleave([row.case(seconds) for row in (*first, *in_line)], options.rounds)
    title = "Milliseconds from the wire to the coroutine"
    tables = tuple(
        Table(f"{title}, {how}", _COLUMNS, tuple(row.cells(results) for row in rows), 2)
        for how, rows in (("before all else on the CPUs", first), ("in line for them", in_line))
    )
    return Report("latency", tables, _NOTES, results.values)
