"""Everyday filters and large sets in XDP: their size, and their cost beside redirecting everything.

BPF_PROG_TEST_RUN runs a filter on a frame that it matches, in turn with the program that redirects
everything, which is the floor. The cost of a filter is the difference within a round; the median of
the rounds is given, and the ratio with its spread. A frame that does not match is not redirected,
which saves more than the filter costs.
"""

from __future__ import annotations

import functools
import ipaddress
import random
import statistics
from collections.abc import Callable, Iterator, Mapping

from benchmarks.frames import SAMPLES
from benchmarks.harness import Options, Report, Spread, Table
from netring_bpf.bpf import program as program_module
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program
from netring_bpf.filter.filter import Filter
from netring_bpf.filter.filter_set import FilterSet

__all__ = ["EXPRESSIONS", "run"]

RUNS = 1_000_000
THREE_CAPABILITIES = 1 << 12 | 1 << 13 | 1 << 39
_SHOWN = 44
EXPRESSIONS = (
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "host 10.0.0.1",
    "src host 10.0.0.1 and dst host 10.0.0.2",
    "host 2001:db8::1",
    "net 10.0.0.0/8",
    "not net 10.0.0.0/8",
    "net 2001:db8::/32",
    "port 53",
    "tcp port 80",
    "tcp dst port 443",
    "udp port 53 or tcp port 53",
    "portrange 1024-65535",
    "tcp portrange 1-1023",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply",
    "greater 128",
    "less 128",
    "ether host 02:00:00:00:00:0a",
    "ether multicast",
    "ip multicast or ip6 multicast",
    "vlan 100",
    "vlan 100 and tcp port 80",
    " or ".join(f"host 10.0.1.{n}" for n in range(1, 51)),
)


def _addresses(count: int) -> Iterator[str]:
    """Yield random addresses, and those of the samples."""
    draw = random.Random(count)
    yield from ("10.0.0.1", "2001:db8::1")
    for _ in range(count - 2):
        yield str(ipaddress.IPv4Address(draw.randrange(1 << 24, 223 << 24)))


def _networks(count: int) -> Iterator[str]:
    """Yield networks of 20 to 28 bits, each in a part of its own, and those of the samples."""
    draw = random.Random(count)
    yield from ("10.0.0.0/24", "2001:db8::/48")
    step = (222 << 24) // count
    for n in range(count - 2):
        length = draw.randrange(20, 29)
        within = draw.randrange(1 << 12) >> 32 - length << 32 - length
        base = ((1 << 24) + n * step + 0xFFF) & ~0xFFF
        yield f"{ipaddress.IPv4Address(base | within)}/{length}"


SETS: Mapping[str, Callable[[], Filter]] = {
    "Filter.hosts(…), 1,000 addresses": lambda: Filter.hosts(_addresses(1_000)),
    "Filter.hosts(…), 100,000 addresses": lambda: Filter.hosts(_addresses(100_000)),
    "Filter.nets(…), 1,000 networks": lambda: Filter.nets(_networks(1_000)),
    "Filter.nets(…), 100,000 networks": lambda: Filter.nets(_networks(100_000)),
}


def _time(program: Program, frame: bytes) -> int:
    return program.run(frame, RUNS)[1]


def _costs(one: Filter, rounds: int, *, by_helper: bool) -> list[tuple[int, int]]:
    """Run the plain program and the filtering one, in turn; returns the ns of both, by round."""
    original = program_module.effective
    if by_helper:
        program_module.effective = lambda: THREE_CAPABILITIES
    try:
        frame = next(sample for sample in SAMPLES if one.matches(sample))
        filters = FilterSet.of(one)
        with (
            Maps(1) as maps,
            Program.load(FilterSet.of(None), maps) as plain,
            Program.load(filters, maps) as filtering,
        ):
            _time(plain, frame)
            return [(_time(plain, frame), _time(filtering, frame)) for _ in range(rounds)]
    finally:
        program_module.effective = original


def _chosen(quick: bool) -> Mapping[str, Callable[[], Filter]]:
    """Return the filters to measure, by the name in the table."""
    named = {text: functools.partial(Filter, text) for text in EXPRESSIONS}
    return dict(list(named.items())[:3]) if quick else {**named, **SETS}


def run(options: Options) -> Report:
    """Measure every expression, with each kind of C."""
    rows, plains = [], []
    for expression, make in _chosen(options.quick).items():
        one = make().for_interface("lo")
        kinds = [_costs(one, options.rounds, by_helper=by_helper) for by_helper in (False, True)]
        plains += [plain for pairs in kinds for plain, _ in pairs]
        costs = (statistics.median(ours - plain for plain, ours in pairs) for pairs in kinds)
        times = (Spread.of(ours / plain for plain, ours in pairs) for pairs in kinds)
        size = len(one.instructions)
        shown = expression
        if len(expression) > 2 * _SHOWN:
            shown = f"{expression[:_SHOWN]}… ({expression.count(' or ') + 1} hosts)"
        shown = shown.replace("|", "\\|")
        rows.append(
            (
                f"`{shown}`",
                str(size),
                *(spread.text(2) for spread in times),
                *(f"{cost:+.0f}" for cost in costs),
            )
        )
    columns = (
        "expression", "instructions", "times redirecting everything, with CAP_PERFMON", "without",
        "ns with CAP_PERFMON", "ns without",
    )  # fmt: skip
    table = Table("What a filter costs", columns, tuple(rows))
    note = f"Redirecting everything: {statistics.median(plains):.0f} ns a frame."
    return Report("filters", (table,), (note,))
