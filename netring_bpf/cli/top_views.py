"""The tables of ``netring-bpf top``: their columns, and the lines of each out of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from netring_bpf.cli import units
from netring_bpf.cli.top_model import Record, TableLine, TopModel
from netring_bpf.errors import printable

__all__ = ["VIEWS", "Column", "Line", "View", "chosen", "fitting"]


class Column(NamedTuple):
    """A column. ``least``: a narrower screen leaves it out; ``grows``: it takes what is left."""

    title: str
    width: int
    show: Callable[[Any], str] = str
    right: bool = False
    least: int = 0
    grows: bool = False


class Line(NamedTuple):
    """A line: its key, the value of each column, and all that is known of it."""

    key: str
    values: tuple[Any, ...]
    detail: Callable[[], Record]


@dataclass(frozen=True, slots=True)
class View:
    """A table. ``order``: the column by which it is sorted at first, by rank of the title."""

    title: str
    columns: tuple[Column, ...]
    lines: Callable[[TopModel], Iterable[Line]]
    order: str
    order_of_a_file: str
    falling: bool = True


def fitting(view: View, width: int) -> list[tuple[int, Column]]:
    """Return the columns that a screen of this width has room for, with their places.

    The widths are those on the screen, one column of space behind each.
    """
    shown = [(n, column) for n, column in enumerate(view.columns) if column.least <= width]
    while sum(column.width + 1 for _, column in shown) > width and len(shown) > 2:
        shown.pop(max(range(len(shown)), key=lambda at: shown[at][1].least))
    spare = max(0, width - sum(column.width + 1 for _, column in shown))
    growing = [at for at, (_, column) in enumerate(shown) if column.grows]
    for rank, at in enumerate(growing):
        more = spare // len(growing) + (rank < spare % len(growing))
        n, column = shown[at]
        shown[at] = n, column._replace(width=column.width + more)
    return shown


def chosen(
    lines: Iterable[Line], view: View, *, wanted: str, by: int, falling: bool, most: int
) -> tuple[list[Line], int]:
    """Return the lines that have all the wanted words, sorted, and how many there are of them."""
    words = wanted.casefold().split()
    found = [line for line in lines if not words or _has(line, view, words)]
    found.sort(key=lambda line: line.key)
    found.sort(key=lambda line: _rank(line.values[by]), reverse=falling)
    return found[:most], len(found)


def _has(line: Line, view: View, words: Sequence[str]) -> bool:
    places = zip(view.columns, line.values, strict=True)
    text = " ".join(column.show(value) for column, value in places).casefold()
    return all(word in text for word in words)


def _rank(value: Any) -> tuple[int, Any]:
    """Return a key that sorts texts and numbers of one column."""
    return (1, value.casefold()) if isinstance(value, str) else (0, value)


# -- values --


def _clock(ts: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(ts // 1_000_000_000)) if ts else ""


def _rate(bits: float) -> str:
    return units.rate(bits) if bits else "-"


def _total(value: float) -> str:
    # A half says that it is of the latest interval alone: the whole is larger.
    return f"≥{units.size(value)}" if value != int(value) else units.size(value)


def _short(ns: int) -> str:
    return units.span(ns / 1e9)


_TRAFFIC: Final = (
    Column("now", 12, _rate, right=True),
    Column("total", 9, _total, right=True),
    Column("sent", 8, units.size, right=True, least=100),
    Column("received", 8, units.size, right=True, least=100),
    Column("packets", 8, units.amount, right=True, least=100),
    Column("flows", 6, units.amount, right=True, least=60),
    Column("error", 8, units.size, right=True, least=110),
)


def _largest(kind: str) -> Callable[[TopModel], Iterable[Line]]:
    def lines(model: TopModel) -> Iterable[Line]:
        for line in model.table(kind):
            key, name = printable(line.row.key), printable(line.row.name or "")
            yield Line(line.row.key, (key, name, *_traffic(line)), _row_detail(line))

    return lines


def _traffic(line: TableLine) -> tuple[Any, ...]:
    row = line.row
    total = row.bytes if line.is_whole else row.bytes + 0.5
    return (
        line.now, total, row.bytes_sent, row.bytes_received, row.packets, row.flows, row.error,
    )  # fmt: skip


def _row_detail(line: TableLine) -> Callable[[], Record]:
    def detail() -> Record:
        told: dict[str, object] = {"key": line.row.key}
        if line.row.name is not None:
            told["name"] = line.row.name
        told["bits_per_second"] = round(line.now, 3)
        for span, row in (
            ("since_start", line.row if line.is_whole else None),
            ("latest_interval", line.latest),
        ):
            values: Mapping[str, object] = {} if row is None else row.to_dict()
            told |= {
                f"{span}_{name}": value
                for name, value in values.items()
                if name not in {"key", "name"}
            }
        return told

    return detail


def _flows(model: TopModel) -> Iterable[Line]:
    for flow in model.flows():
        values = (
            "live" if flow.is_live else "end",
            flow.proto,
            flow.orig,
            flow.resp,
            printable(flow.name),
            flow.total,
            flow.sent,
            flow.received,
            max(0, flow.last - flow.start),
            flow.last,
            flow.how,
        )
        yield Line(flow.key, values, flow.detail)


def _devices(model: TopModel) -> Iterable[Line]:
    busy = {line.row.key: line for line in model.table("devices")}
    for mac, device in model.devices.items():
        line = busy.pop(mac, None)
        total: float = device.sent + device.received
        if line is not None and line.is_whole:
            total = max(total, line.row.bytes)
        name = printable(device.name or (f"({device.vendor})" if device.vendor else ""))
        values = (
            name,
            device.address,
            printable(device.mac),
            printable(device.vendor),
            0.0 if line is None else line.now,
            total,
            device.flows if line is None else max(device.flows, line.row.flows),
            device.last,
        )
        yield Line(mac, values, device.detail)
    for mac, line in busy.items():  # groups, and those of which nothing else is known
        row = line.row
        name = printable(row.name or "")
        total = row.bytes if line.is_whole else row.bytes + 0.5
        values = (name, "", printable(mac), "", line.now, total, row.flows, 0)
        yield Line(mac, values, _row_detail(line))


def _notes(model: TopModel) -> Iterable[Line]:
    for n, (ts, text) in enumerate(model.notes):
        yield Line(str(n), (ts, printable(text)), partial(_note, ts, text))


def _note(ts: int, text: str) -> Record:
    return {"time": _clock(ts), "text": text}


def _of_kind(title: str, kind: str, key: str, width: int, *, named: bool = False) -> View:
    name = Column("name", 12, grows=named, least=0 if named else 1 << 20)
    first = Column(key, width, grows=True)
    return View(title, (first, name, *_TRAFFIC), _largest(kind), "now", "total")


VIEWS: Final = (
    View(
        "Flows",
        (
            Column("", 4),
            Column("proto", 6),
            Column("originator", 21, grows=True),
            Column("responder", 21, grows=True),
            Column("name", 24, least=120, grows=True),
            Column("bytes", 8, units.size, right=True),
            Column("sent", 8, units.size, right=True, least=140),
            Column("received", 8, units.size, right=True, least=140),
            Column("lasted", 7, _short, right=True),
            Column("last", 8, _clock, least=100),
            Column("end", 9, least=132),
        ),
        _flows,
        "last",
        "bytes",
    ),
    View(
        "Devices",
        (
            Column("name", 16, grows=True),
            Column("address", 15, grows=True),
            Column("mac", 17, least=100),
            Column("vendor", 14, least=110, grows=True),
            Column("now", 12, _rate, right=True),
            Column("total", 9, _total, right=True),
            Column("flows", 6, units.amount, right=True),
            Column("last", 8, _clock, least=72),
        ),
        _devices,
        "now",
        "total",
    ),
    _of_kind("Hosts", "hosts", "host", 20, named=True),
    _of_kind("Names", "names", "name", 30),
    _of_kind("Services", "services", "service", 20),
    _of_kind("Ports", "ports", "port", 20),
    _of_kind("Prefixes", "prefixes", "prefix", 24),
    View(
        "Events",
        (Column("time", 8, _clock), Column("event", 40, grows=True)),
        _notes,
        "time",
        "time",
    ),
)
