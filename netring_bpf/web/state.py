"""What there is to show of a capture: fed by one subscriber, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import netring_bpf
from netring_bpf.errors import NetringError, OptionError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.event import (
    BackendChanged,
    CaptureError,
    Device,
    DeviceGone,
    DeviceSeen,
    Event,
    FlowEnded,
    Lagged,
    LinkDown,
    LinkUp,
    SinkFailed,
    StatsUpdated,
    TopRow,
)
from netring_bpf.events.plain import time_text
from netring_bpf.events.select import LazyBatch
from netring_bpf.events.stats import Top
from netring_bpf.web.clean import clean, clean_text
from netring_bpf.web.records import (
    COLUMNS,
    FlowRecord,
    columns_of,
    device_record,
    flow_record,
    stats_record,
)
from netring_bpf.web.viewers import Viewers
from netring_bpf.web.window import Window

if TYPE_CHECKING:
    from netring_bpf.devices import DeviceTable
    from netring_bpf.netring import Netring

__all__ = ["MAX_FLOWS", "MAX_ROWS", "State"]

MAX_FLOWS: Final = 2000  # ended flows that are kept
MAX_ROWS: Final = 50  # of a table of the largest
_SHOWN_ROWS: Final = 10
_SHOWN_FLOWS: Final = 100  # to a new viewer
_SHOWN_DEVICES: Final = 200
_HISTORY: Final = 900  # intervals
_LOG: Final = 50
_PULSE: Final = 0.25  # seconds between two messages of a kind
_FLOWS_A_PULSE: Final = 50  # that are decoded and shown; the others are counted
_TOP_EVERY: Final = 2.0  # seconds
_DEVICES_EVERY: Final = 5.0
_ORDER_EVERY: Final = 1.0
_ORDER_COST: Final = 50  # of the time, sorting devices takes this part at most

_KINDS: Final = (
    FlowEnded, StatsUpdated, DeviceSeen, DeviceGone, LinkUp, LinkDown, BackendChanged,
)  # fmt: skip
_log = logging.getLogger("netring_bpf.web")


class State:
    """Keeps what the page shows, and tells viewers what is new.

    It reads the ring by one subscriber, whose events it decodes at a bounded rate. Raises
    ``OptionError`` for a ring that makes no ``FlowEnded``.
    """

    def __init__(self, ring: Netring, viewers: Viewers) -> None:
        self._ring = ring
        self._viewers = viewers
        self._events = ring.subscribe_batches(kinds=_KINDS, errors="event", name="web")
        self._devices = _devices_of(ring)
        self._since = time.time_ns()
        self._latest: StatsUpdated | None = None
        self._history: deque[tuple[object, ...]] = deque(maxlen=_HISTORY)
        self._window = Window()
        self._flows: deque[FlowRecord] = deque(maxlen=MAX_FLOWS)
        self._left_out = 0
        self._ended_flows = 0
        self._lagged = 0
        self._log: deque[dict[str, object]] = deque(maxlen=_LOG)
        self._status = "running"
        self._message: str | None = None
        self.ended: Final = asyncio.Event()
        self.error: Exception | None = None  # of the page itself
        # What viewers were not told yet.
        self._new_rows: deque[tuple[object, ...]] = deque(maxlen=_HISTORY)
        self._new_flows: list[FlowRecord] = []
        self._new_left_out = 0
        self._new_notes: deque[dict[str, object]] = deque(maxlen=_LOG)
        self._is_top_new = False
        self._top_at = self._devices_at = 0.0
        self._order: list[Device] = []
        self._order_at = 0.0
        self._shown_devices: list[dict[str, object]] | None = None

    # -- feeding --

    async def run(self) -> None:
        """Read the ring to its end."""
        try:
            async with self._events:
                if not self.capture.link_up:
                    self._turn("link_down", "the link was down when the capture began")
                async for batch in self._events:
                    self._take(batch)
            if self._status != "failed":
                self._turn("ended", "the capture has ended")
        except Exception as error:  # noqa: BLE001 - the page says so, and the log says more
            _log.exception("the page fails")
            self.error = error
            self._turn("failed", f"the page itself failed: {type(error).__name__}")
        finally:
            self.ended.set()

    def _take(self, batch: Sequence[Event]) -> None:
        if isinstance(batch, LazyBatch):  # it has ended flows alone
            self._take_flows(batch)
        else:
            for event in batch:
                self._take_event(event)

    def _take_flows(self, batch: Sequence[Event]) -> None:
        room = _FLOWS_A_PULSE - len(self._new_flows)
        self._ended_flows += len(batch)
        taken = [event for event in islice(batch, room) if isinstance(event, FlowEnded)]
        for event in taken:
            record = flow_record(event, self._name_of)
            self._new_flows.append(record)
            self._flows.append(record)
        self._new_left_out += len(batch) - len(taken)
        self._left_out += len(batch) - len(taken)

    def _take_event(self, event: Event) -> None:
        match event:
            case FlowEnded():
                self._take_flows((event,))
            case StatsUpdated():
                self._latest = event
                row = columns_of(event)
                self._history.append(row)
                self._new_rows.append(row)
                self._window.add(event)
                self._is_top_new = True
            case DeviceSeen(ts=ts, device=device):
                self._devices_at = min(self._devices_at, time.monotonic() + _PULSE - _DEVICES_EVERY)
                self._note(ts, "info", f"new device {_called(device)}")
            case DeviceGone(ts=ts, device=device, reason=reason):
                self._note(ts, "info", f"device {_called(device)} is gone ({reason})")
            case LinkDown(ts=ts):
                self._turn("link_down", "the link is down", ts)
            case LinkUp(ts=ts):
                self._turn("running", "the link is up", ts)
            case BackendChanged(ts=ts, backend=backend, reason=reason):
                self._note(ts, "warning", f"the capture goes on by {backend}: {reason}")
            case CaptureError(ts=ts, error=error):
                self._turn("failed", str(error), ts)
            case SinkFailed(ts=ts, sink=sink, error=error):
                self._note(ts, "warning", f"sink {sink} failed: {error}")
            case Lagged(missed=missed):
                self._lagged += missed

    def _name_of(self, mac: str) -> str | None:
        device = None if self._devices is None else self._devices.get(mac)
        return None if device is None or device.is_gateway else device.name

    def _turn(self, status: str, message: str, ts: int | None = None) -> None:
        self._status = status
        self._message = None if status == "running" else clean_text(message)
        level = {"failed": "error", "link_down": "warning"}.get(status, "info")
        self._note(time.time_ns() if ts is None else ts, level, message)
        self._viewers.send("state", self.state())

    def _note(self, ts: int, level: str, text: str) -> None:
        note: dict[str, object] = {"ts": time_text(ts), "level": level, "text": clean_text(text)}
        self._log.append(note)
        self._new_notes.append(note)

    # -- telling --

    async def pulse(self) -> None:
        """Tell the viewers what is new, from time to time, for ever."""
        while True:
            await asyncio.sleep(_PULSE)
            try:
                self.tell()
            except Exception:  # noqa: BLE001 - the page goes on, and the log says what is wrong
                _log.exception("the page could not be told what is new")

    def tell(self) -> None:
        """Tell the viewers what is new."""
        now = time.monotonic()
        flows, self._new_flows = self._new_flows, []
        left_out, self._new_left_out = self._new_left_out, 0
        rows, self._new_rows = self._new_rows, deque(maxlen=_HISTORY)
        notes, self._new_notes = self._new_notes, deque(maxlen=_LOG)
        if not self._viewers:
            return
        if notes:
            self._viewers.send("notes", {"notes": list(notes)})
        if rows and self._latest is not None:
            self._viewers.send("stats", {"stats": stats_record(self._latest), "rows": list(rows)})
        if flows or left_out:
            # The sums come each time, as a viewer may have missed some.
            sums = {"ended": self._ended_flows, "left_out": self._left_out}
            self._viewers.send("flows", {"flows": flows, **sums})
        if self._is_top_new and now - self._top_at >= _TOP_EVERY:
            self._top_at, self._is_top_new = now, False
            self._viewers.send("top", self._top_shown())
        if self._devices is not None and now - self._devices_at >= _DEVICES_EVERY:
            self._tell_devices(now)

    def _tell_devices(self, now: float) -> None:
        self._devices_at = now
        before, self._shown_devices = self._shown_devices, self.devices()
        shown = self._shown_devices
        if shown != before:
            self._viewers.send("devices", {"devices": shown, "known": self.known})

    # -- reading --

    @property
    def latest(self) -> StatsUpdated | None:
        """The latest interval."""
        return self._latest

    @property
    def is_running(self) -> bool:
        """Whether the capture runs, on a link that is up."""
        return self._status == "running"

    @property
    def watches_devices(self) -> bool:
        """Whether there is a table of devices."""
        return self._devices is not None

    def state(self) -> dict[str, object]:
        """Return how the capture fares."""
        return {"status": self._status, "message": self._message}

    @property
    def capture(self) -> CaptureInfo:
        """The capture as it was opened."""
        return self._events.info or self._described()

    def info(self) -> dict[str, object]:
        """Return what the capture is."""
        record = clean(self.capture.to_dict())
        assert isinstance(record, dict)
        record["is_file"] = self._ring.progress is not None
        return record

    def _described(self) -> CaptureInfo:
        backend = attach = None
        notices: tuple[str, ...] = ()
        with contextlib.suppress(NetringError):  # it is not open
            backend, attach, notices = self._ring.backend, self._ring.attach, self._ring.notices
        return CaptureInfo(
            version=netring_bpf.__version__,
            interface=self._ring.interface,
            backend=backend or "",
            attach=attach,
            filter=None,
            since=self._since,
            notices=tuple(notices),
        )

    def stats(self) -> dict[str, object] | None:
        """Return the latest interval; None before the first."""
        return None if self._latest is None else stats_record(self._latest)

    def history(self) -> dict[str, object]:
        """Return the last intervals, a row each."""
        return {"columns": list(COLUMNS), "rows": [list(row) for row in self._history]}

    def top(self, limit: int) -> dict[str, object]:
        """Return the tables of the largest: of the interval, a minute, and all of the capture."""
        latest = self._latest
        empty = Top()
        return {
            "seconds": round(self._window.seconds, 6),
            "interval": self._tables(empty if latest is None else latest.top, limit),
            "minute": self._tables(self._window.top(limit), limit),
            "since_start": self._tables(empty if latest is None else latest.top_since_start, limit),
        }

    def _tables(self, top: Top, limit: int) -> dict[str, list[dict[str, object]]]:
        return {
            "devices": [_row(row) for row in top.devices[:limit]],
            "hosts": [_row(self._with_device(row)) for row in top.hosts[:limit]],
            "names": [_row(row) for row in top.names[:limit]],
            "services": [_row(row) for row in top.services[:limit]],
            "ports": [_row(row) for row in top.ports[:limit]],
            "prefixes": [_row(row) for row in top.prefixes[:limit]],
        }

    def _with_device(self, host: TopRow) -> TopRow:
        """Give a host without a name that of the device which has the address."""
        if host.name is not None or self._devices is None:
            return host
        try:
            device = self._devices.of(host.key)
        except ValueError:  # flows of pairs of stations have no IP addresses
            return host
        return host if device is None else host._replace(name=device.name)

    def _top_shown(self) -> dict[str, object]:
        tables = self.top(_SHOWN_ROWS)
        del tables["interval"]
        for span in ("minute", "since_start"):
            by_kind = tables[span]
            assert isinstance(by_kind, dict)
            for kind, rows in by_kind.items():
                for row in rows:
                    row["recent"] = self._window.recent(kind, row["key"])
        return tables

    def devices(self, limit: int = _SHOWN_DEVICES) -> list[dict[str, object]]:
        """Return the devices, the busiest first."""
        return [
            device_record(device) | {"recent": self._window.recent("devices", device.mac)}
            for device in self._busiest()[:limit]
        ]

    def _busiest(self) -> list[Device]:
        """Return all devices in their order, which is made anew from time to time."""
        now = time.monotonic()
        if self._devices is not None and now >= self._order_at:
            self._order = sorted(self._devices, key=lambda d: -(d.sent + d.received))
            # A large table costs much, so it is sorted more seldom.
            self._order_at = now + max(_ORDER_EVERY, _ORDER_COST * (time.monotonic() - now))
        return self._order

    @property
    def known(self) -> int:
        """The number of devices that are known."""
        return 0 if self._devices is None else len(self._devices)

    def flows(self, search: str, limit: int) -> dict[str, object]:
        """Return the latest ended flows that hold each word of ``search``, the latest first."""
        words = search.casefold().split()
        found = (record for record in reversed(self._flows) if _holds(record, words))
        return {
            "flows": list(islice(found, limit)),
            "kept": len(self._flows),
            "ended": self._ended_flows,
            "left_out": self._left_out,
            "lagged": self._lagged,
        }

    def snapshot(self) -> dict[str, object]:
        """Return all that a new viewer needs."""
        return {
            "info": self.info(),
            "state": self.state(),
            "stats": self.stats(),
            "history": self.history(),
            "top": self._top_shown(),
            "devices": self.devices(),
            "known": self.known,
            "watches_devices": self.watches_devices,
            "flows": self.flows("", _SHOWN_FLOWS),
            "log": list(self._log),
        }

    def close(self) -> None:
        """Read no more."""
        self._events.close()


def _devices_of(ring: Netring) -> DeviceTable | None:
    try:
        return ring.devices
    except OptionError:  # it watches none
        return None


def _row(row: TopRow) -> dict[str, object]:
    record = clean(row.to_dict())
    assert isinstance(record, dict)
    return record


def _called(device: Device) -> str:
    known_as = device.name or device.vendor
    return device.mac if known_as is None else f"{known_as} ({device.mac})"


_SEARCHED: Final = (
    "proto", "service", "name", "orig_name", "orig_addr", "orig_port", "resp_addr", "resp_port",
    "orig_mac", "resp_mac", "conn_state", "reason",
)  # fmt: skip


def _holds(record: FlowRecord, words: Sequence[str]) -> bool:
    if not words:
        return True
    text = " ".join(str(record[field]) for field in _SEARCHED if field in record).casefold()
    return all(word in text for word in words)
