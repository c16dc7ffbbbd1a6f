"""The state that ``netring-bpf top`` shows, made of a capture's events. It draws nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from netring_bpf.events.batch import EventBatch
from netring_bpf.events.device import Device
from netring_bpf.events.event import (
    BackendChanged,
    CaptureError,
    CoreEvent,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    Health,
    Lagged,
    LinkDown,
    LinkUp,
    SinkFailed,
    StatsUpdated,
    Top,
    TopRow,
    Traffic,
)

__all__ = [
    "DeviceLine",
    "FlowLine",
    "Point",
    "Record",
    "TableLine",
    "TopModel",
    "device_line",
]

_SECOND: Final = 1_000_000_000
_MOST_FLOWS: Final = 1000  # of each: live, latest ended, largest ended
_MOST_DEVICES: Final = 4096
_MOST_NOTES: Final = 500
_MOST_POINTS: Final = 4096
_LONGEST: Final = 256  # characters of a text from the network

_OF_FLOWS: Final = (FlowStarted, FlowEstablished, FlowUpdated, FlowEnded)

#: The names and values of what details show.
Record = Mapping[str, object]


class FlowLine(NamedTuple):
    """A flow as a line of the table. ``detail``: returns all that is known of it."""

    key: str
    is_live: bool
    proto: str
    orig: str
    resp: str
    name: str
    sent: int
    received: int
    start: int
    last: int
    how: str
    detail: Callable[[], Record]

    @property
    def total(self) -> int:
        """Bytes of both directions."""
        return self.sent + self.received


class DeviceLine(NamedTuple):
    """A device as a line of the table, without its traffic of now."""

    mac: str
    name: str
    vendor: str
    address: str
    sent: int
    received: int
    flows: int
    last: int
    detail: Callable[[], Record]


class TableLine(NamedTuple):
    """One of the largest of its kind. ``now``: bits a second in the latest interval.

    ``is_whole``: ``row`` is of the whole time; else the key is no longer among the largest of it,
    and ``row`` is of the latest interval alone.
    """

    row: TopRow
    now: float
    is_whole: bool
    latest: TopRow | None


class Point(NamedTuple):
    """The traffic between two times, in bytes."""

    start: int
    end: int
    total: int
    inbound: int
    outbound: int


@dataclass(slots=True)
class Sums:
    """The books since the first interval that was seen."""

    received: int = 0
    lost: int = 0
    evicted: int = 0
    events_lost: int = 0
    events_lagged: int = 0
    unbalanced: int = 0  # intervals


class TopModel:
    """Takes events, and keeps what fits into bounded memory.

    ``version`` grows with each change. ``keeps_all``: every flow event is looked at, as of a file,
    which waits; else only as many as ``budget`` allows in an interval, and ``unseen`` counts the
    others. ``with_names``: flows, devices and hosts have names beside their addresses.
    """

    def __init__(
        self, *, keeps_all: bool = False, budget: int = 2000, with_names: bool = True
    ) -> None:
        self.version: int = 0
        self._with_names = with_names
        self.stats: StatsUpdated | None = None
        self.sums: Sums = Sums()
        self.notes: deque[tuple[int, str]] = deque(maxlen=_MOST_NOTES)
        self.points: list[Point] = []
        self.devices: OrderedDict[str, DeviceLine] = OrderedDict()
        self.unseen: int = 0
        self._end = asyncio.Event()
        self._keeps_all = keeps_all
        self._budget = budget
        self._left = budget
        self._skipped = False
        self._live: OrderedDict[str, FlowLine] = OrderedDict()
        self._latest: deque[FlowLine] = deque(maxlen=_MOST_FLOWS)
        self._largest: dict[str, FlowLine] = {}
        self._least = 0  # bytes of the smallest among the largest, once they are many

    # -- in --

    def feed(self, events: Sequence[Event]) -> None:
        """Take a batch of events in their order."""
        self.version += 1
        if isinstance(events, EventBatch):
            self._feed_flows(events)
            return
        for event in events:
            match event:
                case StatsUpdated():
                    self.add_stats(event)
                case DeviceSeen(device=device) | DeviceChanged(device=device):
                    if isinstance(event, DeviceSeen):
                        self.note(event.ts, f"new device {self._title(device)}")
                    self.add_device(device_line(device))
                case DeviceGone(device=device):
                    self.devices.pop(device.mac, None)
                    self.note(event.ts, f"device {self._title(device)} is gone")
                case Lagged(missed=missed):
                    self.unseen += missed
                case LinkUp(ts=ts, interface=interface):
                    self.note(ts, f"{interface} is up")
                case LinkDown(ts=ts, interface=interface):
                    self.note(ts, f"{interface} is down")
                case BackendChanged(ts=ts, backend=backend, reason=reason):
                    self.note(ts, f"captured by {backend} now: {reason}")
                case CaptureError(ts=ts, error=error) | SinkFailed(ts=ts, error=error):
                    self.note(ts, str(error))
                case _ if isinstance(event, _OF_FLOWS):
                    self.add_flow(_flow_line(event))

    def _title(self, device: Device) -> str:
        known = ", ".join(filter(None, (device.name, device.vendor))) if self._with_names else ""
        return f"{device.mac} {known[:_LONGEST]}".rstrip()

    def _feed_flows(self, batch: EventBatch) -> None:
        events: Iterable[CoreEvent] = batch
        if not self._keeps_all:
            skipped = max(0, len(batch) - self._left)
            self.unseen += skipped
            self._skipped = self._skipped or skipped > 0
            self._left -= len(batch) - skipped
            events = batch[skipped:]
        for event in events:
            if isinstance(event, _OF_FLOWS):
                self.add_flow(_flow_line(event))

    def add_flow(self, line: FlowLine) -> None:
        """Take what is known of a flow by now."""
        self.version += 1
        line = line if self._with_names else line._replace(name="")
        if line.is_live:
            self._live[line.key] = line
            self._live.move_to_end(line.key)
            if len(self._live) > _MOST_FLOWS:
                self._live.popitem(last=False)
            return
        self._live.pop(line.key, None)
        self._latest.append(line)
        if line.total > self._least:
            self._largest[line.key] = line
            if len(self._largest) >= 2 * _MOST_FLOWS:
                kept = sorted(self._largest.values(), key=lambda flow: -flow.total)[:_MOST_FLOWS]
                self._largest = {flow.key: flow for flow in kept}
                self._least = kept[-1].total

    def add_device(self, line: DeviceLine) -> None:
        """Take what is known of a device by now."""
        self.version += 1
        line = line if self._with_names else line._replace(name="", vendor="")
        self.devices[line.mac] = line
        self.devices.move_to_end(line.mac)
        if len(self.devices) > _MOST_DEVICES:
            self.devices.popitem(last=False)

    def remove_device(self, mac: str) -> None:
        """Forget a device."""
        self.version += 1
        self.devices.pop(mac, None)

    def add_stats(self, event: StatsUpdated) -> None:
        """Take the aggregates of an interval."""
        self.version += 1
        self.stats = event
        self._left = self._budget
        if self._skipped:  # the ends of some may be among them; live ones come again
            self._live.clear()
            self._skipped = False
        health, sums = event.health, self.sums
        sums.received += health.received
        sums.lost += health.lost
        sums.evicted += health.flows_evicted
        sums.events_lost += health.events_lost
        sums.events_lagged += health.events_lagged
        sums.unbalanced += not health.balanced
        traffic = event.traffic
        self._add_point(
            Point(
                event.start,
                event.ts,
                traffic.total.bytes,
                traffic.inbound.bytes,
                traffic.outbound.bytes,
            )
        )

    def add_tables(self, top: Top, since_start: Top) -> None:
        """Take the tables of the latest interval, where they come apart from its sums."""
        self.version += 1
        if self.stats is not None:
            self.stats = self.stats._replace(top=top, top_since_start=since_start)

    def note(self, ts: int, text: str) -> None:
        """Keep a message for people."""
        self.version += 1
        self.notes.append((ts, text[: 4 * _LONGEST]))

    def end(self) -> None:
        """Note that no event will come any more."""
        self.version += 1
        self._end.set()

    def clear(self) -> None:
        """Forget everything but the notes: another capture follows."""
        self.version += 1
        self.stats, self.sums, self.points = None, Sums(), []
        self.devices.clear()
        self._live.clear()
        self._latest.clear()
        self._largest.clear()
        self._least = 0

    def _add_point(self, point: Point) -> None:
        self.points.append(point)
        if len(self.points) >= _MOST_POINTS:  # the older half at half of the resolution
            half = _MOST_POINTS // 2
            older = zip(self.points[:half:2], self.points[1:half:2], strict=True)
            self.points[:half] = [
                Point(a.start, b.end, a.total + b.total, a.inbound + b.inbound,
                      a.outbound + b.outbound)
                for a, b in older
            ]  # fmt: skip

    # -- out --

    @property
    def ended(self) -> bool:
        """Whether no event will come any more."""
        return self._end.is_set()

    async def until_end(self) -> None:
        """Wait until no event will come any more."""
        await self._end.wait()

    @property
    def health(self) -> Health:
        """The state of the capture at the end of the latest interval."""
        return Health() if self.stats is None else self.stats.health

    @property
    def traffic(self) -> Traffic:
        """All traffic since the start."""
        return Traffic() if self.stats is None else self.stats.since_start

    @property
    def now(self) -> int:
        """The end of the latest interval, in the capture's own time; 0 before the first."""
        return 0 if self.stats is None else self.stats.ts

    def flows(self) -> list[FlowLine]:
        """Return the flows that are kept: live ones, the latest and the largest ended ones."""
        ended = {line.key: line for line in self._latest}
        return [*self._live.values(), *({**self._largest, **ended}).values()]

    def table(self, kind: str) -> list[TableLine]:
        """Return the lines of one kind of ``Top``."""
        lines = self._table(kind)
        if self._with_names:
            return lines
        return [line._replace(row=line.row._replace(name=None)) for line in lines]

    def _table(self, kind: str) -> list[TableLine]:
        event = self.stats
        if event is None:
            return []
        latest: dict[str, TopRow] = {row.key: row for row in getattr(event.top, kind)}
        whole: dict[str, TopRow] = {row.key: row for row in getattr(event.top_since_start, kind)}
        lines = []
        for key in {**whole, **latest}:
            of_now = latest.get(key)
            rate = 0.0 if of_now is None else event.per_second(of_now.bytes * 8)
            row = whole.get(key) or of_now
            if row is not None:
                lines.append(TableLine(row, rate, key in whole, of_now))
        return lines

    def rates(self, columns: int, *, whole: bool) -> list[tuple[float, float, float]]:
        """Return bits a second: all, in and out, of ``columns`` spans of time that end now.

        ``whole``: from the first interval on; else each span is as long as the latest interval.
        """
        if not self.points or columns < 1:
            return []
        end = self.points[-1].end
        start = self.points[0].start
        if not whole:
            start = end - columns * max(1, end - self.points[-1].start)
        width = (end - start) / columns
        sums = [[0.0, 0.0, 0.0] for _ in range(columns)]
        for point in reversed(self.points):
            if point.end < start:
                break
            _spread(point, start, width, sums)
        scale = 8 * _SECOND / width if width > 0 else 0.0
        return [(a * scale, b * scale, c * scale) for a, b, c in sums]


