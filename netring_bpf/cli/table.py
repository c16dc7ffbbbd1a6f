"""Formats events as the lines of a table, for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from netring_bpf.cli import units
from netring_bpf.cli.screen import Screen
from netring_bpf.errors import printable
from netring_bpf.events.event import (
    App,
    AppEvent,
    BackendChanged,
    CaptureError,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Endpoint,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    Lagged,
    LinkDown,
    LinkUp,
    NeighbourSeen,
    SinkFailed,
    StatsUpdated,
)

__all__ = ["Layout", "Table", "layout_of", "row"]

_WORDS: Final = {"started": "new", "established": "est", "updated": "upd", "ended": "end"}
_ENOUGH: Final = 20  # columns for what stands last, before others get more
_SHORTEST: Final = 8  # columns of an endpoint
# The order in which a wider screen shows more; 47 is the longest endpoint there is.
_MORE: Final[tuple[dict[str, Any], ...]] = (
    {"split": True},
    {"seconds": True},
    {"words": True},
    {"packets": True},
    {"micros": True},
    {"endpoint": 29},
    {"endpoint": 47},
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a line, as wide as the screen.

    ``width``: of the line; None: of any length, and nothing is cut.
    """

    width: int | None = None
    micros: bool = False
    words: bool = False
    endpoint: int = 21
    split: bool = False
    packets: bool = False
    seconds: bool = False

    @property
    def columns(self) -> tuple[tuple[str, int, bool], ...]:
        """Name, width and whether it stands at the right, of all columns but the last."""
        return (
            ("time", 15 if self.micros else 8, False),
            ("event", 11, False) if self.words else ("evt", 3, False),
            ("proto", 5, False),
            ("originator", self.endpoint, False),
            ("responder", self.endpoint, False),
            *((("orig pkts", 9, True),) if self.packets else ()),
            *((("sent", 8, True),) if self.split else (("bytes", 8, True),)),
            *((("resp pkts", 9, True),) if self.packets else ()),
            *((("received", 8, True),) if self.split else ()),
            *((("lasted", 7, True),) if self.seconds else ()),
        )

    @property
    def rest(self) -> int:
        """The width that is left for the last column."""
        taken = sum(width + 1 for _, width, _ in self.columns)
        return 1 << 20 if self.width is None else self.width - taken

    def header(self) -> str:
        """Return the names of the columns."""
        return self.line([name for name, _, _ in self.columns], "how")

    def line(self, cells: Sequence[str], last: str) -> str:
        """Return a line of these cells, one a column, cut where the screen ends."""
        places = zip(cells, self.columns, strict=True)
        if self.width is None:
            placed = [f"{cell:>{w}}" if right else f"{cell:<{w}}" for cell, (_, w, right) in places]
            return f"{' '.join(placed)}  {last}".rstrip()
        made = " ".join(_placed(cell, width, right) for cell, (_, width, right) in places)
        return _cut(f"{made} {_cut(last, self.rest)}", self.width).rstrip()


