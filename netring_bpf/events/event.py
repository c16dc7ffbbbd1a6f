"""The events of the stream, and packets.

This file hands on the names of ``key.py`` and ``flow.py`` too. Times are integers, nanoseconds
since the Unix epoch.

The records are named tuples, as those are faster to make than frozen dataclasses. Their class
tells one kind from another, not their length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from netring_bpf.events.app import App
from netring_bpf.events.device import (
    Device,
    DeviceAddress,
    DeviceChanged,
    DeviceEvent,
    DeviceGone,
    DeviceName,
    DeviceSeen,
)
from netring_bpf.events.flow import (
    Counters,
    FirstPacket,
    Flow,
    FlowEnd,
    PacketStatistics,
    Spread,
    TcpState,
    Tunnel,
    TunnelKind,
    flow_record,
)
from netring_bpf.events.key import Endpoint, FiveTuple
from netring_bpf.events.neighbour import NeighbourBy, NeighbourSeen
from netring_bpf.events.plain import count, json_text, text, time_text
from netring_bpf.events.stats import Health, StatsUpdated, Sums, Top, TopRow, Traffic

if TYPE_CHECKING:
    from netring_bpf.errors import NetringError

__all__ = [
    "App",
    "AppEvent",
    "BackendChanged",
    "CaptureError",
    "CoreEvent",
    "Counters",
    "Device",
    "DeviceAddress",
    "DeviceChanged",
    "DeviceEvent",
    "DeviceGone",
    "DeviceName",
    "DeviceSeen",
    "Endpoint",
    "Event",
    "FirstPacket",
    "FiveTuple",
    "Flow",
    "FlowEnd",
    "FlowEnded",
    "FlowEstablished",
    "FlowEvent",
    "FlowStarted",
    "FlowUpdated",
    "Health",
    "Lagged",
    "LinkDown",
    "LinkUp",
    "NeighbourBy",
    "NeighbourSeen",
    "NeverHidden",
    "Packet",
    "PacketStatistics",
    "SelectableEvent",
    "SinkFailed",
    "Spread",
    "StatsUpdated",
    "Sums",
    "TcpState",
    "Top",
    "TopRow",
    "Traffic",
    "Tunnel",
    "TunnelKind",
    "event_name",
]

_Kind = TypeVar("_Kind", bound=tuple[object, ...])


def _distinct(kind: type[_Kind]) -> type[_Kind]:
    """Make events equal only to events of their own class, whatever their values are."""

    def equal(self: tuple[object, ...], other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other)

    def unequal(self: tuple[object, ...], other: object) -> bool:
        return not equal(self, other)

    kind.__eq__ = equal  # type: ignore[method-assign]
    kind.__ne__ = unequal  # type: ignore[method-assign, assignment]
    return kind


def event_name(kind: type[Event]) -> str:
    """Return the name of a flow event in records: ``"ended"`` of ``FlowEnded``."""
    return kind.__name__.removeprefix("Flow").removesuffix("Event").removesuffix("Seen").lower()


def _record(event: str, ts: int, **fields: object) -> dict[str, object]:
    return {"event": event, "ts": time_text(ts), **fields}


@_distinct
class FlowStarted(NamedTuple):
    """The capture saw the first packet of a flow.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``flow``: the flow at that time.
    """

    ts: int
    flow: Flow

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("started", self.ts) | flow_record(self.flow)

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class FlowEstablished(NamedTuple):
    """The capture saw the TCP handshake (SYN, SYN+ACK, ACK) complete.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``flow``: the flow at that time.
    """

    ts: int
    flow: Flow

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("established", self.ts) | flow_record(self.flow)

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class FlowUpdated(NamedTuple):
    """The counters of a live flow, from a timer; silent flows have updates too.

    ``ts``: when the timer ran, in nanoseconds since the Unix epoch. ``flow``: the flow at that
    time. ``FlowOptions.update_interval`` sets the time between two updates.
    """

    ts: int
    flow: Flow

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("updated", self.ts) | flow_record(self.flow)

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class FlowEnded(NamedTuple):
    """The flow is over, with its final counters; ``reason`` tells why.

    ``ts``: when it ended, in nanoseconds since the Unix epoch; ``flow.last`` is the time of its
    latest packet. ``flow``: the flow with its final counters.
    """

    ts: int
    flow: Flow
    reason: FlowEnd

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("ended", self.ts) | flow_record(self.flow, self.reason)

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class AppEvent(NamedTuple):
    """The protocol inside a flow had an exchange: a handshake, a request, a question.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``flow``: the flow at that time.
    ``app`` is that exchange, and so is ``flow.app`` here.
    """

    ts: int
    flow: Flow
    app: App

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("app", self.ts) | flow_record(self.flow._replace(app=self.app))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class LinkDown(NamedTuple):
    """The interface went down or lost its carrier; the capture waits for it to return.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``interface``: its name.
    """

    ts: int
    interface: str

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("link_down", self.ts, interface=text(self.interface))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class LinkUp(NamedTuple):
    """The interface is up again and the capture goes on.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``interface``: its name.
    """

    ts: int
    interface: str

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("link_up", self.ts, interface=text(self.interface))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class BackendChanged(NamedTuple):
    """The capture goes on by another backend, with the same flows; ``reason`` tells why.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``interface``: its name.
    ``backend``: the one from now on, as ``Netring.backend``.
    """

    ts: int
    interface: str
    backend: str
    reason: str

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record(
            "backend_changed",
            self.ts,
            interface=text(self.interface),
            backend=self.backend,
            reason=text(self.reason),
        )

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class CaptureError(NamedTuple):
    """The capture failed; the live flows' ends follow, then the stream ends.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``error``: the error that ended
    the capture.
    """

    ts: int
    error: NetringError

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("error", self.ts, message=text(str(self.error)))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class SinkFailed(NamedTuple):
    """A sink failed and ended alone; the capture and the other subscribers go on.

    ``ts``: when it happened, in nanoseconds since the Unix epoch. ``sink``: the sink's name.
    ``error``: the error that ended it.
    """

    ts: int
    sink: str
    error: NetringError

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("sink_failed", self.ts, sink=text(self.sink), message=text(str(self.error)))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


@_distinct
class Lagged(NamedTuple):
    """This subscriber fell behind and missed events.

    ``ts``: the time of the event before the missed ones, in nanoseconds since the Unix epoch; 0 if
    there was none. ``missed``: the number of events, exactly.
    """

    ts: int
    missed: int

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/events.md."""
        return _record("lagged", self.ts, missed=count(self.missed))

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())


for _kind in (NeighbourSeen, DeviceSeen, DeviceChanged, DeviceGone, StatsUpdated):
    _distinct(_kind)

FlowEvent: TypeAlias = FlowStarted | FlowEstablished | FlowUpdated | FlowEnded | AppEvent
#: The events that the C core makes.
CoreEvent: TypeAlias = FlowEvent | NeighbourSeen
#: The events that ``kinds`` and ``where`` of a subscriber choose from.
SelectableEvent: TypeAlias = (
    CoreEvent | DeviceEvent | StatsUpdated | LinkDown | LinkUp | BackendChanged
)
#: The events that each subscriber gets, whatever it asks for.
NeverHidden: TypeAlias = SinkFailed | Lagged
#: All of them. ``CaptureError`` comes to those who ask for it; the others have its error raised.
Event: TypeAlias = SelectableEvent | CaptureError | NeverHidden


@dataclass(frozen=True, slots=True)
class Packet:
    """A captured frame, copied out of the ring.

    ``ts``: when it came, in nanoseconds since the Unix epoch. ``data``: the captured bytes, with
    VLAN tags in place on every backend. ``len``: the frame's length on the wire, in bytes; ``data``
    is shorter if the frame was cut.
    """

    ts: int
    data: bytes
    len: int
