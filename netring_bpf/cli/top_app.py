"""The screen of ``netring-bpf top``. Only this file knows Textual.

Whatever comes from the network is shown as text: never as markup, and without characters that a
terminal obeys.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from netring_bpf.cli import units
from netring_bpf.cli.top_model import Record, TopModel
from netring_bpf.cli.top_source import TopSource
from netring_bpf.cli.top_views import VIEWS, Column, Line, View, chosen, fitting
from netring_bpf.errors import NetringError, printable

__all__ = ["_TopApp"]

_BARS: Final = " ▁▂▃▄▅▆▇█"
_TICK: Final = 0.5  # seconds between two looks at the model
_MOST_LINES: Final = 5000  # of a table on the screen
_TALL: Final = 32  # rows from which the graphs are higher
_LOOK: Final = Style(bold=True)
_DIM: Final = Style(dim=True)
_HEADER: Final = Style(bold=True, underline=True)
_CHOSEN: Final = Style(reverse=True)
_ALARM: Final = Style(color="red", bold=True, reverse=True)
_KEYS: Final = (
    ("1-8", "table"),
    ("<>", "sort"),
    ("r", "reverse"),
    ("/", "filter"),
    ("p", "pause"),
    ("⏎", "details"),
    ("b", "books"),
    ("q", "quit"),
    ("?", "help"),
)
_HELP: Final = {
    "1 to 8, Tab": "choose the table",
    "Up, Down, PgUp, PgDn": "choose a line",
    "Enter": "show all that is known of the line",
    "< and >": "sort by the column to the left, to the right",
    "r": "turn the order around",
    "/": "show only lines that have these words; Enter keeps them, Escape ends it",
    "p, Space": "let the tables stand still; the capture and its books go on",
    "g": "graph of the latest time, or of the whole time",
    "b": "all books: counters and equations",
    "n": "the next node of a broker",
    "q, Ctrl-C": "quit",
    "": "",
    "now": "bits a second in the latest interval",
    "total": "bytes since the start; ≥: at least",
    "error": "bytes that may be missing from a line, 0: it is exact",
}


class _Graphs(Widget):
    """Bits a second over time: all of it, in, and out, each up to its own peak."""

    DEFAULT_CSS = "_Graphs { height: 3; }"

    def __init__(self, model: TopModel) -> None:
        super().__init__()
        self._model = model
        self.whole = False

    def render(self) -> Text:
        """Return the lines of all three."""
        width, each = max(20, self.size.width), max(1, self.size.height // 3)
        columns = max(8, width - 6 - 13 - 18)
        rates = self._model.rates(columns, whole=self.whole)
        stats = self._model.stats
        drawn = Text(no_wrap=True, overflow="crop", end="")
        of_now = (0, 0, 0)
        if stats is not None:
            traffic = stats.traffic
            of_now = traffic.total.bytes, traffic.inbound.bytes, traffic.outbound.bytes
        for place, (name, colour) in enumerate(
            (("total", "cyan"), ("in", "green"), ("out", "magenta"))
        ):
            values = [rate[place] for rate in rates]
            now = 0.0 if stats is None else stats.per_second(of_now[place] * 8)
            highest = max(values, default=0.0)
            for row, line in enumerate(_bars(values, columns, each, highest)):
                if drawn:
                    drawn.append("\n")
                drawn.append(f"{name:<6}" if row == 0 else " " * 6, _LOOK)
                drawn.append(f"{units.rate(now):>12} " if row == 0 else " " * 13)
                drawn.append(line, Style(color=colour))
                if row == 0:
                    drawn.append(f" peak {units.rate(highest):>12}", _DIM)
        return drawn


def _bars(values: Sequence[float], columns: int, height: int, peak: float) -> list[str]:
    """Return the rows of a graph, the uppermost first."""
    values = [0.0] * (columns - len(values)) + list(values)
    steps = len(_BARS) - 1
    # A little traffic is not none.
    tops = [
        max(1, round(value / peak * steps * height)) if value > 0 and peak > 0 else 0
        for value in values
    ]
    return [
        "".join(_BARS[min(steps, max(0, top - row * steps))] for top in tops)
        for row in reversed(range(height))
    ]


class _Details(ModalScreen[None]):
    """All that is known of something, a line each."""

    CSS = """
    _Details { align: center middle; }
    _Details > VerticalScroll {
        width: 90%; max-width: 110; height: 85%; border: round; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,b,question_mark", "dismiss", "close"),
    ]

    def __init__(self, title: str, record: Record) -> None:
        super().__init__()
        self._title = title
        self._record = record

    def compose(self) -> ComposeResult:
        """Make the lines."""
        width = max((cell_len(name) for name in self._record), default=0)
        # A book's law is long: its figures then stand below it.
        apart = width > 30
        told = Text()
        for name, value in self._record.items():
            shown = ", ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)
            told.append(printable(name) if apart else f"{printable(name):<{width}}  ", _LOOK)
            told.append(f"{chr(10) if apart else ''}{'  ' if apart else ''}{shown}\n")
        with VerticalScroll() as box:
            box.border_title = self._title
            box.border_subtitle = "Escape closes"
            yield Static(told, markup=False)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_plain(one)}" for name, one in value.items())
    return printable(str(value))


