"""From the traffic on a wire to flow events, beside a bare loop in C and beside peers.

The generator offers UDP frames on a veth. It is pinned on CPU 0, where the kernel's receive path
runs as well; the receiver is pinned on CPU 1. Every run has a cable and processes of its own, and
its books must balance: the receiver's side of the kernel has counted every frame offered.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.generator import Load
from benchmarks.harness import Case, Options, Report, Results, Spread, Table, interleave
from benchmarks.plot import line_chart
from benchmarks.receivers import WAYS, Receiver, build, floor, ours, peer
from benchmarks.trial import Trial, measure
from tests.support.rig import PORT

__all__ = ["run"]

_SECONDS = 1.0  #: each trial sends for about so long
_SPEEDS = {"af_xdp native": 10e6, "af_xdp generic": 4e6, "tpacket_v3": 4e6}  #: rough full speed
_PEER_FRAMES = 3_000_000
_ENOUGH = 0.95
_SLOW = (100_000, 10_000, 2_000)  #: frames a second, for peers that lose frames at full speed
_SLOW_SECONDS = 2
_QUICK = 100_000
_MANY, _OPENED = 100_000, 300_000  #: so many flows or more are opened first, so many a second
_MIXES = tuple((size, flows) for size in (60, 512) for flows in (1, 10_000, 1_000_000))
_CURVE = (0.25, 0.5, 0.75, 1.0)
_PLOT = Path(__file__).resolve().parents[1] / "build" / "live-loss.svg"
_NOTE = (
    "The floor is a loop in C that counts what is in the ring; the looking floor reads one byte of "
    "each frame as well, which moves a cache line between the CPUs. "
    "A million flows are opened beforehand, at 300,000 a second; the CPU time includes that. "
    "The books balanced in every run: offered = received + lost + dropped by the veth, and each "
    "equation of statistics() held. The table by speed has no floor: the loss should be 0."
)


def _frames(way: str, *, quick: bool) -> int:
    return _QUICK if quick else int(_SPEEDS[way] * _SECONDS)


def _case(receiver: Receiver, load: Load, mix: str = "") -> Case:
    name = f"{receiver.name}, {mix}" if mix else receiver.name
    first = None
    if load.flows >= _MANY:
        first = Load(load.flows, size=load.size, flows=load.flows, rate=_OPENED)
    return Case(name, functools.partial(measure, Trial(receiver, load, first)))


# -- full speed, beside the floor --


def _full_speed(options: Options, program: Path) -> tuple[Results, Table]:
    mixes = [(60, 1_000)] if options.quick else _MIXES
    cases, names = [], []
    for size, flows in mixes:
        for way in WAYS:
            load = Load(_frames(way, quick=options.quick), size=size, flows=flows)
            mix = f"{size} bytes, {flows:,} flows"
            receivers = (
                ours(PORT, way, 2 * flows + 1000),
                floor(PORT, way, program),
                floor(PORT, way, program, "look"),
            )
            cases += [_case(receiver, load, mix) for receiver in receivers]
            names.append((way, size, flows, *(case.name for case in cases[-3:])))
    results = interleave(cases, options.rounds)
    rows = [_full_speed_row(results, *name) for name in names]
    columns = (
        "capture", "frames", "flows", "ours / floor", "ours / looking floor", "received %",
        "offered Mpps", "received Mpps", "ns CPU a packet", "events lost", "floor Mpps",
        "its ns CPU", "looking floor Mpps", "its ns CPU",
    )  # fmt: skip
    return results, Table("At the generator's full speed", columns, tuple(rows))


def _full_speed_row(
    results: Results, way: str, size: int, flows: int, own: str, bare: str, looking: str
) -> tuple[str, ...]:
    return (
        way,
        str(size),
        f"{flows:,}",
        results.ratio(own, bare, "received_rate").text(2),
        results.ratio(own, looking, "received_rate").text(2),
        f"{100 * results.median(own, 'share'):.2f}",
        results.spread(own, "offered_rate").text(2, 1e6),
        results.spread(own, "received_rate").text(2, 1e6),
        f"{results.median(own, 'cpu'):.0f}",
        f"{results.median(own, 'events_lost') + results.median(own, 'events_missed'):,.0f}",
        results.spread(bare, "received_rate").text(2, 1e6),
        f"{results.median(bare, 'cpu'):.0f}",
        results.spread(looking, "received_rate").text(2, 1e6),
        f"{results.median(looking, 'cpu'):.0f}",
    )


def _against_tpacket(results: Results, mixes: Sequence[tuple[int, int]]) -> Table:
    """AF_XDP's received rate as a multiple of TPACKET_V3's, round by round."""
    rows = []
    for size, flows in mixes:
        mix = f"{size} bytes, {flows:,} flows"
        ratios = (
            results.ratio(f"{way}, {mix}", f"tpacket_v3, {mix}", "received_rate").text(2)
            for way in WAYS[:2]
        )
        rows.append((f"{size} bytes", f"{flows:,}", *ratios))
    columns = ("frames", "flows", *(f"{way} / tpacket_v3" for way in WAYS[:2]))
    return Table("Beside TPACKET_V3", columns, tuple(rows))


# -- names --


def _names(options: Options, program: Path) -> tuple[Results, Table]:
    """Established flows with names on, and with names off beside it."""
    cases, names = [], []
    for flows in (1_000,) if options.quick else (1, 10_000):
        for way in WAYS:
            load = Load(_frames(way, quick=options.quick), flows=flows)
            receivers = (
                ours(PORT, way, 2 * flows + 1000),
                ours(PORT, way, 2 * flows + 1000, "off"),
                floor(PORT, way, program),
            )
            cases += [_case(r, load, f"beside names off, {flows:,} flows") for r in receivers]
            names.append((way, flows, *(case.name for case in cases[-3:])))
    results = interleave(cases, options.rounds)
    rows = tuple(_names_row(results, *name) for name in names)
    columns = (
        "capture", "flows", "CPU, on / off", "received, on / off", "ns CPU a packet",
        "with names off", "floor",
    )  # fmt: skip
    return results, Table("Names on beside off, 60-byte frames", columns, rows, 2)


def _names_row(
    results: Results, way: str, flows: int, on: str, off: str, bare: str
) -> tuple[str, ...]:
    return (
        way,
        f"{flows:,}",
        results.ratio(on, off, "cpu").text(3),
        results.ratio(on, off, "received_rate").text(3),
        f"{results.median(on, 'cpu'):.0f}",
        f"{results.median(off, 'cpu'):.0f}",
        f"{results.median(bare, 'cpu'):.0f}",
    )


# -- the loss curve --


def _curve(options: Options, program: Path) -> tuple[Results, Table]:
    """Ours at parts of the speed at which the generator fills the floor's ring."""
    flows = 10_000
    cases, names = [], []
    for way in WAYS:
        count = _frames(way, quick=options.quick)
        full = measure(Trial(floor(PORT, way, program), Load(count, flows=flows)))["offered_rate"]
        for part in _CURVE[-1:] if options.quick else _CURVE:
            rate = 0 if part == 1 else int(full * part)
            load = Load(max(_QUICK, int(count * part)), flows=flows, rate=rate)
            cases.append(_case(ours(PORT, way, 2 * flows), load, f"{part:.0%}"))
            names.append((way, f"{part:.0%}", cases[-1].name))
    results = interleave(cases, options.rounds)
    rows = []
    for way, part, name in names:
        lost = Spread.of(100 * (1 - share) for share in results.values[name]["share"])
        rates = (results.spread(name, figure) for figure in ("offered_rate", "received_rate"))
        rows.append((way, part, *(rate.text(2, 1e6) for rate in rates), lost.text(3)))
    _PLOT.parent.mkdir(exist_ok=True)
    lines: dict[str, list[tuple[float, float]]] = {}
    for way, _, name in names:
        rates = (results.median(name, figure) for figure in ("offered_rate", "received_rate"))
        lines.setdefault(way, []).append((next(rates) / 1e6, next(rates) / 1e6))
    chart = line_chart("Offered and received", "offered, Mpps", "received, Mpps", lines)
    _PLOT.write_text(chart, encoding="utf-8")
    columns = ("capture", "of full speed", "offered Mpps", "received Mpps", "lost %")
    return results, Table("60-byte frames of 10,000 flows, by speed", columns, tuple(rows), 2)


