"""The largest of each kind over the last minute, made of the intervals in it."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from netring_bpf.events.event import StatsUpdated, TopRow
from netring_bpf.events.plain import count
from netring_bpf.events.stats import Top

__all__ = ["KINDS", "Window"]

KINDS: Final = Top._fields
_SIZE = attrgetter("bytes")


def _floor(rows: Sequence[TopRow], most: int) -> int:
    return rows[-1].bytes + rows[-1].error if rows and len(rows) >= most else 0


class _Interval(NamedTuple):
    seconds: float
    rows: Mapping[str, Mapping[str, TopRow]]  # by kind and key
    floors: Mapping[str, int]  # by kind: what is not among the rows had at most so many bytes


class _Sum:
    """What a key has sent and received in the intervals that have a row of it."""

    __slots__ = ("covered", "error", "intervals", "name", "numbers")

    def __init__(self) -> None:
        self.name: str | None = None
        self.numbers = [0] * 5
        self.intervals = 0
        self.error = 0
        self.covered = 0  # the sum of the floors of these intervals

    def row(self, key: str, floor: int) -> TopRow:
        """Return the row of the window. ``floor``: the sum of all its intervals."""
        error = self.error + floor - self.covered
        sent, received, bytes_sent, bytes_received, flows = self.numbers
        return TopRow(key, self.name, sent, received, bytes_sent, bytes_received, flows, error)

    def add(self, row: TopRow, floor: int, sign: int) -> None:
        if sign > 0:
            self.name = row.name
        numbers = self.numbers
        numbers[0] += sign * row.packets_sent
        numbers[1] += sign * row.packets_received
        numbers[2] += sign * row.bytes_sent
        numbers[3] += sign * row.bytes_received
        numbers[4] += sign * row.flows
        self.error += sign * row.error
        self.intervals += sign
        self.covered += sign * floor


class Window:
    """Adds up the tables of the intervals of the last ``seconds``, within a fixed size.

    A key that is missing in a full table may have had as many bytes as its smallest row: that is
    part of the row's ``error``. ``intervals``: how many it keeps at most.
    """

    def __init__(self, *, seconds: float = 60.0, intervals: int = 120) -> None:
        self._length = seconds
        self._intervals: deque[_Interval] = deque()
        self._kept = intervals
        self._sums: dict[str, dict[str, _Sum]] = {kind: {} for kind in KINDS}
        self._floors = dict.fromkeys(KINDS, 0)
        self.seconds: float = 0.0

    def add(self, stats: StatsUpdated) -> None:
        """Take an interval in, and forget those that are too old."""
        tables, all_of_it = stats.top._asdict(), stats.top_since_start._asdict()
        interval = _Interval(
            stats.seconds,
            {kind: {row.key: row for row in rows} for kind, rows in tables.items()},
            {
                # A table that is shorter than that of the whole capture has room for more.
                kind: _floor(rows, len(all_of_it[kind]))
                for kind, rows in tables.items()
            },
        )
        self._count(interval, 1)
        self._intervals.append(interval)
        while len(self._intervals) > 1 and (
            self.seconds > self._length * 1.001 or len(self._intervals) > self._kept
        ):
            self._count(self._intervals.popleft(), -1)

    def _count(self, interval: _Interval, sign: int) -> None:
        self.seconds += sign * interval.seconds
        for kind, rows in interval.rows.items():
            sums, floor = self._sums[kind], interval.floors[kind]
            self._floors[kind] += sign * floor
            for key, row in rows.items():
                found = sums.get(key)
                if found is None:
                    found = sums[key] = _Sum()
                found.add(row, floor, sign)
                if found.intervals == 0:
                    del sums[key]

    def top(self, limit: int) -> Top:
        """Return the largest of each kind."""
        return Top(**{kind: self._rows(kind, limit) for kind in KINDS})

    def _rows(self, kind: str, limit: int) -> tuple[TopRow, ...]:
        floor = self._floors[kind]
        rows = (made.row(key, floor) for key, made in self._sums[kind].items())
        return tuple(heapq.nlargest(limit, rows, key=_SIZE))

    def recent(self, kind: str, key: str, points: int = 30) -> list[int]:
        """Return the bytes of a key in the last intervals, the latest last."""
        latest = list(self._intervals)[-points:]
        found = [interval.rows[kind].get(key) for interval in latest]
        return [0 if row is None else count(row.bytes) for row in found]
