"""What the page is told: numbers that JSON's readers keep."""

from __future__ import annotations

from netring_bpf import Health, StatsUpdated, Sums, Top, TopRow, Traffic
from netring_bpf.web.records import COLUMNS, columns_of
from netring_bpf.web.window import Window

SAFE = 2**53 - 1


def test_rates_and_bytes_stay_below_the_integers_that_browsers_round() -> None:
    many = Sums(2**60, 2**60, 2**60)
    top = Top(hosts=(TopRow("192.0.2.1", None, 0, 1, 0, 2**60, 1),))
    stats = StatsUpdated(
        ts=1, interface="eth1", number=1, start=0, traffic=Traffic(many, many, many, many),
        top=top, since_start=Traffic(), top_since_start=top,
        health=Health(received=2**60, lost=2**60),
    )  # fmt: skip
    told = dict(zip(COLUMNS, columns_of(stats), strict=True))
    integers = {name: value for name, value in told.items() if isinstance(value, int)}
    assert integers == dict.fromkeys(
        ("bits_in", "bits_out", "bits_other", "received", "lost"), SAFE
    )
    window = Window()
    window.add(stats)
    assert window.recent("hosts", "192.0.2.1") == [SAFE]
