"""Cases run in turn, several times: medians, spreads, and ratios round by round.

A figure by itself says little on a shared machine. Two cases that take turns give a ratio in each
round; benchmarks compare and quote those ratios.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.machine import describe

__all__ = ["Case", "Options", "Report", "Results", "Spread", "Table", "interleave"]


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of the command line."""

    rounds: int = 5
    against: tuple[str, ...] = ()  #: names of peers, beside our own cases
    quick: bool = False  #: a load so small that its figures mean nothing
    every: bool = False  #: the settings that a run leaves out because they take long


@dataclass(frozen=True, slots=True)
class Case:
    """Something that runs once a round and returns its figures by name."""

    name: str
    run: Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the least and the greatest of some figures."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Make the spread of one value or more."""
        sorted_values = sorted(values)
        return cls(statistics.median(sorted_values), sorted_values[0], sorted_values[-1])

    def text(self, digits: int = 0, scale: float = 1.0) -> str:
        """``median (least to greatest)``, or the median alone where all are equal."""
        if self.least == self.greatest:
            return f"{self.median / scale:,.{digits}f}"
        parts = (f"{value / scale:,.{digits}f}" for value in (self.least, self.greatest))
        return f"{self.median / scale:,.{digits}f} ({' to '.join(parts)})"


class Results:
    """The figures of all rounds: by case, then by name, one value a round."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, list[float]]] = {}

    def add(self, case: str, figures: Mapping[str, float]) -> None:
        """Add the figures of one run of the case."""
        for name, value in figures.items():
            self.values.setdefault(case, {}).setdefault(name, []).append(value)

    def spread(self, case: str, figure: str) -> Spread:
        """The figure's spread over the rounds."""
        return Spread.of(self.values[case][figure])

    def median(self, case: str, figure: str) -> float:
        """The figure's median over the rounds."""
        return self.spread(case, figure).median

    def ratio(self, case: str, other: str, figure: str) -> Spread:
        """The case's figure divided by the other's of the same round, as a spread."""
        pairs = zip(self.values[case][figure], self.values[other][figure], strict=True)
        return Spread.of(a / b for a, b in pairs)


def interleave(cases: Sequence[Case], rounds: int) -> Results:
    """Run all cases once a round. Every other round is reversed, so that no case always leads."""
    results = Results()
    for number in range(rounds):
        for case in cases if number % 2 == 0 else reversed(cases):
            print(f"round {number + 1} of {rounds}: {case.name}", file=sys.stderr, flush=True)
            results.add(case.name, case.run())
    return results


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a heading. Columns of text are aligned to the left, the others to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1  #: how many columns are text

    def as_markdown(self) -> str:
        """The table as Markdown."""
        rule = ["---"] * self.left + ["---:"] * (len(self.columns) - self.left)
        lines = [self.columns, tuple(rule), *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"**{self.title}**\n\n{text}\n"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a benchmark: tables, notes that explain them, and every figure."""

    name: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Tables, notes and the machine, to read and for docs/performance.md."""
        parts = [*(table.as_markdown() for table in self.tables), *self.notes]
        return "\n".join([*parts, "", describe()])

    def as_json(self) -> str:
        """Tables, notes and every figure of every round."""
        return json.dumps(
            {
                "benchmark": self.name,
                "machine": describe(),
                "tables": [
                    {"title": t.title, "columns": t.columns, "rows": t.rows} for t in self.tables
                ],
                "notes": self.notes,
                "figures": self.figures,
            },
            indent=1,
        )
