"""The largest over a minute, of the tables of its intervals."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from netring_bpf import Health, StatsUpdated, Top, TopRow, Traffic
from netring_bpf.web.window import Window

SECOND = 1_000_000_000


def stats(number: int, counted: dict[str, int], total: Counter[str], rows: int) -> StatsUpdated:
    """An interval of a second in which these hosts received so many bytes."""

    def table(counts: dict[str, int]) -> Top:
        largest = sorted(counts.items(), key=lambda pair: -pair[1])[:rows]
        return Top(hosts=tuple(TopRow(k, None, 0, 1, 0, size, 1) for k, size in largest if size))

    return StatsUpdated(
        ts=(number + 1) * SECOND, interface="eth1", number=number + 1, start=number * SECOND,
        traffic=Traffic(), top=table(counted), since_start=Traffic(),
        top_since_start=table(dict(total)), health=Health(),
    )  # fmt: skip


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1000), max_size=8),
        min_size=1, max_size=30,
    ),
    st.integers(1, 8),
)  # fmt: skip
def test_a_sum_is_exact_within_its_error(intervals: list[dict[str, int]], rows: int) -> None:
    window, total = Window(seconds=10.0), Counter[str]()
    for number, counted in enumerate(intervals):
        total.update(counted)
        window.add(stats(number, counted, total, rows))
    exact = Counter[str]()
    for counted in intervals[-10:]:
        exact.update(counted)
    found = {row.key: row for row in window.top(8).hosts}
    assert round(window.seconds) == min(10, len(intervals))
    for key, row in found.items():
        assert row.bytes <= exact[key] <= row.bytes + row.error
    if rows == 8:
        assert {key: row.bytes for key, row in found.items()} == exact
    assert [row.bytes for row in found.values()] == sorted(
        (row.bytes for row in found.values()), reverse=True
    )


def test_the_recent_intervals_of_a_key_come_in_order() -> None:
    window, total = Window(seconds=60.0), Counter[str]()
    for number in range(40):
        counted = {"a": number} if number % 2 else {"b": 5}
        total.update(counted)
        window.add(stats(number, counted, total, 10))
    assert window.recent("hosts", "a", 6) == [0, 35, 0, 37, 0, 39]
    assert window.recent("hosts", "none", 3) == [0, 0, 0]
    assert window.top(1).hosts[0].bytes == sum(range(1, 40, 2))


def test_it_stays_small_however_many_keys_come() -> None:
    window, total = Window(seconds=5.0), Counter[str]()
    for number in range(300):
        counted = {f"{number}-{n}": n + 1 for n in range(10)}
        total.update(counted)
        window.add(stats(number, counted, total, 10))
    assert len(window._sums["hosts"]) == 50
    assert len(window._intervals) == 5
    for number in range(300, 900):  # intervals without length
        window.add(stats(number, {"x": 1}, total, 10)._replace(start=(number + 1) * SECOND))
    assert len(window._intervals) <= 120