# -- peers --


def _beside_peers(options: Options, folder: Path) -> tuple[Results, Table]:
    """At full speed; a slower peer receives part of the frames, or none."""
    load = Load(_QUICK if options.quick else _PEER_FRAMES, flows=10_000)
    receivers = [ours(PORT, way, 20_000) for way in WAYS]
    receivers += [peer(PORT, name, folder) for name in options.against]
    results = interleave([_case(receiver, load) for receiver in receivers], options.rounds)
    columns = (
        "receiver", "tpacket_v3 / it", "af_xdp native / it", "received %", "offered Mpps",
        "received Mpps", "ns CPU a packet",
    )  # fmt: skip
    rows = tuple(_peer_row(results, receiver.name) for receiver in receivers)
    return results, Table("Beside others, 60-byte frames of 10,000 flows", columns, rows)


def _peer_row(results: Results, name: str) -> tuple[str, ...]:
    offered = results.spread(name, "offered_rate").text(2, 1e6)
    if results.spread(name, "received").least == 0:
        nothing = sum(received == 0 for received in results.values[name]["received"])
        rounds = len(results.values[name]["received"])
        received = results.spread(name, "received_rate").text(3, 1e6)
        received = f"{received}, nothing in {nothing} of {rounds}"
        return (name, "-", "-", "-", offered, received, "-")
    return (
        name,
        results.ratio("tpacket_v3", name, "received_rate").text(2),
        results.ratio("af_xdp native", name, "received_rate").text(2),
        f"{100 * results.median(name, 'share'):.2f}",
        offered,
        results.spread(name, "received_rate").text(3, 1e6),
        f"{results.median(name, 'cpu'):.0f}",
    )


