"""From a frame on the wire to the coroutine of a subscriber that hears of its flow.

The generator writes the time into each frame that is the first of a flow, as it sends it. The
subscriber compares that with the time at which it has the ``FlowStarted`` in its hands: kernel,
reader, flow table, hand-off, event loop and decoding are all in it. On two CPUs the generator has
one to itself, the reader's thread and the event loop share the other.
"""

from __future__ import annotations

import functools

from benchmarks.generator import Load
from benchmarks.harness import Case, Options, Report, Table, interleave
from benchmarks.processor import RECEIVER, python_on
from benchmarks.receivers import Receiver
from benchmarks.trial import Trial, measure
from tests.support.rig import PORT

__all__ = ["run"]

_WAYS = ("af_xdp", "af_xdp, busy polling", "tpacket_v3", "tpacket_v3, 1 ms")
_RATES = ((1_000, 1), (10_000, 1), (100_000, 10), (100_000, 1))  #: of how many one is a new flow
_SECONDS = 3


def _receiver(way: str, beside: str) -> Receiver:
    command = python_on(RECEIVER, "benchmarks.latency_capture", PORT, way, beside)
    native = way.startswith("af_xdp")
    return Receiver(f"{way}, {beside}", command, native=native, favoured=False)


def run(options: Options) -> Report:
    """All ways, at all rates, beside an idle and a busy event loop."""
    rates, seconds = (((10_000, 1),), 0.2) if options.quick else (_RATES, _SECONDS)
    cases, names = [], []
    for rate, every in rates:
        load = Load(int(rate * seconds), per_flow=1, rate=rate, stamp=every)
        for beside in ("idle", "busy"):
            for way in _WAYS:
                trial = Trial(_receiver(way, beside), load)
                name = f"{way}, {beside}, {rate} of {every}"
                cases.append(Case(name, functools.partial(measure, trial)))
                names.append((way, beside, rate, every, name))
    results = interleave(cases, options.rounds)
    rows = []
    for way, beside, rate, every, name in names:
        spreads = (results.spread(name, p).text(3, 1e6) for p in ("p50", "p99", "p99.9"))
        missed = results.median(name, "offered") // every - results.median(name, "heard")
        new = f"{rate // every:,}"
        rows.append((way, beside, f"{rate:,}", new, *spreads, f"{missed:,.0f}"))
    columns = ("capture", "event loop", "frames/s", "new flows/s", "p50", "p99", "p99.9", "missed")
    table = Table("Milliseconds from the wire to the coroutine", columns, tuple(rows), 2)
    return Report("latency", (table,), figures=results.values)
