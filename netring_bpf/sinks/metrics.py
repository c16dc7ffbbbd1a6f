"""Serves the books and the sums of a capture to Prometheus, over HTTP.

``prometheus_client`` makes the text and serves it in threads of its own. Each scrape asks the
event loop for the books of that moment, as they are its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from netring_bpf.errors import (
    ClosedError,
    NetringError,
    OptionError,
    PackageMissingError,
    SinkError,
    printable,
)
from netring_bpf.events.event import Event, StatsUpdated
from netring_bpf.events.plain import text
from netring_bpf.sinks.base import Books, SinkStatistics
from netring_bpf.sinks.metrics_server import MetricsServer

if TYPE_CHECKING:
    from netring_bpf.broadcast.broadcast import FlowSubscriber
    from netring_bpf.events.capture_info import CaptureInfo

__all__ = ["CONTENT_TYPE", "Metric", "MetricsSink", "exposition", "metrics_of"]

#: The form of ``exposition()``.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ANSWER_WITHIN: Final = 5.0  # seconds, for the loop to give the books
_IDLE: Final = 10.0  # seconds, for a client to say what it wants
_MOST_CLIENTS: Final = 16  # at one time
_log = logging.getLogger("netring_bpf.sinks.metrics")


class Metric(NamedTuple):
    """A metric and its values: ``samples`` are label values, in the order of ``labels``."""

    name: str
    kind: str  #: ``"counter"`` or ``"gauge"``
    help: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]


# -- from books to metrics --

# A field of the books, its metric, and what it says. A mapping is split by a label.
_CAPTURE: Final = {
    "rx_dropped": ("lost_frames", "Matching frames that found no room."),
    "rx_ring_full": ("lost_frames", ""),
    "tp_drops": ("lost_frames", ""),
    "fill_ring_empty": ("fill_ring_empty", "Frames that met an empty fill ring."),
    "tp_packets": ("tpacket_frames", "Frames that matched the filter of TPACKET_V3."),
    "received": ("received_frames", "Frames that the capture read."),
    "received_bytes": ("received_bytes", "Bytes of the frames that the capture read."),
    "keyed": ("keyed_frames", "Frames that belong to a flow."),
    "keyed_bytes": ("keyed_bytes", "Bytes of the frames that belong to a flow."),
    "not_keyed": ("not_keyed_frames", "Frames that belong to no flow."),
    "partly_read": ("partly_read_packets", "Packets of flows of which a part makes no sense."),
    "handed_out": ("handed_out_frames", "Frames given out whole."),
    "inner": ("inner_packets", "Packets inside of others that belong to flows of their own."),
    "inner_bytes": ("inner_bytes", "Bytes of the packets inside of others."),
    "inner_not_keyed": ("inner_not_keyed_packets", "Packets inside of others without a flow."),
    "fragments": ("fragments", "IP fragments after the first that belong to a flow."),
    "fragment_overlaps": ("fragment_overlaps", "Fragments that overlap earlier ones."),
    "neighbours": ("neighbours", "Addresses that ARP and neighbour discovery told."),
    "neighbours_repeated": ("neighbours_repeated", "Those of them told again within a minute."),
    "file_frames": ("file_frames", "Frames read from capture files."),
    "file_filtered": ("file_filtered_frames", "Frames of files that the filter rejected."),
    "file_overlong": ("file_overlong_frames", "Frames of files longer than on the wire."),
    "events_produced": ("events_produced", "Events that the flow table made."),
    "events_taken": ("events_taken", "Events that were taken in time."),
    "events_lost": ("events_lost", "Events that were not taken in time."),
    "link_errors": ("link_errors", "Times that the interface was found down."),
    "time_step": ("time_steps", "Steps of the clock."),
    "time_stray": ("time_stray_frames", "Frames whose time stamp fits to no other."),
    "names_read": ("names_read", "Exchanges of the protocols inside of flows."),
    "names_missed": ("names_missed", "What was not read of exchanges."),
    "matches": ("filter_matches", "Matches of each filter with a name."),
}
_CAPTURE_NOW: Final = {
    "in_ring": ("ring_frames", "Frames in the rings that are not read yet."),
    "fragments_waiting": ("fragments_waiting", "Frames that wait for their first fragment."),
}
_FLOWS: Final = {
    "started": ("flows_started", "Flows that began."),
    "established": ("flows_established", "TCP handshakes that completed."),
    "ended": ("flows_ended", "Flows that ended."),
    "ended_packets": ("ended_flows_packets", "Packets of the flows that ended."),
    "ended_bytes": ("ended_flows_bytes", "Bytes of the flows that ended."),
}
_FLOWS_NOW: Final = {
    "live": ("flows_live", "Flows in the table."),
    "peak": ("flows_peak", "The most flows that were in the table at one time."),
    "capacity": ("flows_capacity", "Flows that the table has room for."),
    "live_packets": ("live_flows_packets", "Packets of the flows in the table."),
    "live_bytes": ("live_flows_bytes", "Bytes of the flows in the table."),
}
_QUEUE: Final = {
    "seen": ("queue_seen_frames", "Frames that the XDP program saw."),
    "not_matched": ("queue_not_matched_frames", "Frames passed on that the filter rejected."),
    "no_socket": ("queue_no_socket_frames", "Frames passed on for want of a socket."),
    "redirected": ("queue_redirected_frames", "Frames taken to AF_XDP."),
    "handed_back": ("queue_handed_back_frames", "Matching frames passed on to the host."),
}
_STREAM: Final = {
    "published": ("subscriber_published", "Events published since the subscriber came."),
    "delivered": ("subscriber_delivered", "Events that a subscriber got."),
    "lagged": ("subscriber_lagged", "Events that a subscriber missed, being slow."),
    "filtered": ("subscriber_filtered", "Events that a subscriber left out."),
}
_SINK: Final = {
    "accepted": ("sink_accepted", "Flows that a sink took in."),
    "acknowledged": ("sink_acknowledged", "Flows that arrived."),
    "dropped": ("sink_dropped", "Flows that a sink gave up."),
    "reconnects": ("sink_reconnects", "Connections of a sink after the first."),
    "unasked": ("sink_unasked_messages", "Messages to a sink that nobody asked for."),
}
_SINK_NOW: Final = {
    "pending": ("sink_pending", "Flows that wait in a sink."),
    "connected": ("sink_connected", "Whether a sink has its connection."),
}
_OUTBOX: Final = {
    "accepted": ("sink_outbox_accepted", "Flows that an outbox on disk took in, over all runs."),
    "acknowledged": ("sink_outbox_acknowledged", "Those of them that arrived."),
    "dropped": ("sink_outbox_dropped", "Those of them that were given up."),
    "failures": ("sink_outbox_failures", "Writes that the disk refused."),
}
_OUTBOX_NOW: Final = {
    "pending": ("sink_outbox_pending", "Flows that wait on disk."),
    "restored": ("sink_outbox_restored", "Flows that an earlier run had left."),
    "size": ("sink_outbox_bytes", "Bytes that an outbox takes on the disk."),
}
_TOPIC: Final = {
    "offered": ("sink_topic_offered", "Values and events to tell besides flows."),
    "published": ("sink_topic_published", "Messages sent besides flows."),
    "unchanged": ("sink_topic_unchanged", "Values not sent, as they had not changed."),
    "replaced": ("sink_topic_replaced", "Values replaced before their turn."),
    "dropped": ("sink_topic_dropped", "Values and events given up."),
    "repeated": ("sink_topic_repeated", "Messages sent once more."),
}
_TOPIC_NOW: Final = {"pending": ("sink_topic_pending", "Values and events that wait.")}


class _Family:
    """The metrics so far, by name."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._found: dict[str, Metric] = {}

    def add(
        self,
        name: str,
        kind: str,
        help_: str,
        value: float,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a sample to the metric of this name."""
        whole = f"netring_{name}" + ("_total" if kind == "counter" else "")
        named = {"interface": self._interface} | dict(labels or {})
        old = self._found.get(whole)
        sample = (tuple(named.values()), float(value))
        if old is None:
            self._found[whole] = Metric(whole, kind, help_, tuple(named), (sample,))
        else:
            self._found[whole] = old._replace(samples=(*old.samples, sample))

    def add_all(
        self,
        fields: Mapping[str, tuple[str, str]],
        kind: str,
        books: object,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add the fields of a part of the books."""
        for field, (name, help_) in fields.items():
            value: Any = getattr(books, field)
            if isinstance(value, Mapping):
                by = "filter" if field == "matches" else "reason"
                for key, number in value.items():
                    self.add(name, kind, help_, number, {**(labels or {}), by: text(key)})
            elif name == "lost_frames":
                self.add(name, kind, help_, value, {"reason": field})
            else:
                self.add(name, kind, help_, value, labels)

    def all(self) -> list[Metric]:
        """Return the metrics."""
        return list(self._found.values())


def metrics_of(
    books: Books, interface: str, info: CaptureInfo | None, latest: StatsUpdated | None
) -> list[Metric]:
    """Return all books of a capture, and its sums if ``latest`` has them, as metrics.

    Each has the label ``interface``. No label's values grow with the traffic.
    """
    family = _Family(text(interface))
    capture = books.capture
    if info is not None:
        labels = {"version": info.version, "backend": info.backend, "attach": info.attach or ""}
        family.add("capture_info", "gauge", "The capture as it was opened.", 1, labels)
        family.add(
            "capture_start_time_seconds",
            "gauge",
            "When the capture began, in seconds since the Unix epoch.",
            info.since / 1e9,
        )
    family.add_all(_CAPTURE, "counter", capture)
    family.add_all(_CAPTURE_NOW, "gauge", capture)
    family.add_all(_FLOWS, "counter", capture.flows)
    family.add_all(_FLOWS_NOW, "gauge", capture.flows)
    for queue in capture.queues:
        family.add_all(_QUEUE, "counter", queue, {"queue": str(queue.queue)})
    family.add(
        "events_published", "counter", "Events published to subscribers.", books.broadcast.published
    )
    family.add(
        "events_lagged",
        "counter",
        "Events that subscribers missed, those that have left included.",
        books.broadcast.lagged,
    )
    family.add("subscribers", "gauge", "Subscribers that are open.", books.broadcast.receiver_count)
    _add_sinks(family, books)
    if latest is not None:
        _add_sums(family, latest)
    return family.all()


def _add_sinks(family: _Family, books: Books) -> None:
    # Only the subscribers of sinks: those that come and go would make ever more series.
    names: Counter[str] = Counter()
    for sink, stream in zip(books.sinks, books.streams, strict=False):
        name = text(sink.name)
        names[name] += 1
        # Two samples with the same labels would spoil the whole scrape.
        labels = {"sink": name if names[name] == 1 else f"{name} ({names[name]})"}
        family.add_all(_STREAM, "counter", stream, labels)
        if not sink.takes_flows:
            continue
        family.add_all(_SINK, "counter", sink, labels)
        family.add_all(_SINK_NOW, "gauge", sink, labels)
        if sink.outbox is not None:
            family.add_all(_OUTBOX, "counter", sink.outbox, labels)
            family.add_all(_OUTBOX_NOW, "gauge", sink.outbox, labels)
        for topic, told in sink.topics.items():
            family.add_all(_TOPIC, "counter", told, {**labels, "topic": topic})
            family.add_all(_TOPIC_NOW, "gauge", told, {**labels, "topic": topic})


def _add_sums(family: _Family, latest: StatsUpdated) -> None:
    for direction, sums in zip(
        ("in", "out", "internal", "transit"), latest.since_start, strict=True
    ):
        for field, help_ in (
            ("packets", "Packets of flows, by direction, until the latest interval's end."),
            ("bytes", "Bytes of flows, by direction, until the latest interval's end."),
            ("flows", "Flows that began, by direction, until the latest interval's end."),
        ):
            value = getattr(sums, field)
            family.add(f"traffic_{field}", "counter", help_, value, {"direction": direction})
    family.add("stats_intervals", "counter", "Intervals that are over.", latest.number)
    family.add(
        "stats_end_time_seconds", "gauge", "When the latest interval ended.", latest.ts / 1e9
    )
    family.add(
        "books_balanced",
        "gauge",
        "Whether every equation of the books held at the latest interval's end.",
        latest.health.balanced,
    )
    if latest.health.devices is not None:
        family.add("devices", "gauge", "Devices that are known.", latest.health.devices)
    if latest.health.devices_online is not None:
        family.add(
            "devices_online",
            "gauge",
            "Devices that were seen in the last five minutes.",
            latest.health.devices_online,
        )
    family.add(
        "capture_restarts",
        "counter",
        "Times that the capture went on anew.",
        latest.health.restarts,
    )


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return metrics, and those of this process, as text in the form ``CONTENT_TYPE``.

    Raises ``PackageMissingError``.
    """
    made: bytes = _client().generate_latest(_registry(lambda: metrics))
    return made


def _registry(metrics: Callable[[], Iterable[Metric]]) -> Any:
    """Return a registry with the metrics, and with memory and CPU of this process."""
    client = _client()
    registry = client.CollectorRegistry()
    registry.register(_Collector(metrics))
    client.ProcessCollector(registry=registry)
    return registry


class _Collector:
    """Gives metrics to ``prometheus_client``."""

    def __init__(self, metrics: Callable[[], Iterable[Metric]]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Any]:
        """Give no metric before the first scrape."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Give all metrics, as they are now."""
        core = _client().core
        kinds = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
        for metric in self._metrics():
            made = kinds[metric.kind](metric.name, metric.help, labels=metric.labels)
            for values, number in metric.samples:
                made.add_metric(values, number)
            yield made


def _client() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise PackageMissingError(
            'serve metrics: prometheus_client is not installed; pip install "netring-bpf[metrics]"',
            package="prometheus_client",
        ) from error
    return prometheus_client


# -- the sink --


def _or_unavailable(app: Callable[..., Any]) -> Callable[..., Any]:
    """Let the application say that it is not available while the loop gives no books."""

    def answer(environ: Any, start_response: Callable[..., Any]) -> Any:
        try:
            return app(environ, start_response)
        except (NetringError, RuntimeError, TimeoutError):  # the loop is closed, or too busy
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"the capture gives no books now\n"]

    return answer