def _slower(options: Options, folder: Path, full: Results) -> tuple[Results, Table]:
    """Peers that lose frames at full speed, at lower speeds."""
    cases, names = [], []
    for peer_name in options.against:
        receiver = peer(PORT, peer_name, folder)
        if full.median(receiver.name, "share") >= _ENOUGH:
            continue
        for rate in _SLOW[-1:] if options.quick else _SLOW:
            load = Load(int(rate * _SLOW_SECONDS), flows=min(10_000, rate), rate=rate)
            cases.append(_case(receiver, load, f"{rate:,} frames/s"))
            names.append((receiver.name, rate, cases[-1].name))
    results = interleave(cases, options.rounds)
    rows = tuple(
        (
            receiver,
            f"{rate:,}",
            Spread.of(100 * share for share in results.values[name]["share"]).text(1),
            f"{results.median(name, 'cpu'):,.0f}",
        )
        for receiver, rate, name in names
    )
    columns = ("receiver", "frames/s", "received %", "ns CPU a packet")
    return results, Table("Peers that lose more than a twentieth, at lower speeds", columns, rows)


def run(options: Options) -> Report:
    """Make all tables, and the curve as ``build/live-loss.svg``."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder), "floor")
        results, speeds = _full_speed(options, program)
        beside = _against_tpacket(results, [(60, 1_000)] if options.quick else _MIXES)
        curve_results, curve = _curve(options, program)
        names_results, names_table = _names(options, program)
        tables = [speeds, beside, names_table, curve]
        figures = {**results.values, **names_results.values, **curve_results.values}
        if options.against:
            peer_results, table = _beside_peers(options, Path(folder))
            slow_results, slow_table = _slower(options, Path(folder), peer_results)
            tables += [table, slow_table] if slow_table.rows else [table]
            figures |= peer_results.values | slow_results.values
    return Report("live", tuple(tables), (_NOTE,), figures)
