"""The state of a capture in an interval: gains of the books, and whether they balance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from netring_bpf import CaptureStatistics, Equation
from netring_bpf.aggregate import health
from netring_bpf.aggregate.health import HealthMeter
from netring_bpf.events.stats import Health
from tests.support.frames import ethernet, udp
from tests.support.replay import replay


@pytest.fixture
def books() -> CaptureStatistics:
    frames = [udp("10.0.0.1", "10.0.0.2", 1, 2), ethernet(0x88CC, b"x")]
    return replay(frames)[1]


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.now / 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(health, "time", clock)
    return clock


def look(
    meter: HealthMeter,
    books: CaptureStatistics,
    equations: Sequence[Equation] = (),
    *,
    is_last: bool = False,
    **more: Any,
) -> Health:
    more = {"lagged": 0, "devices": None, "devices_online": None, "restarts": 0, **more}
    return meter.measure(books, equations, is_last=is_last, **more)


def test_counts_are_what_the_books_gained(books: CaptureStatistics, clock: Clock) -> None:
    meter = HealthMeter()
    clock.now = 2.0
    first = look(meter, books, lagged=3, devices=5, restarts=1)
    assert (first.received, first.not_keyed["not_ip"], first.events_lagged) == (2, 1, 3)
    assert (first.devices, first.restarts, first.cpu, first.balanced) == (5, 1, 0.25, True)
    assert first.memory > 1 << 20
    more = dataclasses.replace(
        books, received=12, tp_drops=10, events_lost=4, not_keyed={**books.not_keyed, "not_ip": 3}
    )
    second = look(meter, more, lagged=3)
    assert (second.received, second.lost, second.events_lost, second.events_lagged) == (
        10,
        10,
        4,
        0,
    )
    assert (second.not_keyed["not_ip"], second.not_keyed["cut_link"]) == (2, 0)
    assert (second.loss, second.table_fill) == (0.5, 0.0)


LAW = "frames in = frames out"


def test_what_is_on_its_way_upsets_no_balance(books: CaptureStatistics, clock: Clock) -> None:
    meter = HealthMeter()
    for n in range(40):
        clock.now += 0.5
        moving = Equation(LAW, 1000 * n, max(0, 1000 * n - 700))
        assert look(meter, books, [moving]).balanced
    assert not look(meter, books, [moving], is_last=True).balanced


def test_what_is_missing_for_good_does(books: CaptureStatistics, clock: Clock) -> None:
    meter = HealthMeter()
    assert look(meter, books, [Equation(LAW, 100, 100)]).balanced
    clock.now += 2
    assert look(meter, books, [Equation(LAW, 200, 199)]).balanced
    clock.now += 2
    assert not look(meter, books, [Equation(LAW, 200, 199)]).balanced
    clock.now += 2
    assert not look(meter, books, [Equation(LAW, 200, 199)]).balanced
    assert look(meter, books, [Equation(LAW, 200, 200)], is_last=True).balanced


def test_more_out_than_in_does_too(books: CaptureStatistics, clock: Clock) -> None:
    meter = HealthMeter()
    look(meter, books, [Equation(LAW, 200, 201)])
    clock.now += 2
    assert not look(meter, books, [Equation(LAW, 200, 201)]).balanced