class _Tabs(Static):
    """The names of the tables."""

    def on_click(self, event: events.Click) -> None:
        """Show the table that was clicked."""
        end = 0
        for n, view in enumerate(VIEWS):
            end += len(_tab(n, view))
            if event.x < end:
                self.app.call_later(self.app.run_action, f"view({n})")
                return


class _Lines(Widget, can_focus=True):
    """A table of any length, of which only the lines in sight are drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,tab", "app.step(1)"),
        Binding("left,shift+tab", "app.step(-1)"),
        Binding("up", "move(-1)"),
        Binding("down", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home", "move(-1000000)"),
        Binding("end", "move(1000000)"),
        Binding("enter", "app.details"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.cursor: int = 0
        self._from = 0  # the first line in sight
        self._shown_columns: list[tuple[int, Column]] = []
        self._shown_lines: list[Line] = []
        self._header = ""

    @property
    def row_count(self) -> int:
        """The number of lines."""
        return len(self._shown_lines)

    @property
    def chosen_line(self) -> Line | None:
        """The line under the cursor."""
        return self._shown_lines[self.cursor] if self._shown_lines else None

    def text_at(self, row: int, place: int) -> str:
        """Return what a cell shows; ``place`` counts the columns in sight."""
        n, column = self._shown_columns[place]
        return _cell(column, self._shown_lines[row].values[n])

    def show(self, columns: list[tuple[int, Column]], lines: list[Line], header: str) -> None:
        """Show these lines; the cursor stays with its line, unless that is the first."""
        before = self.chosen_line
        self._shown_columns, self._shown_lines, self._header = columns, lines, header
        if before is not None and self.cursor > 0:
            same = (at for at, line in enumerate(lines) if line.key == before.key)
            self.cursor = next(same, self.cursor)
        self.action_move(0)

    def to_top(self) -> None:
        """Choose the first line."""
        self.cursor = self._from = 0

    def action_move(self, by: int) -> None:
        """Move the cursor, and the lines with it where it would leave them."""
        self.cursor = max(0, min(self.cursor + by, len(self._shown_lines) - 1))
        room = max(1, self.size.height - 1)
        self._from = max(0, min(self._from, self.cursor, len(self._shown_lines) - room))
        self._from = max(self._from, self.cursor - room + 1)
        self.refresh()

    def action_page(self, by: int) -> None:
        """Move the cursor by as many lines as are in sight."""
        self.action_move(by * max(1, self.size.height - 1))

    def on_mouse_scroll_down(self) -> None:
        """Move with the wheel."""
        self.action_move(3)

    def on_mouse_scroll_up(self) -> None:
        """Move with the wheel."""
        self.action_move(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose the line, or the column to sort by."""
        if event.y > 0:
            self.action_move(self._from + event.y - 1 - self.cursor)
            return
        end = 0
        for n, column in self._shown_columns:
            end += column.width + 1
            if event.x < end:
                self.app.call_later(self.app.run_action, f"sort_by({n})")
                return

    def render_line(self, y: int) -> Strip:
        """Draw a line of the screen."""
        row, style, text = self._from + y - 1, self.rich_style, ""
        if y == 0:
            text, style = self._header, style + _HEADER
        elif row < len(self._shown_lines):
            values = self._shown_lines[row].values
            text = " ".join(_cell(column, values[n]) for n, column in self._shown_columns)
            if row == self.cursor:
                style += _CHOSEN
        width = self.size.width
        return Strip([Segment(text, style)]).adjust_cell_length(width, style).crop(0, width)


