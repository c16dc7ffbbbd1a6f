"""What ``netring-bpf top`` keeps of events: exact amounts, in bounded memory."""

from __future__ import annotations

import pytest

from netring_bpf import (
    DeviceSeen,
    FlowEnd,
    FlowEnded,
    FlowStarted,
    Lagged,
    Sums,
    Top,
    TopRow,
    Traffic,
)
from netring_bpf.cli import units
from netring_bpf.cli.top_model import TopModel
from netring_bpf.cli.top_views import VIEWS, chosen, fitting
from tests.support.events import flow
from tests.support.frames import udp
from tests.support.made_stats import SECOND, START, device, stats
from tests.support.replay import one_batch

FLOWS, DEVICES, HOSTS = VIEWS[:3]


def test_flows_are_live_until_they_end() -> None:
    model = TopModel()
    model.feed([FlowStarted(10, flow(1)), FlowStarted(10, flow(2))])
    model.feed([FlowEnded(10, flow(1), FlowEnd.FIN)])
    assert [(line.key, line.is_live) for line in model.flows()] == [("2", True), ("1", False)]


def test_the_largest_flows_stay_beside_the_latest_ones() -> None:
    model = TopModel(keeps_all=True)
    large = flow(1)._replace(orig=flow(1).orig._replace(bytes=1_000_000))
    model.feed([FlowEnded(10, large, FlowEnd.FIN)])
    small = flow(1)
    for n in range(2, 10_002):
        model.feed([FlowEnded(10, small._replace(id=n), FlowEnd.FIN)])
    kept = {line.key for line in model.flows()}
    assert "1" in kept
    assert {str(n) for n in range(9_002, 10_002)} <= kept
    assert len(kept) <= 3000


def test_flow_events_beyond_the_budget_of_an_interval_are_counted_and_not_shown() -> None:
    model = TopModel(budget=4)
    batch = one_batch([udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(1, 8)])
    events = len(batch)
    model.feed(batch)
    assert model.unseen == events - 4
    model.feed([Lagged(10, 5), stats()])
    assert model.unseen == events - 4 + 5
    assert [line for line in model.flows() if line.is_live] == []  # their ends may be unseen
    model.feed(batch[:4])
    assert model.unseen == events - 4 + 5


def test_the_sums_of_the_books_are_those_of_all_intervals() -> None:
    model = TopModel()
    for number in range(1, 4):
        model.feed([stats(number)])
    assert (model.sums.received, model.sums.lost, model.sums.unbalanced) == (330, 15, 0)
    off = stats(4)
    model.feed([off._replace(health=off.health._replace(balanced=False))])
    assert model.sums.unbalanced == 1


def test_without_names_there_are_addresses_alone() -> None:
    row = TopRow("10.0.9.9", "pc.example", 1, 1, 700, 300, 1)
    named = flow(1)
    named = named._replace(resp=named.resp._replace(name="www.example"))
    for with_names in (True, False):
        model = TopModel(with_names=with_names)
        model.feed([stats()._replace(top=Top(hosts=(row,))), FlowStarted(10, named)])
        model.feed([DeviceSeen(10, device(1, name="pc"))])
        shown = repr(
            [line.values for view in (FLOWS, DEVICES, HOSTS) for line in view.lines(model)]
            + list(model.notes)
        )
        assert [name in shown for name in ("pc.example", "www.example", "'pc'", " pc'")] == (
            [with_names] * 4
        )
        assert "10.0.0.1:1" in shown


def test_a_line_has_the_rate_of_now_and_the_amounts_of_the_whole_time() -> None:
    of_now, gone = (
        TopRow("10.0.0.1", None, 1, 1, 700, 300, 1),
        TopRow("10.0.0.2", None, 1, 0, 9, 0, 1),
    )
    whole = TopRow("10.0.0.1", "pc.example", 10, 10, 7000, 3000, 10, 5)
    late = TopRow("10.0.0.3", None, 1, 1, 10, 10, 1)
    event = stats()._replace(
        top=Top(hosts=(of_now, late)), top_since_start=Top(hosts=(whole, gone))
    )
    model = TopModel()
    model.feed([event])
    lines = {line.key: line.values for line in HOSTS.lines(model)}
    assert lines == {
        "10.0.0.1": ("10.0.0.1", "pc.example", 800.0, 10_000, 7000, 3000, 20, 10, 5),
        "10.0.0.2": ("10.0.0.2", "", 0.0, 9, 9, 0, 1, 1, 0),
        # It is not among the largest of the whole time, so what it has there is unknown.
        "10.0.0.3": ("10.0.0.3", "", 16.0, 20.5, 10, 10, 2, 1, 0),
    }
    shown = [HOSTS.columns[3].show(lines[key][3]) for key in ("10.0.0.1", "10.0.0.3")]
    assert shown == ["10.0 kB", "≥20 B"]


