"""A capture as topics: makes messages of the capture's events, beside the flows. No I/O."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Final

from netring_bpf.errors import InterfaceGoneError
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.device import Device
from netring_bpf.events.event import (
    BackendChanged,
    CaptureError,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Event,
    Lagged,
    LinkDown,
    LinkUp,
    SinkFailed,
    StatsUpdated,
    Top,
)
from netring_bpf.events.plain import json_text, text, time_text
from netring_bpf.sinks.home_assistant import Discovery, Shown
from netring_bpf.sinks.mqtt_options import MqttOptions
from netring_bpf.sinks.mqtt_state import LARGEST, Message, Render, StateBoard
from netring_bpf.sinks.mqtt_topics import VERSIONS, TopicOptions, Topics

__all__ = ["NodeTopics", "kinds_of"]

_DEVICES: Final[tuple[type[Event], ...]] = (DeviceSeen, DeviceChanged, DeviceGone)
_LINK: Final[tuple[type[Event], ...]] = (LinkUp, LinkDown)
# These come whether they are asked for or not.
_ALWAYS: Final[tuple[type[Event], ...]] = (CaptureError, SinkFailed, Lagged)
_COMING_BACK: Final = 300 * 1_000_000_000  # ns from the start, for devices of an earlier run
_ADDRESSES_TOLD: Final = 4  # of a device in an event
_FEWEST: Final = (32, 8, 2, 0)  # entries of each list of a device, as its payload gets smaller
_LONGEST_MESSAGE: Final = 1000  # characters of an error
_LONGEST_OPTION: Final = 200
_DISCOVERY: Final = "discovery"
_DISCOVERY_INTERVAL: Final = 1.0  # seconds: a birth message may come at any rate
_LARGEST_DISCOVERY: Final = 1 << 18  # bytes: as many devices as there may be fit
_SETTLING: Final = 2.0  # seconds in which Home Assistant subscribes to the topics it has found
_SETTLED: Final = 1.0  # seconds, for what follows to go out


def kinds_of(options: MqttOptions) -> tuple[type[Event], ...]:
    """Return the classes of events that the topics besides flows are made of."""
    asked: list[type[Event]] = []
    if options.stats.enabled or options.top.enabled:
        asked.append(StatsUpdated)
    if options.devices.enabled or options.events.enabled:
        asked += _DEVICES
    if options.link.enabled or options.events.enabled:
        asked += _LINK
    if options.info.enabled or options.events.enabled:
        asked.append(BackendChanged)
    return tuple(asked)


class NodeTopics:
    """Puts the capture's state on a board, topic by topic."""

    def __init__(self, board: StateBoard, options: MqttOptions, node: str, capture: str) -> None:
        self._board = board
        self._options = options
        self._topics = Topics.of(options.prefix, node)
        self._capture = capture
        self._interface: str | None = None
        self._info: CaptureInfo | None = None
        self._devices: OrderedDict[str, Device] = OrderedDict()  # those that have a topic
        self._has_devices = False
        self._entities: tuple[Device, ...] = ()
        self._named: dict[str, str | None] = {}  # the names of those
        self._discovery: Discovery | None = None
        wanted = options.home_assistant
        if wanted is not None:
            shown = Shown(
                stats=options.stats.enabled,
                top=options.top.enabled,
                link=options.link.enabled,
                devices=options.devices.enabled,
            )
            self._discovery = Discovery(wanted, options.prefix, node, shown)
        self._settled = -_SETTLED  # when Home Assistant has subscribed, after its latest start
        self._inherited: dict[str, str] = {}  # topics of an earlier run, and when it saw the device
        #: Whether a device has no topic, because there are as many as there may be.
        self.is_full: bool = False

    # -- in --

    def begin(self, interface: str | None, info: CaptureInfo | None) -> None:
        """Tell of the capture as it was opened."""
        self._interface, self._info = interface, info
        if info is not None:
            self._has_devices = any(name.partition(".")[0] == "devices" for name, _ in info.options)
            self._put_info(info)
            if info.backend != "file":
                self._put_link(info.interface, info.since, is_up=info.link_up)
        self._put_discovery()

    def observe(self, events: Sequence[Event], info: CaptureInfo | None) -> None:
        """Take the events that are not of flows. ``info``: of the capture, as it is by now."""
        if info is not None and info != self._info:
            self._info = info
            self._put_info(info)
            self._put_discovery()
        for event in events:
            match event:
                case StatsUpdated():
                    self._on_stats(event)
                case DeviceSeen() | DeviceChanged():
                    self._on_device(event.device)
                case DeviceGone():
                    self._on_device_gone(event.device)
                case LinkUp() | LinkDown():
                    up = isinstance(event, LinkUp)
                    self._put_link(event.interface, event.ts, is_up=up)
                case CaptureError():
                    if isinstance(event.error, InterfaceGoneError) and self._info is not None:
                        self._put_link(self._info.interface, event.ts, is_up=False)
                case _:
                    pass
            if isinstance(event, (*_DEVICES, *_LINK, BackendChanged, *_ALWAYS)):
                self._add_event(event)
        if events:
            self._settle(events[-1].ts)

    def on_birth(self, now: float, *, retained: bool) -> None:
        """Tell Home Assistant, which has just started, of the capture.

        It subscribes to the topics when it has the discovery message. What the broker does not
        retain goes out again after that; ``retained``: it retains what it is asked to.
        """
        if self._discovery is None:
            return
        if now >= self._settled + _SETTLED:  # else that is to come already, or was just told
            self._settled = now + _SETTLING
            self._board.repeat(retained=not retained, not_before=self._settled)
        self._board.repeat_topic(self._discovery.topic)

    # -- what an earlier run has left --

    @property
    def retained(self) -> tuple[str, ...]:
        """The filters of topics of which an earlier run may have left some that are none now."""
        found = []
        if self._options.devices.enabled and self._options.devices.retain:
            found.append(self._topics.device_filter)
        if self._options.link.enabled and self._options.link.retain and self._info is not None:
            found.append(self._topics.link_filter)
        if self._discovery is not None:
            found.append(self._discovery.topic)
        return tuple(found)

    def inherit(self, topic: str, payload: bytes, oldest: str) -> None:
        """Take a message of an earlier run, which the broker retains.

        A link that is not of this capture is cleared, and so is a device that was not seen since
        ``oldest``. Beyond ``max_devices`` those go first that were unseen for the longest time.
        """
        if self._discovery is not None and topic == self._discovery.topic:
            if self._discovery.inherit(payload):
                self._put_discovery()
            return
        if topic.startswith(self._topics.link_filter.removesuffix("+")):
            if self._info is not None and topic != self._topics.link(self._info.interface):
                self._clear_unknown("link", topic, self._options.link)
            return
        if any(topic == self._topics.device(mac) for mac in self._devices) or not payload:
            return
        last = _last_of(payload)
        if last < oldest:
            self._clear_unknown("devices", topic, self._options.devices)
        else:
            self._inherited[topic] = last
            self._drop_inherited()

    def _drop_inherited(self) -> None:
        while self._inherited and (
            len(self._devices) + len(self._inherited) > self._options.max_devices
        ):
            topic = min(self._inherited, key=self._inherited.__getitem__)
            del self._inherited[topic]
            self._clear_unknown("devices", topic, self._options.devices)

    def _clear_unknown(self, kind: str, topic: str, options: TopicOptions) -> None:
        self._board.clear_unknown(kind, topic, self._qos(options))

    # -- topics --

    def _put_info(self, info: CaptureInfo) -> None:
        def render(smaller: int) -> bytes | None:
            if smaller > 1:
                return None
            record = info.to_dict()
            options = dict(info.options) if smaller == 0 else {}
            record["options"] = {n: text(v)[:_LONGEST_OPTION] for n, v in options.items()}
            if smaller:
                record["notices"] = []
                if info.filter is not None:
                    record["filter"] = text(info.filter)[:_LONGEST_OPTION]
            return _payload("info", record | {"capture": self._capture})

        self._put("info", self._topics.info, self._options.info, render, info)

    def _put_link(self, interface: str, since: int, *, is_up: bool) -> None:
        record = {"interface": text(interface), "up": is_up, "since": time_text(since)}
        self._put(
            "link", self._topics.link(interface), self._options.link, _one("link", record), is_up
        )

    def _on_stats(self, event: StatsUpdated) -> None:
        if event.health.devices is not None:
            self._note_devices()

        def stats(smaller: int) -> bytes | None:
            if smaller:
                return None
            record = event._replace(top=Top(), top_since_start=Top()).to_dict()
            for name in ("event", "top", "top_since_start"):
                del record[name]
            return _payload("stats", record)

        most = max(map(len, (*event.top, *event.top_since_start)), default=0)

        def top(smaller: int) -> bytes | None:
            rows = most >> smaller
            if smaller and not most >> (smaller - 1):
                return None
            return _payload(
                "top",
                {
                    "ts": time_text(event.ts),
                    "interface": text(event.interface),
                    "number": event.number,
                    "start": time_text(event.start),
                    "seconds": event.seconds,
                    "rows": rows,
                    "top": _cut(event.top, rows).to_dict(),
                    "top_since_start": _cut(event.top_since_start, rows).to_dict(),
                },
            )

        # Memory and CPU differ each time: alone they are no news.
        health = event.health._replace(memory=0, cpu=0.0)
        essence = (event.traffic, event.since_start, health)
        self._put("stats", self._topics.stats, self._options.stats, stats, essence)
        tables = (event.top, event.top_since_start)
        self._put("top", self._topics.top, self._options.top, top, tables)

    def _on_device(self, device: Device) -> None:
        self._note_devices()
        if not self._options.devices.enabled:
            return
        if device.mac not in self._devices and len(self._devices) >= self._options.max_devices:
            self._board.leave_out("devices", "left_out")
            self.is_full = True
            return
        self._devices[device.mac] = device
        self._inherited.pop(self._topics.device(device.mac), None)
        self._drop_inherited()

        def render(smaller: int) -> bytes | None:
            if smaller >= len(_FEWEST):
                return None
            record = device.to_dict()
            for name, value in record.items():
                if isinstance(value, list):
                    record[name] = value[: _FEWEST[smaller]]
            return _payload("devices", record)

        topic = self._topics.device(device.mac)
        self._put("devices", topic, self._options.devices, render, device)
        self._choose_entities(device)

    def _on_device_gone(self, device: Device) -> None:
        self._note_devices()
        if self._options.devices.enabled:
            self._devices.pop(device.mac, None)
            topic = self._topics.device(device.mac)
            self._board.clear(topic)
            if self._inherited.pop(topic, None) is not None:
                self._clear_unknown("devices", topic, self._options.devices)
            self._choose_entities(device)

    def _add_event(self, event: Event) -> None:
        if not self._options.events.enabled:
            return
        record = event.to_dict()
        if isinstance(event, DeviceSeen | DeviceChanged | DeviceGone):
            wanted = ("event", "ts", "mac", "name", "vendor", "addresses", "changed", "reason")
            record = {name: record[name] for name in wanted if name in record}
            record["addresses"] = [
                str(known.address) for known in event.device.addresses[:_ADDRESSES_TOLD]
            ]
        elif isinstance(event, CaptureError | SinkFailed):
            record["message"] = text(str(event.error))[:_LONGEST_MESSAGE]
        if self._interface is not None:
            record.setdefault("interface", text(self._interface))
        options = self._options.events
        self._board.add_event(self._message("events", self._topics.events, options, record))

    # -- Home Assistant --

    def _settle(self, now: int) -> None:
        """Remove the devices of an earlier run that did not come back for long."""
        began = None if self._info is None else self._info.since
        if self._discovery is None or began is None or now - began < _COMING_BACK:
            return
        if self._discovery.settle():
            self._put_discovery()

    def _note_devices(self) -> None:
        if not self._has_devices:
            self._has_devices = True
            self._put_discovery()

    def _choose_entities(self, device: Device) -> None:
        """Choose those that have an entity, as the device has come, changed or gone.

        Sends discovery again if it is one of them.
        """
        wanted = self._options.home_assistant
        most = 0 if wanted is None else wanted.devices
        named = self._named
        if device.mac not in self._devices:
            is_other = device.mac in named
        elif device.mac in named:
            is_other = named[device.mac] != device.name
        else:
            is_other = len(named) < most
        if is_other:
            self._entities = tuple(islice(self._devices.values(), most))
            self._named = {chosen.mac: chosen.name for chosen in self._entities}
            self._put_discovery()

    def _put_discovery(self) -> None:
        if self._discovery is None:
            return
        discovery, info = self._discovery, self._info

        def made(devices: Sequence[Device]) -> bytes:
            return json_text(
                discovery.message(
                    info, devices=devices, has_devices=self._has_devices, qos=self._options.qos
                )
            ).encode()

        entities, whole = self._entities, made(self._entities)

        def render(smaller: int) -> bytes | None:
            if smaller and not len(entities) >> (smaller - 1):
                return None
            return made(entities[: len(entities) >> smaller]) if smaller else whole

        self._put(
            _DISCOVERY,
            discovery.topic,
            TopicOptions(interval=_DISCOVERY_INTERVAL),
            render,
            whole,
            largest=_LARGEST_DISCOVERY,
        )

    # -- help --

    def _put(
        self,
        kind: str,
        topic: str,
        options: TopicOptions,
        render: Render,
        essence: object,
        *,
        largest: int = LARGEST,
    ) -> None:
        if options.enabled:
            self._board.put(
                Message(
                    kind,
                    topic,
                    render,
                    qos=self._qos(options),
                    retain=options.retain,
                    interval=options.interval,
                    essence=essence,
                    largest=largest,
                )
            )

    def _message(
        self, kind: str, topic: str, options: TopicOptions, record: dict[str, object]
    ) -> Message:
        return Message(
            kind,
            topic,
            _one(kind, record),
            qos=self._qos(options),
            retain=options.retain,
            interval=options.interval,
        )

    def _qos(self, options: TopicOptions) -> int:
        return self._options.qos if options.qos is None else options.qos


def _last_of(payload: bytes) -> str:
    """Return when the device of a payload was last seen; empty if it does not say so."""
    try:
        record = json.loads(payload)
        return str(record["last"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _payload(kind: str, record: dict[str, object]) -> bytes:
    return json_text({"v": VERSIONS[kind], **record}).encode()


def _one(kind: str, record: dict[str, object]) -> Render:
    """Return a renderer of a payload that has one size."""
    return lambda smaller: None if smaller else _payload(kind, record)


def _cut(top: Top, rows: int) -> Top:
    return Top(*(table[:rows] for table in top))
