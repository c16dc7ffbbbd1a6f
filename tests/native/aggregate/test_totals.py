"""Tables of sums by key: exact until they are full, and within their error bounds afterwards."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netring_bpf import FlowOptions, StatsOptions, TopRow
from netring_bpf._core import lib
from netring_bpf.aggregate.totals import ALL, INTERVAL, Totals, _address_text
from netring_bpf.ring.readers import Readers
from tests.support.frames import udp
from tests.support.replay import START, Frame

HOSTS = lib.NR_TOP_HOSTS


def nobody(_: str) -> None:
    return None


def totals_of(capacity: int) -> Totals:
    return Totals(StatsOptions(top=min(capacity, 1000), capacity=capacity))


def feed(totals: Totals, host: int, sent: int, received: int) -> None:
    key = ipaddress.IPv4Address(host).packed + bytes(12) + b"\x04"
    lib.nr_aggregate_feed(totals.native, HOSTS, key, len(key), sent, received)


def hosts_of(totals: Totals, of: int) -> dict[str, TopRow]:
    return {row.key: row for row in totals.top(of, nobody, nobody).hosts}


def assert_within_bounds(rows: dict[str, TopRow], true: Counter[str], capacity: int) -> None:
    assert list(rows) == [
        row.key for row in sorted(rows.values(), key=lambda row: row.bytes, reverse=True)
    ]
    for key, row in rows.items():
        assert row.bytes <= true[key] <= row.bytes + row.error
    if len(true) > len(rows):
        assert len(rows) == capacity
        floor = min(row.bytes + row.error for row in rows.values())
        assert all(true[key] <= floor for key in true if key not in rows)


AMOUNTS = st.integers(0, 2000)
ADDED = st.tuples(st.integers(0, 40), AMOUNTS, AMOUNTS)
INTERVALS = st.lists(st.lists(ADDED, max_size=60), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(intervals=INTERVALS, capacity=st.integers(1, 50))
def test_the_true_sum_is_within_the_error_of_every_row(
    intervals: list[list[tuple[int, int, int]]], capacity: int
) -> None:
    totals = totals_of(capacity)
    every: Counter[str] = Counter()
    for interval in intervals:
        true: Counter[str] = Counter()
        for host, sent, received in interval:
            feed(totals, host, sent, received)
            true[str(ipaddress.IPv4Address(host))] += sent + received
        every.update(true)
        totals.add_up()
        rows = hosts_of(totals, INTERVAL)
        assert_within_bounds(rows, true, capacity)
        if len(true) <= capacity:
            assert {key: row.bytes for key, row in rows.items()} == true
            assert {row.error for row in rows.values()} <= {0}
        totals.clear()
        assert hosts_of(totals, INTERVAL) == {}
    assert_within_bounds(hosts_of(totals, ALL), every, capacity)
    if len(every) <= capacity:
        assert {key: row.bytes for key, row in hosts_of(totals, ALL).items()} == every


def test_a_large_talker_stays_on_top_of_a_flood_of_small_ones() -> None:
    totals = totals_of(64)
    for n in range(20_000):
        feed(totals, 1000 + n, 60, 0)
        if n % 10 == 0:
            feed(totals, 1, 1000, 500)
    [first, *_] = hosts_of(totals, INTERVAL).values()
    assert (first.key, first.bytes_sent, first.bytes_received) == ("0.0.0.1", 2_000_000, 1_000_000)
    assert first.error == 0


def test_sent_and_received_packets_and_flows_are_kept_apart() -> None:
    totals = totals_of(4)
    feed(totals, 7, 10, 3)
    feed(totals, 7, 5, 0)
    assert hosts_of(totals, INTERVAL)["0.0.0.7"] == TopRow(
        "0.0.0.7", None, packets_sent=2, packets_received=2, bytes_sent=15, bytes_received=3,
        flows=2,
    )  # fmt: skip


@pytest.mark.parametrize("capacity", [1, 2, 3, 1000, 65_536])
def test_a_table_holds_as_many_keys_as_it_is_made_for(capacity: int) -> None:
    totals = totals_of(capacity)
    for n in range(capacity):
        feed(totals, n, 1, 0)
    assert all(row.error == 0 for row in hosts_of(totals, INTERVAL).values())
    feed(totals, capacity, 1, 0)
    rows = hosts_of(totals, INTERVAL)
    assert len(rows) == min(capacity, 1000)
    totals.add_up()
    assert hosts_of(totals, ALL) == rows


def test_a_reader_that_saw_no_time_has_no_part_in_that_of_the_others() -> None:
    totals = Totals(StatsOptions())
    frames = b"".join(Frame(udp("10.0.0.1", "10.0.0.2", 1, 2), START + n).record() for n in (5, 9))
    with Readers(FlowOptions(), 2, sums=totals) as readers:
        readers.each[1].add_replay(frames)
        assert readers.each[1].run() == 0
        assert sum(len(batch) for batch in readers.finish(100)) > 0
        assert readers.take_last_interval() == (START + 5, START + 9)
    with Readers(FlowOptions(), 2, sums=totals) as readers:
        assert readers.take_last_interval() == (0, 0)


def test_a_row_s_text_is_made_once_whatever_stood_in_its_place() -> None:
    totals = totals_of(4)
    feed(totals, 7, 1, 1)
    _address_text.cache_clear()
    for n in range(3):
        name = bytes([200, 0]) + b"%d" % n * 200  # longer than an address
        lib.nr_aggregate_feed(totals.native, lib.NR_TOP_NAMES, name, len(name), 1, 1)
        totals.top(INTERVAL, nobody, nobody)
    assert (_address_text.cache_info().misses, _address_text.cache_info().hits) == (1, 2)