def interval(number: int, total: int) -> object:
    end = START + number * SECOND
    traffic = Traffic(inbound=Sums(1, total, 0))
    return stats()._replace(ts=end, start=end - SECOND, number=number, traffic=traffic)


def test_the_graph_has_every_byte_of_the_whole_time() -> None:
    model = TopModel()
    for number in range(1, 11):
        model.add_stats(interval(number, 1000 * number))  # type: ignore[arg-type]
    for columns in (1, 3, 7, 10, 40, 200):
        rates = model.rates(columns, whole=True)
        assert len(rates) == columns
        seconds = 10 / columns
        assert sum(total for total, _, _ in rates) * seconds / 8 == pytest.approx(55_000)
        assert [a for a, b, _ in rates] == [b for a, b, _ in rates]
    assert model.rates(3, whole=False) == [
        (64_000, 64_000, 0), (72_000, 72_000, 0), (80_000, 80_000, 0),
    ]  # fmt: skip
    assert model.rates(12, whole=False)[:3] == [(0, 0, 0), (0, 0, 0), (8000, 8000, 0)]


def test_the_history_is_bounded_and_loses_no_byte() -> None:
    model = TopModel()
    for number in range(1, 20_001):
        model.add_stats(interval(number, 10))  # type: ignore[arg-type]
    assert len(model.points) <= 4096
    assert sum(point.total for point in model.points) == 200_000
    [(rate, _, _)] = model.rates(1, whole=True)
    assert rate == pytest.approx(80)


def test_lines_are_those_with_all_words_in_the_order_of_a_column() -> None:
    model = TopModel()
    model.feed([stats(rows=12)])
    lines = list(HOSTS.lines(model))
    found, count = chosen(lines, HOSTS, wanted="HOST 10.0.0.1", by=3, falling=True, most=2)
    assert [line.key for line in found] == ["10.0.0.11", "10.0.0.1"]
    assert count == 2
    found, count = chosen(lines, HOSTS, wanted="", by=0, falling=False, most=3)
    assert [line.key for line in found] == ["10.0.0.1", "10.0.0.10", "10.0.0.11"]
    assert count == 12


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.title)
@pytest.mark.parametrize("width", [40, 79, 99, 119, 159, 300])
def test_the_columns_of_a_table_fit_the_screen(view: object, width: int) -> None:
    shown = fitting(view, width)  # type: ignore[arg-type]
    assert len(shown) >= 2
    if width >= 79:
        assert sum(column.width + 1 for _, column in shown) <= width


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (units.size(0), "0 B"),
        (units.size(999), "999 B"),
        (units.size(999.6), "1.0 kB"),
        (units.size(1000), "1.0 kB"),
        (units.size(999_949), "999.9 kB"),
        (units.size(999_950), "1.0 MB"),
        (units.size(412_500), "412.5 kB"),
        (units.size(10**18), "1.0 EB"),
        (units.size(10**23), "100000 EB"),
        (units.rate(12_345_678), "12.3 Mbit/s"),
        (units.amount(999), "999"),
        (units.amount(65_536), "65.5k"),
        (units.count(65_536), "65,536"),
        (units.share(0), "0 %"),
        (units.share(1e-9), "<0.001 %"),
        (units.share(0.00012), "0.012 %"),
        (units.share(0.5), "50 %"),
        (units.span(0), "0.000 s"),
        (units.span(9.9996), "10.0 s"),
        (units.span(59.96), "1m 00s"),
        (units.span(3599.6), "1h 00m"),
        (units.span(90_000), "1d 01h"),
    ],
)
def test_amounts_have_the_unit_that_keeps_them_short(made: str, shown: str) -> None:
    assert made == shown
