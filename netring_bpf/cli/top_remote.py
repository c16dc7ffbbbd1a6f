"""What ``netring-bpf top`` reads at a broker: the topics of one capture elsewhere.

Whoever may publish there chooses what comes: a message is checked field by field, and one that is
no message of a capture is counted.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

from netring_bpf.cli.top_model import DeviceLine, FlowLine, Record, TopModel
from netring_bpf.errors import NetringError, SinkError
from netring_bpf.events.stats import Health, StatsUpdated, Sums, Top, TopRow, Traffic
from netring_bpf.sinks.mqtt_connection import (
    UNSUPPORTED_VERSION,
    Connection,
    ConnectionFailed,
    Login,
)
from netring_bpf.sinks.mqtt_credentials import Credentials
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions, MqttVersion
from netring_bpf.sinks.mqtt_tls import tls_context
from netring_bpf.sinks.mqtt_topics import VERSIONS, Topics
from netring_bpf.sinks.topic import topic_level

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["BrokerSource"]

_LARGEST: Final = 1 << 25  # bytes of a packet: no message of a sink is larger
_ANSWER: Final = 5.0  # seconds for the answer to a subscription
_PAUSES: Final = (1.0, 2.0, 5.0, 10.0)  # seconds between attempts to connect
_MOST_NODES: Final = 1000
_LONGEST: Final = 256  # characters
_MOST_ROWS: Final = 1000
_MOST_FIELDS: Final = 100
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z", re.ASCII)
_SECOND: Final = 1_000_000_000


class BrokerSource:
    """The topics of a node at a broker; of the first that is found, unless one is named."""

    def __init__(self, url: str, options: MqttOptions) -> None:
        self.error: NetringError | None = None
        self._broker = Broker.parse(url)
        self._options = options
        self._credentials = Credentials.read(options.credentials_file)
        self._tls = tls_context(self._broker, options)
        self._version: MqttVersion = options.version or "5"
        self._node = None if options.node is None else topic_level(options.node)
        self._base = ""
        self._nodes: dict[str, str] = {}  # and what each says of its availability
        self._asked: list[str] = []
        self._turned = asyncio.Event()
        self._model = TopModel()
        self._top = Top(), Top()
        self._counts: Counter[str] = Counter()
        self._connection: Connection | None = None
        self._stack = contextlib.AsyncExitStack()

    # -- for the screen --

    @property
    def title(self) -> str:
        """The node and the broker, and whether the capture is online."""
        if self._node is None:
            return f"{self._broker}: no node yet"
        state = self._nodes.get(self._node, "unknown")
        others = len(self._nodes.keys() - {self._node})
        more = f", {others} more: n" if others else ""
        lost = "" if self._connection is not None else ", not connected"
        return f"{unquote(self._node)} at {self._broker} ({state}{lost}{more})"

    @property
    def is_file(self) -> bool:
        """Times are those of the other capture."""
        return False

    @property
    def progress(self) -> float | None:
        """There is no end."""
        return None

    def books(self) -> Record:
        """Return what the node says of its books, and what came from it."""
        stats = self._model.stats
        told: dict[str, object] = {} if stats is None else dict(stats.health.to_dict())
        return told | {f"messages: {kind}": n for kind, n in sorted(self._counts.items())}

    def next(self) -> None:
        """Turn to the next node, in the order of their names."""
        nodes = sorted(self._nodes)
        if nodes:
            later = [node for node in nodes if self._node is None or node > self._node]
            self._turn((later or nodes)[0])

    def _turn(self, node: str) -> None:
        if node != self._node or not self._base:
            self._node = node
            self._top = Top(), Top()
            self._model.clear()
            self._turned.set()

    # -- life --

    async def __aenter__(self) -> Self:
        try:
            await self._connect()
        except ConnectionFailed as failure:
            raise SinkError(f"{self._broker}: {failure}") from None
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def run(self, model: TopModel) -> None:
        """Feed the model for ever; a lost connection is made again."""
        self._model = model
        attempt = 0
        while True:
            try:
                if self._connection is None:
                    await self._connect()
                attempt = 0
                await self._listen()
            except ConnectionFailed as failure:
                self._connection = None
                await self._stack.aclose()
                pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
                model.note(time.time_ns(), f"{self._broker}: {failure}; again in {pause:.0f} s")
                attempt += 1
                await asyncio.sleep(pause)

    async def _connect(self) -> None:
        try:
            await self._enter()
        except ConnectionFailed as failure:
            older = failure.silent or failure.code in UNSUPPORTED_VERSION
            if not older or self._options.version is not None or self._version == "3.1.1":
                raise
            self._version = "3.1.1"
            await self._enter()

    async def _enter(self) -> None:
        login = Login(
            version=self._version,
            client_id=self._options.client_id,
            username=self._credentials.username,
            password=self._credentials.password,
            keepalive=self._options.keepalive,
        )
        connection = Connection(
            self._broker,
            login,
            will=None,
            tls=self._tls,
            on_message=self._on_message,
            largest=_LARGEST,
        )
        self._stack = contextlib.AsyncExitStack()
        await self._stack.enter_async_context(connection)
        self._connection = connection
        self._asked = []

    async def _listen(self) -> None:
        """Ask for the topics of the node, and of the next one whenever another is chosen."""
        connection = self._connection
        assert connection is not None
        self._turned.set()
        await self._ask(connection, f"{self._options.prefix}/+/availability")
        lost = asyncio.ensure_future(connection.watch())
        try:
            while True:
                turned = asyncio.ensure_future(self._turned.wait())
                await asyncio.wait((lost, turned), return_when=asyncio.FIRST_COMPLETED)
                turned.cancel()
                if lost.done():
                    lost.result()
                self._turned.clear()
                if self._node is not None:
                    await self._turn_to(connection, self._node)
        finally:
            lost.cancel()

    async def _turn_to(self, connection: Connection, node: str) -> None:
        for topic in self._asked:
            await connection.unsubscribe(topic, patience=_ANSWER)
        self._base = f"{self._options.prefix}/{node}"
        topics = Topics(self._base)
        self._asked = [
            topics.stats, topics.top, topics.device_filter, topics.flows, topics.events,
        ]  # fmt: skip
        for topic in self._asked:
            await self._ask(connection, topic)

    async def _ask(self, connection: Connection, topic: str) -> None:
        if not await connection.subscribe(topic, patience=_ANSWER):
            text = f"{self._broker}: the broker does not let this client read {topic}"
            self._model.note(time.time_ns(), text)

    # -- messages --

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        del retained
        before = f"{self._options.prefix}/"
        if not topic.startswith(before):
            return
        node, _, kind = topic.removeprefix(before).partition("/")
        if kind == "availability":
            self._on_availability(node, payload)
        elif node == self._node:
            kind, _, rest = kind.partition("/")
            self._counts[kind if kind in VERSIONS or kind == "flows" else "other"] += 1
            try:
                self._take(kind, rest, payload)
            except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
                self._counts["not understood"] += 1
                self._model.version += 1

    def _on_availability(self, node: str, payload: bytes) -> None:
        if node not in self._nodes and len(self._nodes) >= _MOST_NODES:
            return
        if not payload:
            self._nodes.pop(node, None)
            return
        self._nodes[node] = "online" if payload == b"online" else "offline"
        self._model.version += 1
        if self._node is None or (node == self._node and not self._base):
            self._turn(node)

    def _take(self, kind: str, rest: str, payload: bytes) -> None:
        if kind == "devices" and not payload:
            self._model.remove_device(unquote(rest))
            return
        if not payload:
            return
        value = json.loads(payload)
        if kind == "flows":
            for record in value:
                self._model.add_flow(_flow(record))
            return
        if value["v"] != VERSIONS.get(kind):
            raise ValueError(kind)
        match kind:
            case "stats":
                event = _stats(value)
                self._model.add_stats(
                    event._replace(top=self._top[0], top_since_start=self._top[1])
                )
            case "top":
                self._top = _tables(value["top"]), _tables(value["top_since_start"])
                self._model.add_tables(*self._top)
            case "devices":
                self._model.add_device(_device(value))
            case "events":
                told = [f"{n}={v}" for n, v in value.items() if n not in {"v", "event", "ts"}]
                self._model.note(_ns(value["ts"]), f"{value['event']} {' '.join(told)}")


# -- values out of messages; each raises ValueError and the like for what is none --


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(name)
    return value


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name, 0.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e18:
        raise ValueError(name)
    return float(value)


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name, "")
    if not isinstance(value, str):
        raise ValueError(name)
    return value[:_LONGEST]


def _ns(value: object) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(value)
    return calendar.timegm(time.strptime(found[1], "%Y-%m-%dT%H:%M:%S")) * _SECOND + int(found[2])


def _sums(record: Mapping[str, Any]) -> Sums:
    return Sums(_count(record, "packets"), _count(record, "bytes"), _count(record, "flows"))


def _traffic(record: Mapping[str, Any]) -> Traffic:
    return Traffic(*(_sums(record[name]) for name in ("in", "out", "internal", "transit")))


def _health(record: Mapping[str, Any]) -> Health:
    if not isinstance(record["balanced"], bool):
        raise ValueError("balanced")
    return Health(
        received=_count(record, "received"),
        lost=_count(record, "lost"),
        not_keyed={
            name[:_LONGEST]: _count(record["not_keyed"], name) for name in record["not_keyed"]
        },
        balanced=record["balanced"],
        flows_live=_count(record, "flows_live"),
        flows_capacity=_count(record, "flows_capacity"),
        flows_evicted=_count(record, "flows_evicted"),
        events_lost=_count(record, "events_lost"),
        events_lagged=_count(record, "events_lagged"),
        memory=_count(record, "memory"),
        cpu=_number(record, "cpu"),
        devices=_count(record, "devices") if "devices" in record else None,
        restarts=_count(record, "restarts"),
    )


def _stats(record: Mapping[str, Any]) -> StatsUpdated:
    traffic, since_start = _traffic(record["traffic"]), _traffic(record["since_start"])
    return StatsUpdated(
        ts=_ns(record["ts"]),
        interface=_text(record, "interface"),
        number=_count(record, "number"),
        start=_ns(record["start"]),
        traffic=traffic,
        top=Top(),
        since_start=since_start,
        top_since_start=Top(),
        health=_health(record["health"]),
    )


def _tables(record: Mapping[str, Any]) -> Top:
    return Top(*(tuple(map(_row, record[kind][:_MOST_ROWS])) for kind in Top._fields))


def _row(record: Mapping[str, Any]) -> TopRow:
    return TopRow(
        _text(record, "key"),
        _text(record, "name") or None,
        _count(record, "packets_sent"),
        _count(record, "packets_received"),
        _count(record, "bytes_sent"),
        _count(record, "bytes_received"),
        _count(record, "flows"),
        _count(record, "error"),
    )


def _flow(record: Mapping[str, Any]) -> FlowLine:
    start, last = _ns(record["start"]), _ns(record["last"])
    return FlowLine(
        key=str(_count(record, "id")),
        is_live=record["event"] != "ended",
        proto=_text(record, "app_protocol") or _text(record, "proto"),
        orig=_endpoint(record, "orig"),
        resp=_endpoint(record, "resp"),
        name=_text(record, "app_name") or _text(record, "resp_name"),
        sent=_count(record, "orig_bytes"),
        received=_count(record, "resp_bytes"),
        start=start,
        last=last,
        how=_text(record, "reason"),
        detail=partial(dict, _shallow(record)),
    )


def _shallow(record: Mapping[str, Any]) -> dict[str, object]:
    """Return the values that details show: texts and numbers, and lists of them."""
    told: dict[str, object] = {}
    for name, value in list(record.items())[:_MOST_FIELDS]:
        if isinstance(value, list):
            told[name[:_LONGEST]] = [_scalar(one) for one in value[:_MOST_FIELDS]]
        else:
            told[name[:_LONGEST]] = _scalar(value)
    return told


def _scalar(value: object) -> object:
    if isinstance(value, str):
        return value[:_LONGEST]
    if isinstance(value, dict):
        texts = [text for text in value.values() if isinstance(text, str)]
        return " ".join(texts[:4])[:_LONGEST]
    return value if isinstance(value, int | float) else ""


def _endpoint(record: Mapping[str, Any], side: str) -> str:
    address, port = _text(record, f"{side}_addr"), _count(record, f"{side}_port")
    if _text(record, "proto").startswith("icmp"):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _device(record: Mapping[str, Any]) -> DeviceLine:
    addresses = [text for text in record["addresses"] if isinstance(text, str)]
    first = next((text for text in addresses if ":" not in text), next(iter(addresses), ""))
    return DeviceLine(
        mac=_text(record, "mac"),
        name=_text(record, "name"),
        vendor="random" if record.get("random") is True else _text(record, "vendor"),
        address=first[:_LONGEST],
        sent=_count(record, "bytes_sent"),
        received=_count(record, "bytes_received"),
        flows=_count(record, "flows"),
        last=_ns(record["last"]),
        detail=partial(dict, _shallow(record)),
    )