@lru_cache(maxsize=8)
def layout_of(width: int | None) -> Layout:
    """Return the columns that a line of this width has room for."""
    if width is None:
        return Layout(None, True, True, 29, True, True, True)
    layout = Layout(width)
    if layout.rest < _SHORTEST:
        spare = _SHORTEST - layout.rest
        return replace(layout, endpoint=max(_SHORTEST, layout.endpoint - (spare + 1) // 2))
    for more in _MORE:
        wider = replace(layout, **more)
        if wider.rest < _ENOUGH:
            break
        layout = wider
    return layout


class Table:
    """Makes lines as bytes. The names of the columns come again when they have scrolled away.

    ``screen``: says how large it is now. ``colours``: whether it shows them. ``with_names``: lines
    of flows have the names of hosts.
    """

    def __init__(
        self, screen: Callable[[], Screen], *, colours: bool = False, with_names: bool = True
    ) -> None:
        self._screen = screen
        self._with_names = with_names
        self._colours = colours
        self._layout: Layout | None = None
        self._since = 0  # lines since the header

    def lines(self, events: Iterable[Event]) -> bytes:
        """Return the lines of the events, and the names of the columns where they are due."""
        screen = self._screen()
        layout = layout_of(screen.columns)
        made: list[str] = []
        for event in events:
            text, style = row(event, layout, with_names=self._with_names)
            height = _height(text, screen.columns)
            if self._is_due(layout, screen, height):
                made.append(self._styled(layout.header(), "bold"))
                self._layout, self._since = layout, 0
            made.append(self._styled(text, style))
            self._since += height
        return "".join(f"{line}\n" for line in made).encode(errors="backslashreplace")

    def header(self) -> bytes:
        """Return the names of the columns."""
        layout = layout_of(self._screen().columns)
        self._layout, self._since = layout, 0
        return f"{self._styled(layout.header(), 'bold')}\n".encode()

    def _is_due(self, layout: Layout, screen: Screen, height: int) -> bool:
        if layout != self._layout:
            return True
        # The cursor stands below the last line.
        return screen.rows is not None and 0 < screen.rows - 2 < self._since + height

    def _styled(self, text: str, style: str) -> str:
        return _STYLES[style].render(text, color_system=_SYSTEM) if self._colours else text


_SYSTEM: Final = ColorSystem.STANDARD
_STYLES: Final = {
    name: Style.parse(name) for name in ("bold", "dim", "none", "red", "yellow", "green", "cyan")
}


def row(event: Event, layout: Layout | None = None, *, with_names: bool = True) -> tuple[str, str]:
    """Return the line of the event and its style, by rich's name."""
    match event:
        case Lagged(missed=missed):
            return f"{_clock(event.ts)} {missed} events were missed: the terminal is slow", "red"
        case LinkDown(interface=interface) | LinkUp(interface=interface):
            state = "up" if isinstance(event, LinkUp) else "down"
            return f"{_clock(event.ts)} {printable(interface)} is {state}", "yellow"
        case BackendChanged(interface=interface, backend=backend, reason=reason):
            told = f"{printable(interface)} is captured by {backend}: {printable(reason)}"
            return f"{_clock(event.ts)} {told}", "yellow"
        case CaptureError(error=error) | SinkFailed(error=error):
            return f"{_clock(event.ts)} {error}", "red"
        case NeighbourSeen(address=address, mac=mac, how=how, prefix_length=length):
            told = (
                f"{address} is at {mac}" if length is None else f"{address}/{length} is on the link"
            )
            return f"{_clock(event.ts)} {told} ({how.value})", "cyan"
        case DeviceSeen(device=device) | DeviceChanged(device=device) | DeviceGone(device=device):
            state = {DeviceSeen: "new", DeviceChanged: "changed", DeviceGone: "gone"}[type(event)]
            known = ", ".join(filter(None, (device.name, device.vendor))) if with_names else ""
            return f"{_clock(event.ts)} device {device.mac} {state} {printable(known)}", "cyan"
        case StatsUpdated(traffic=traffic):
            bits = units.rate(event.per_second(traffic.total.bytes * 8))
            packets = event.per_second(traffic.total.packets)
            return f"{_clock(event.ts)} {bits}, {packets:.0f} packets/s", "cyan"
    return _flow_row(event, layout or layout_of(None), with_names)


def _flow_row(event: FlowEvent, layout: Layout, with_names: bool) -> tuple[str, str]:
    flow, key = event.flow, event.flow.key
    kind, style = _kind(event)
    app = event.app if isinstance(event, AppEvent) else flow.app
    inside = _inside(app, flow.resp.name, with_names)
    clock = _clock(event.ts)
    sent, received = flow.orig, flow.resp
    amounts = [units.size(sent.bytes), units.size(received.bytes)]
    if layout.packets:
        amounts = [units.count(sent.packets), amounts[0], units.count(received.packets), amounts[1]]
    elif not layout.split:
        amounts = [units.size(flow.bytes)]
    if layout.seconds:
        amounts.append(units.span(flow.duration / 1e9))
    cells = [
        clock if layout.micros else clock[:8],
        kind if layout.words else _WORDS.get(kind, kind),
        key.proto_name,
        _endpoint(key.orig, key.proto, layout),
        _endpoint(key.resp, key.proto, layout),
        *amounts,
    ]
    return layout.line(cells, " ".join(_how(event, inside, layout))), style


def _how(event: FlowEvent, inside: list[str], layout: Layout) -> Iterator[str]:
    flow = event.flow
    told = [flow.history] if flow.history else []
    if isinstance(event, FlowEnded):
        told.append(event.reason.value)
    if layout.width is None:
        yield from (*told, *inside)
    else:  # where the line may be cut: a name tells more than a history
        yield from (*reversed(inside), *reversed(told))
    if flow.one_sided:
        yield "one-sided"
    if flow.key.vlans:
        yield "vlan " + ".".join(map(str, flow.key.vlans))


def _inside(app: App | None, resp_name: str | None, with_names: bool) -> list[str]:
    """Return the protocol inside and the name: ``["tls", "www.example.org"]``."""
    words = [] if app is None or not app.protocol else [app.protocol]
    name = resp_name if app is None or app.name is None else app.name
    if name and with_names:
        words.append(printable(name))
    return words


def _kind(event: FlowEvent) -> tuple[str, str]:
    if isinstance(event, FlowStarted):
        return "started", "green"
    if isinstance(event, FlowEstablished):
        return "established", "green"
    if isinstance(event, AppEvent):
        return "app", "cyan"
    return ("ended", "dim") if isinstance(event, FlowEnded) else ("updated", "none")


def _endpoint(endpoint: Endpoint, proto: int, layout: Layout) -> str:
    # The "port" of ICMP is a type or a code, which would mislead as a port.
    text = endpoint.text if proto in {1, 58} else str(endpoint)
    if layout.width is None or len(text) <= layout.endpoint:
        return text
    # The middle of a long address tells least, and the port stays.
    tail = (layout.endpoint - 1) * 2 // 3
    return f"{text[: layout.endpoint - 1 - tail]}…{text[-tail:]}"


def _placed(text: str, width: int, right: bool) -> str:
    shown = _cut(text, width)
    spaces = " " * (width - cell_len(shown))
    return spaces + shown if right else shown + spaces


def _cut(text: str, width: int) -> str:
    """Return the text within so many columns of a terminal; some characters take two."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 0 else ""


def _height(text: str, width: int | None) -> int:
    """Return the lines that a terminal of this width needs."""
    return 1 if width is None else max(1, -(-cell_len(text) // width))


def _clock(ts: int) -> str:
    return (
        time.strftime("%H:%M:%S", time.localtime(ts // 1_000_000_000))
        + f".{ts // 1000 % 1_000_000:06d}"
    )