@dataclass(frozen=True, slots=True)
class _Listen:
    """The address to listen at."""

    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> _Listen:
        """Read ``HOST:PORT``. Raises ``OptionError``."""
        try:
            parts = urlsplit(f"//{address}")
            host, port = parts.hostname, parts.port
            if host == "localhost":
                host = "127.0.0.1"
            good = bool(host) and port is not None and parts.netloc == address and not parts.path
            if good:
                ipaddress.ip_address(host or "")
        except ValueError:
            good = False
        if not good or "@" in address:
            raise OptionError(
                f"metrics at {printable(repr(address))}: must be ADDRESS:PORT, as 127.0.0.1:9560",
                option="address",
            )
        return cls(str(host), int(port or 0))

    @property
    def is_loopback(self) -> bool:
        """Whether nobody else can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class MetricsSink:
    """Serves all books and the sums of a capture to Prometheus, on ``http://ADDRESS:PORT/metrics``.

    Give it to ``Netring(sinks=[…])``. ``address``: as ``"127.0.0.1:9560"``; port 0 takes a free
    one (``port``). Everybody who reaches the address can read it, so another address than loopback
    is warned of. Needs the extra ``metrics``.

    Raises ``OptionError`` for an address that is none, ``PackageMissingError``, and, when the
    capture starts, ``SinkError`` if the address is in use.
    """

    kinds: tuple[type[Event], ...] = (StatsUpdated,)

    def __init__(self, address: str = "127.0.0.1:9560") -> None:
        self._listen = _Listen.parse(address)
        _client()
        self._books: Callable[[], Books] | None = None
        self._events: weakref.ref[FlowSubscriber] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: StatsUpdated | None = None
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._used = False
        self._started = asyncio.Event()
        if not self._listen.is_loopback:
            _log.warning(
                "metrics at %s: everybody who reaches this address can read them", self._listen
            )

    @staticmethod
    def check_address(address: str) -> None:
        """Raise ``OptionError`` unless it is an address to listen at."""
        _Listen.parse(address)

    def __repr__(self) -> str:
        return f"MetricsSink({str(self._listen)!r})"

    @property
    def name(self) -> str:
        """The address, as of a sink's name."""
        return f"metrics on {self._listen}"

    @property
    def port(self) -> int:
        """The port it listens at; 0 before the capture starts, if any was to be taken."""
        return self._server.server_port if self._server is not None else self._listen.port

    def read_books(self, books: Callable[[], Books]) -> None:
        """Take the function that gives the books of the ``Netring``."""
        self._books = books

    def statistics(self) -> SinkStatistics:
        """Return empty books: the sink forwards no flow."""
        return SinkStatistics(name=self.name, accepted=0, acknowledged=0, takes_flows=False)

    async def wait_started(self) -> None:
        """Wait until it listens."""
        await self._started.wait()

    async def run(self, events: FlowSubscriber) -> None:
        """Serve until the stream ends. Raises ``SinkError``."""
        if self._used:
            raise SinkError(f"{self.name}: this sink was used before; make a new one")
        self._used = True
        self._loop = asyncio.get_running_loop()
        self._events = weakref.ref(events)
        self._open()
        self._started.set()
        try:
            async for event in events:
                if isinstance(event, StatsUpdated):
                    self._latest = event
        finally:
            await asyncio.shield(asyncio.to_thread(self._close))

    def _open(self) -> None:
        app = _or_unavailable(_client().make_wsgi_app(_registry(self._collect)))
        try:
            self._server = MetricsServer(
                (self._listen.host, self._listen.port), app, idle=_IDLE, most=_MOST_CLIENTS
            )
        except OSError as error:
            raise SinkError(
                f"serve metrics at {self._listen}: {error.strerror or error}; choose another "
                "address or port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="netring-metrics", daemon=True
        )
        self._thread.start()

    def _close(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._thread = None

    def _collect(self) -> list[Metric]:
        """Called in a thread of the server: have the loop read the books."""
        loop = self._loop
        if loop is None or loop.is_closed():
            raise ClosedError(f"{self.name}: the capture is closed")
        answer: concurrent.futures.Future[list[Metric]] = concurrent.futures.Future()

        def read() -> None:
            try:
                answer.set_result(self._read())
            except Exception as error:  # noqa: BLE001 - the thread that waits shall have it
                answer.set_exception(error)

        loop.call_soon_threadsafe(read)
        return answer.result(_ANSWER_WITHIN)

    def _read(self) -> list[Metric]:
        began = time.perf_counter()
        events = self._events() if self._events is not None else None
        if self._books is None or events is None:
            raise ClosedError(f"{self.name}: no capture has it")
        found = metrics_of(self._books(), events.interface or "", events.info, self._latest)
        took = time.perf_counter() - began
        found.append(
            Metric(
                "netring_scrape_seconds",
                "gauge",
                "The time that reading the books took in the event loop.",
                ("interface",),
                (((text(events.interface or ""),), took),),
            )
        )
        return found
