"""The aggregates of an interval: sums, rates, the largest of each kind, and the books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from netring_bpf.events.plain import count, json_text, seconds, text, time_text

__all__ = ["Health", "StatsUpdated", "Sums", "Top", "TopRow", "Traffic"]


class Sums(NamedTuple):
    """Packets and bytes of flows, and the number of flows that began.

    ``packets``: frames. ``bytes``: of whole frames on the wire. ``flows``: flows that began.
    """

    packets: int = 0
    bytes: int = 0
    flows: int = 0

    def __add__(self, other: object) -> Sums:
        """Return the sum of both, field by field."""
        if not isinstance(other, Sums):
            return NotImplemented
        return Sums(
            self.packets + other.packets, self.bytes + other.bytes, self.flows + other.flows
        )

    def to_dict(self) -> dict[str, object]:
        """Return the sums as plain values."""
        return {
            "packets": count(self.packets),
            "bytes": count(self.bytes),
            "flows": count(self.flows),
        }


class Traffic(NamedTuple):
    """The traffic of all flows, split by where it goes.

    ``inbound``: sent to an address of the local prefixes by one that is outside of them;
    ``outbound``: the opposite. ``internal``: both are local. ``transit``: neither is. A flow
    counts where its originator begins it. ``total`` is the sum of the four.
    """

    inbound: Sums = Sums()
    outbound: Sums = Sums()
    internal: Sums = Sums()
    transit: Sums = Sums()

    @property
    def total(self) -> Sums:
        """All of it."""
        return self.inbound + self.outbound + self.internal + self.transit

    def to_dict(self) -> dict[str, object]:
        """Return the traffic as plain values."""
        return {
            "total": self.total.to_dict(),
            "in": self.inbound.to_dict(),
            "out": self.outbound.to_dict(),
            "internal": self.internal.to_dict(),
            "transit": self.transit.to_dict(),
        }


class TopRow(NamedTuple):
    """One of the largest of its kind.

    ``key``: the text of it: a MAC address, an IP address, a name, an application protocol,
    ``"tcp/443"``, or a prefix. ``name``: the best name of it, if it has one besides the key.
    ``bytes_sent``, ``packets_sent``: sent by it; of a name, service or port, those that
    originators sent. ``bytes_received``, ``packets_received``: sent to it. Bytes are of whole
    frames. ``flows``: flows that began. ``error``: the most bytes that may be missing;
    0: the row is exact.
    """

    key: str
    name: str | None
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    flows: int
    error: int = 0

    @property
    def bytes(self) -> int:
        """Bytes sent and received."""
        return self.bytes_sent + self.bytes_received

    @property
    def packets(self) -> int:
        """Packets sent and received."""
        return self.packets_sent + self.packets_received

    def to_dict(self) -> dict[str, object]:
        """Return the row as plain values."""
        record: dict[str, object] = {"key": text(self.key)}
        if self.name is not None:
            record["name"] = text(self.name)
        return record | {
            "bytes": count(self.bytes),
            "bytes_sent": count(self.bytes_sent),
            "bytes_received": count(self.bytes_received),
            "packets": count(self.packets),
            "packets_sent": count(self.packets_sent),
            "packets_received": count(self.packets_received),
            "flows": count(self.flows),
            "error": count(self.error),
        }


class Top(NamedTuple):
    """The largest by bytes of each kind, the largest first.

    ``devices``: by MAC address; ``hosts``: by IP address; ``names``: by the name asked for;
    ``services``: by application protocol; ``ports``: by transport protocol and responder's port;
    ``prefixes``: by /24 and /48. A flow counts for both of its devices, hosts and prefixes.
    """

    devices: tuple[TopRow, ...] = ()
    hosts: tuple[TopRow, ...] = ()
    names: tuple[TopRow, ...] = ()
    services: tuple[TopRow, ...] = ()
    ports: tuple[TopRow, ...] = ()
    prefixes: tuple[TopRow, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the tables as plain values."""
        return {kind: [row.to_dict() for row in rows] for kind, rows in self._asdict().items()}