class _TopApp(App[None]):
    """Shows a model, and has a source feed it meanwhile."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #title, #tabs, #keys { height: 1; }
    #title { text-style: bold; }
    #health { height: 2; }
    _Graphs.tall { height: 9; }
    _Lines { height: 1fr; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n + 1), f"view({n})", show=False) for n in range(len(VIEWS))),
        Binding("less_than_sign,comma", "sort(-1)"),
        Binding("greater_than_sign,full_stop", "sort(1)"),
        Binding("r", "reverse"),
        Binding("slash", "filter"),
        Binding("p,space", "pause"),
        Binding("g", "graph"),
        Binding("b", "books"),
        Binding("n", "next"),
        Binding("question_mark,h", "help"),
        Binding("escape", "clear"),
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
    ]

    def __init__(self, model: TopModel, source: TopSource) -> None:
        # Without NO_COLOR the colours are Textual's own; with it, none is sent at all.
        super().__init__(ansi_color=True if os.environ.get("NO_COLOR") else None)
        self._model = model
        self._source = source
        self._view = 0
        self._sorts = [self._first_sort(view) for view in VIEWS]
        self._words = [""] * len(VIEWS)
        self._paused = False
        self._shown_version = -1
        self._columns: list[tuple[int, Column]] = []
        self._lines: list[Line] = []  # of the model, as they were when they were taken
        self._matching: list[Line] = []
        self._found = 0
        self._feeding: asyncio.Task[None] | None = None
        self._title_line = Static(id="title", markup=False)
        self._graphs = _Graphs(model)
        self._graphs.whole = source.is_file
        self._health_lines = Static(id="health", markup=False)
        self._tab_line = _Tabs(id="tabs", markup=False)
        self._table = _Lines()
        self._input = Input(id="filter", placeholder="words to look for", select_on_focus=False)
        self._key_line = Static(id="keys", markup=False)

    def _first_sort(self, view: View) -> tuple[int, bool]:
        wanted = view.order_of_a_file if self._source.is_file else view.order
        return next(n for n, c in enumerate(view.columns) if c.title == wanted), view.falling

    # -- life --

    def compose(self) -> ComposeResult:
        """Make the parts of the screen."""
        yield self._title_line
        yield self._graphs
        yield self._health_lines
        yield self._tab_line
        yield self._table
        yield self._input
        yield self._key_line

    def on_mount(self) -> None:
        """Begin to feed and to draw."""
        self._feeding = asyncio.create_task(self._feed(), name="netring-top")
        self.set_interval(_TICK, self._tick)
        self._table.focus()

    async def on_unmount(self) -> None:
        """Stop feeding."""
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)

    async def _feed(self) -> None:
        try:
            await self._source.run(self._model)
        except NetringError as error:
            self._model.note(self._model.now or time.time_ns(), str(error))
            self._model.end()

    def on_resize(self, event: events.Resize) -> None:
        """Fit everything to the new size."""
        self._graphs.set_class(event.size.height >= _TALL, "tall")
        self.call_after_refresh(self.draw, everything=True)

    def _tick(self) -> None:
        if self._model.version != self._shown_version or self._source.progress is not None:
            self.draw()

    # -- drawing --

    def draw(self, *, everything: bool = False) -> None:
        """Draw what is new; ``everything``: also what the tables hold while they stand still."""
        self._shown_version = self._model.version
        self._draw_title()
        self._graphs.refresh()
        self._draw_health()
        self._draw_tabs()
        if not self._paused:
            self._lines = list(VIEWS[self._view].lines(self._model))
        if everything or not self._paused:
            self._draw_table()
        self._draw_keys()

    def _draw_title(self) -> None:
        model, width = self._model, self.size.width
        state = "ended" if model.ended else "running"
        progress = self._source.progress
        if self._source.is_file and progress is not None and not model.ended:
            state = f"reading {progress:.0%}"
        if self._paused:
            state = f"PAUSED, {state}"
        clock = "" if not model.now else time.strftime(
            "%Y-%m-%d %H:%M:%S", time.localtime(model.now // 1_000_000_000)
        )  # fmt: skip
        if self._source.is_file and clock:
            clock = f"file time {clock}"
        right = f"{clock}  {state}" if width >= 100 or not clock else f"{clock[-19:]} {state}"
        left = f"netring-bpf top  {printable(self._source.title)}"
        left = _cut(left, max(0, width - cell_len(right) - 1))
        gap = " " * max(1, width - cell_len(left) - cell_len(right))
        self._title_line.update(Text(f"{left}{gap}{right}", end=""))

    def _draw_health(self) -> None:
        model = self._model
        health, sums = model.health, model.sums
        frames = sums.received + sums.lost
        loss = sums.lost / frames if frames else 0.0
        is_off = sums.unbalanced > 0 or not health.balanced
        parts: list[tuple[str, bool]] = [
            (f"loss {units.count(sums.lost)} ({units.share(loss)})", sums.lost > 0),
            ("BOOKS OFF" if is_off else "books balanced", is_off),
            (
                f"events lost {units.amount(sums.events_lost)}, "
                f"missed {units.amount(sums.events_lagged)}",
                sums.events_lost > 0,
            ),
        ]
        if model.unseen:
            parts.append((f"not shown {units.amount(model.unseen)}", False))
        total = model.traffic.total
        second = [
            (
                f"live {units.count(health.flows_live)}/{units.amount(health.flows_capacity)} "
                f"({units.share(health.table_fill)})",
                False,
            ),
            (f"evicted {units.amount(sums.evicted)}", sums.evicted > 0),
            (f"{units.size(total.bytes)}, {units.amount(total.flows)} flows", False),
            (f"mem {units.size(health.memory)}", False),
            (f"cpu {health.cpu:.0%}", False),
        ]
        if health.devices is not None:
            online = health.devices_online
            of_them = "" if online is None else f" ({units.count(online)} online)"
            second.append((f"devices {units.count(health.devices)}{of_them}", False))
        if health.restarts:
            second.append((f"restarts {health.restarts}", False))
        not_keyed = [f"{why} {units.amount(n)}" for why, n in health.not_keyed.items() if n]
        if not_keyed:
            second.append((f"no flow: {', '.join(map(printable, not_keyed))}", False))
        width = self.size.width
        lines = [_parts(parts, width), _parts(second, width)]
        self._health_lines.update(Text("\n").join(lines))

    def _draw_tabs(self) -> None:
        drawn = Text(no_wrap=True, end="")
        for n, view in enumerate(VIEWS):
            style = Style(bold=True, reverse=True) if n == self._view else Style()
            drawn.append(_tab(n, view), style)
        drawn.truncate(self.size.width)
        self._tab_line.update(drawn)

    def _draw_table(self) -> None:
        view = VIEWS[self._view]
        by, falling = self._sorts[self._view]
        self._matching, found = chosen(
            self._lines, view, wanted=self._words[self._view], by=by, falling=falling,
            most=_MOST_LINES,
        )  # fmt: skip
        self._found = found
        columns = fitting(view, self.size.width)
        titles = []
        for n, column in columns:
            mark = ("▼" if falling else "▲") if n == by else ""
            cut = _cut(f"{column.title}{mark}", column.width)
            titles.append(f"{cut:>{column.width}}" if column.right else f"{cut:<{column.width}}")
        self._columns = columns
        self._table.show(columns, self._matching, " ".join(titles))

    def _draw_keys(self) -> None:
        wanted = self._words[self._view]
        drawn = Text(no_wrap=True, end="")
        if wanted:
            drawn.append(f"/{printable(wanted)} ", _LOOK)
        if self._found > len(self._matching) or wanted:
            drawn.append(f"{len(self._matching)} of {len(self._lines)}  ")
        for key, what in _KEYS:
            drawn.append(key, Style(bold=True, reverse=True))
            drawn.append(f" {what} ")
        drawn.truncate(self.size.width)
        self._key_line.update(drawn)

    # -- keys --

    def action_view(self, n: int) -> None:
        """Show another table."""
        if n != self._view:
            self._view = n
            self._lines = list(VIEWS[n].lines(self._model))
            self._table.to_top()
            self.draw(everything=True)

    def action_step(self, by: int) -> None:
        """Show the table to the right or to the left."""
        self.action_view((self._view + by) % len(VIEWS))

    def action_sort(self, step: int) -> None:
        """Sort by the column beside the present one."""
        by, _ = self._sorts[self._view]
        places = [n for n, _ in self._columns]
        at = places.index(by) + step if by in places else 0
        self._sort_by(places[at % len(places)])

    def _sort_by(self, n: int) -> None:
        # Texts begin with A, amounts with the greatest.
        values = [line.values[n] for line in self._lines[:1]]
        self._sorts[self._view] = n, not (values and isinstance(values[0], str))
        self.draw(everything=True)

    def action_sort_by(self, n: int) -> None:
        """Sort by this column, or turn its order around."""
        if n == self._sorts[self._view][0]:
            self.action_reverse()
        else:
            self._sort_by(n)

    def action_reverse(self) -> None:
        """Turn the order around."""
        by, falling = self._sorts[self._view]
        self._sorts[self._view] = by, not falling
        self.draw(everything=True)

    def action_pause(self) -> None:
        """Let the tables stand still, or go on."""
        self._paused = not self._paused
        self.draw(everything=True)

    def action_graph(self) -> None:
        """Draw the whole time, or the latest."""
        graphs = self._graphs
        graphs.whole = not graphs.whole
        graphs.refresh()

    def action_filter(self) -> None:
        """Ask for the words."""
        line = self._input
        line.add_class("shown")
        line.value = self._words[self._view]
        line.focus()

    @on(Input.Changed, "#filter")
    def _on_words(self, event: Input.Changed) -> None:
        if event.input.has_class("shown"):
            self._words[self._view] = event.value
            self.draw(everything=True)

    @on(Input.Submitted, "#filter")
    def _on_words_given(self) -> None:
        self._close_filter()

    def _close_filter(self) -> None:
        self._input.remove_class("shown")
        self._table.focus()

    def action_clear(self) -> None:
        """End the filter."""
        self._close_filter()
        self._words[self._view] = ""
        self.draw(everything=True)

    def action_details(self) -> None:
        """Show all that is known of the line under the cursor."""
        line = self._table.chosen_line
        if line is not None:
            self._show(VIEWS[self._view].title.removesuffix("s"), line.detail)

    def action_books(self) -> None:
        """Show all counters."""
        self._show("Books", self._source.books)

    def action_help(self) -> None:
        """Explain keys and columns."""
        self._show("Help", lambda: _HELP)

    def action_next(self) -> None:
        """Turn to the next capture."""
        self._source.next()

    def _show(self, title: str, detail: Callable[[], Record]) -> None:
        self.push_screen(_Details(title, detail()))


def _tab(n: int, view: View) -> str:
    return f" {n + 1} {view.title}"


def _cell(column: Column, value: object) -> str:
    shown = _cut(printable(column.show(value)), column.width)  # the one door of all cells
    space = " " * (column.width - cell_len(shown))
    return f"{space}{shown}" if column.right else f"{shown}{space}"


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 0 else ""


def _parts(parts: Iterable[tuple[str, bool]], width: int) -> Text:
    """Return the parts as a line, as many as fit; those that alarm stand out."""
    drawn = Text(no_wrap=True, end="")
    for text, alarms in parts:
        if cell_len(drawn.plain) + 2 + cell_len(text) > width and drawn:
            break
        if drawn:
            drawn.append("  ")
        drawn.append(text, _ALARM if alarms else Style())
    return drawn


if not TYPE_CHECKING:  # pyright does not read the types of their base classes: they stay private
    Details, Lines, TopApp = _Details, _Lines, _TopApp