def _spread(point: Point, start: int, width: float, sums: list[list[float]]) -> None:
    """Add the bytes of a point to the spans that it covers, in proportion."""
    last = len(sums) - 1
    length = point.end - point.start
    if width <= 0 or length <= 0:
        at = until = last if width <= 0 else min(last, int((point.end - start) / width))
    else:
        at = min(last, int(max(0, point.start - start) / width))
        until = min(last, int((point.end - start) / width))
    for place in range(at, until + 1):
        part = 1.0
        if width > 0 and length > 0:
            left, right = start + place * width, start + (place + 1) * width
            part = max(0.0, min(right, point.end) - max(left, point.start)) / length
        for n, value in enumerate((point.total, point.inbound, point.outbound)):
            sums[place][n] += value * part


def _flow_line(event: FlowEvent) -> FlowLine:
    flow, key = event.flow, event.flow.key
    app = flow.app
    name = (app.name if app is not None else None) or flow.resp.name or ""
    has_ports = key.proto not in {1, 58}
    return FlowLine(
        key=str(flow.id),
        is_live=not isinstance(event, FlowEnded),
        proto=(app.protocol if app is not None else None) or key.proto_name,
        orig=str(key.orig) if has_ports else key.orig.text,
        resp=str(key.resp) if has_ports else key.resp.text,
        name=name[:_LONGEST],
        sent=flow.orig.bytes,
        received=flow.resp.bytes,
        start=flow.start,
        last=flow.last,
        how=event.reason.value if isinstance(event, FlowEnded) else "",
        detail=event.to_dict,
    )


def device_line(device: Device) -> DeviceLine:
    """Return the line of a device."""
    addresses = [known.address for known in device.addresses]
    first = next((a for a in addresses if a.version == 4), addresses[0] if addresses else "")
    return DeviceLine(
        mac=device.mac,
        name=(device.name or "")[:_LONGEST],
        vendor="random" if device.random else (device.vendor or "")[:_LONGEST],
        address=str(first),
        sent=device.sent,
        received=device.received,
        flows=device.flows,
        last=device.last,
        detail=device.to_dict,
    )