class Health(NamedTuple):
    """The state of the capture at the end of an interval; counts are those of the interval.

    ``received``: frames that the capture read. ``lost``: matching frames that found no room.
    ``not_keyed``: frames that belong to no flow, by reason. ``balanced``: whether every equation
    of the books holds. ``flows_live``, ``flows_capacity``: of the flow table. ``flows_evicted``:
    flows that made room. ``events_lost``: events not taken in time; ``events_lagged``: events
    that slow subscribers missed. ``memory``: resident bytes of the process. ``cpu``: CPU seconds
    of the process per second. ``devices``: devices known, if they are watched. ``restarts``: the
    times that the capture went on after a change of the backend or a link that came back, since
    the start. ``devices_online``: those of the devices that were seen in the last five minutes.
    """

    received: int = 0
    lost: int = 0
    not_keyed: Mapping[str, int] = {}
    balanced: bool = True
    flows_live: int = 0
    flows_capacity: int = 0
    flows_evicted: int = 0
    events_lost: int = 0
    events_lagged: int = 0
    memory: int = 0
    cpu: float = 0.0
    devices: int | None = None
    restarts: int = 0
    devices_online: int | None = None

    @property
    def loss(self) -> float:
        """The share of matching frames that were lost, 0 to 1."""
        frames = self.received + self.lost
        return self.lost / frames if frames else 0.0

    @property
    def table_fill(self) -> float:
        """The share of the flow table that is in use, 0 to 1."""
        return self.flows_live / self.flows_capacity if self.flows_capacity else 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the state as plain values."""
        record: dict[str, object] = {
            "received": count(self.received),
            "lost": count(self.lost),
            "loss": round(self.loss, 9),
            "not_keyed": {reason: count(n) for reason, n in self.not_keyed.items()},
            "balanced": self.balanced,
            "flows_live": count(self.flows_live),
            "flows_capacity": count(self.flows_capacity),
            "table_fill": round(self.table_fill, 9),
            "flows_evicted": count(self.flows_evicted),
            "events_lost": count(self.events_lost),
            "events_lagged": count(self.events_lagged),
            "memory": count(self.memory),
            "cpu": round(self.cpu, 6),
            "restarts": count(self.restarts),
        }
        if self.devices is not None:
            record["devices"] = count(self.devices)
        if self.devices_online is not None:
            record["devices_online"] = count(self.devices_online)
        return record


class StatsUpdated(NamedTuple):
    """The aggregates of an interval that is over.

    ``interface``: the one that the flows are of, or the name of the files. ``number``: counts the
    intervals from 1. ``start``, ``ts``: when the interval began and ended, in nanoseconds since the
    Unix epoch. ``traffic`` and ``top`` are of the interval, ``since_start`` and
    ``top_since_start`` of the whole capture so far. ``health``: the state of the capture. The sums
    of all intervals equal the counters of all flows exactly.
    """

    ts: int
    interface: str
    number: int
    start: int
    traffic: Traffic
    top: Top
    since_start: Traffic
    top_since_start: Top
    health: Health

    @property
    def seconds(self) -> float:
        """The length of the interval, in seconds."""
        return seconds(self.ts - self.start)

    def per_second(self, amount: int) -> float:
        """Return an amount of the interval as a rate a second; 0 of an interval without length."""
        length = self.seconds
        return amount / length if length > 0 else 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the event as plain values, by the names of docs/stats.md."""
        rates = {
            name: {
                "bits_per_second": round(self.per_second(sums.bytes * 8), 3),
                "packets_per_second": round(self.per_second(sums.packets), 3),
                "flows_per_second": round(self.per_second(sums.flows), 3),
            }
            for name, sums in (
                ("total", self.traffic.total),
                ("in", self.traffic.inbound),
                ("out", self.traffic.outbound),
            )
        }
        return {
            "event": "stats",
            "ts": time_text(self.ts),
            "interface": text(self.interface),
            "number": count(self.number),
            "start": time_text(self.start),
            "seconds": self.seconds,
            "rates": rates,
            "traffic": self.traffic.to_dict(),
            "since_start": self.since_start.to_dict(),
            "health": self.health.to_dict(),
            "top": self.top.to_dict(),
            "top_since_start": self.top_since_start.to_dict(),
        }

    def to_json(self) -> str:
        """Return ``to_dict()`` as JSON in one line."""
        return json_text(self.to_dict())
