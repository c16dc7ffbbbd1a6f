"""Publishes flows to an MQTT broker.

Two tasks with the outbox between them: one takes events from the stream as fast as they come,
the other sends batches as fast as the broker acknowledges them. A broker that is away or slow
costs memory up to the outbox's limit, then the oldest flows, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Final

from netring_bpf.broadcast.broadcast import BatchSubscriber, FlowSubscriber
from netring_bpf.errors import NetringError, SinkError, printable
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event, Lagged
from netring_bpf.events.plain import time_text
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.json import encode_event
from netring_bpf.sinks.base import SinkStatistics
from netring_bpf.sinks.disk_outbox import DiskOutbox
from netring_bpf.sinks.mqtt_availability import Availability
from netring_bpf.sinks.mqtt_connection import (
    LARGEST_INBOUND,
    PACKET_TOO_LARGE,
    PUBLISH_OVERHEAD,
    UNSUPPORTED_VERSION,
    Connection,
    ConnectionFailed,
    Login,
    Refusal,
    Will,
    speaks_tls,
    tls_wanted,
)
from netring_bpf.sinks.mqtt_credentials import Credentials
from netring_bpf.sinks.mqtt_node import NodeTopics, kinds_of
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions, MqttVersion
from netring_bpf.sinks.mqtt_sender import StateSender
from netring_bpf.sinks.mqtt_state import StateBoard
from netring_bpf.sinks.mqtt_tls import tls_context
from netring_bpf.sinks.mqtt_topics import Topics
from netring_bpf.sinks.outbox import Outbox
from netring_bpf.sinks.outbox_folder import OutboxFolder
from netring_bpf.sinks.topic import LONGEST_TOPIC

__all__ = ["MqttOptions", "MqttSink"]

_log = logging.getLogger("netring_bpf.sinks.mqtt")

_FIRST_PAUSE: Final = 0.5  # seconds; doubles with each failure
_STEADY: Final = 10.0  # seconds after which a connection counts as a success
_LISTEN_TIMEOUT: Final = 2.0
_ARRIVING: Final = 0.3  # seconds
_LOOK_BACK: Final = 3.0  # seconds in which the broker sends what it retains
_REMEMBERED: Final = 7 * 86_400 * 1_000_000_000  # ns: a device of an earlier run is kept so long
_SUSPICIOUS: Final = 2  # connections that broke over one message: it may be too large
_HOPELESS: Final = 5  # connections that the broker closed over one flow
_ACCEPT_BATCH: Final = 512
# Reason codes, of MQTT 5 and, where they have two, of 3.1.1.
_INVALID_CLIENT: Final = {0x85, 2}
_REFUSED_LOGIN: Final = {0x86, 0x87, 4, 5}
_TAKEN_OVER: Final = 0x8E
_EARLIER_LARGEST: Final = 1 << 19  # bytes of a packet with the discovery message of many devices
_NO_RETAIN: Final = 0x9A
_NO_QOS: Final = 0x9B


class MqttSink:
    """Publishes flows in batches: a JSON array a message, on ``<prefix>/<node>/flows``.

    Give it to ``Netring(sinks=[…])``. At QoS 1 a flow is delivered at least once or counted as
    dropped: ``overflow`` of the outbox, ``too_large`` for the broker, ``refused`` by the broker.
    ``capture`` and ``seq`` in each record tell a repeated one. The retained topic
    ``<prefix>/<node>/availability`` says ``online`` or ``offline``; the last will says ``offline``
    too. The sink speaks MQTT 5, and 3.1.1 with a broker that does not know 5, and keeps to the
    limits that the broker sets. With ``mqtts://`` and ``wss://`` it verifies the certificate and
    the host name.

    Raises ``SinkError`` for a URL, credentials, certificates or a folder that it cannot use.
    """

    def __init__(self, url: str, options: MqttOptions | None = None) -> None:
        self._options = options or MqttOptions()
        self._broker = Broker.parse(url)
        self._credentials = Credentials.read(self._options.credentials_file)
        self._tls = tls_context(self._broker, self._options)
        if self._credentials.password and not self._broker.tls and not self._broker.is_loopback:
            _log.warning(
                "%s: the password goes over the network in clear; use %s://",
                self,
                self._broker.secure_scheme,
            )
        self._outbox = Outbox(
            self._options.outbox,
            batch_records=self._options.batch_flows,
            batch_bytes=self._options.batch_bytes,
        )
        if self._options.outbox_dir is not None:
            # Only tried: a sink that is never run must not keep the folder from another.
            OutboxFolder(Path(self._options.outbox_dir)).close()
        self._flows_topic = ""
        self._node: NodeTopics
        self._interface: str | None = None
        self._capture = uuid.uuid4().hex
        self._encoder = self._new_encoder()
        self._used = False
        # The limits of the broker, learnt from its answers.
        self._version: MqttVersion = self._options.version or "5"
        self._will_qos, self._will_retain = 1, True
        self._batch_bytes = self._options.batch_bytes
        self._breaks = self._breaks_of_one = 0  # since a message was last acknowledged
        self._qos = self._options.qos
        self._packet_size = 0
        self._retains = True
        self._availability = Availability(self._tell, self._tell_refused)
        self._board = StateBoard()
        self._sender = StateSender(self._board, self._tell, self._tell_refused)
        self._looking: asyncio.Task[None] | None = None
        self._has_looked = False
        self._looked_at: tuple[str, ...] = ()  # beginnings of topics that an earlier run may have
        self._asked: set[str] = set()  # topics that are listened to
        self._denied: set[str] = set()  # and those that may not be
        self._connections = 0
        self._connected = False
        self._unasked = 0
        self._troubles: set[str] = set()  # told since the connection last was steady
        self._told: set[str] = set()  # told for good

    def __repr__(self) -> str:
        return f"MqttSink({self.name!r}, node={self._options.node!r})"

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The broker's URL."""
        return str(self._broker)

    @property
    def kinds(self) -> tuple[type[Event], ...]:
        """The event classes that it publishes, or makes messages of."""
        return tuple(dict.fromkeys((*self._options.kinds, *kinds_of(self._options))))

    def statistics(self) -> SinkStatistics:
        """Return the books: flows accepted, acknowledged, dropped, pending; and of the topics."""
        return SinkStatistics(
            name=self.name,
            accepted=self._outbox.accepted,
            acknowledged=self._outbox.acknowledged,
            dropped=self._outbox.dropped,
            pending=self._outbox.pending,
            reconnects=max(0, self._connections - 1),
            connected=self._connected,
            unasked=self._unasked,
            topics=self._board.statistics(),
            outbox=self._outbox.statistics(),
        )

    async def run(self, events: FlowSubscriber | BatchSubscriber) -> None:
        """Publish the stream to its end, then empty the outbox, within ``drain_timeout``.

        Raises ``SinkError``; an absent or unwilling broker is no error, as it may change.
        """
        if self._used:
            raise SinkError(f"{self}: this sink was used before; make a new one")
        self._used = True
        self._set_topics(events.interface)
        try:
            if self._options.outbox_dir is not None:
                self._outbox = await asyncio.to_thread(self._open_outbox)
            await self._run(events)
        except NetringError:
            raise
        except Exception as error:
            raise SinkError(
                f"publish to {self}: {type(error).__name__}: {error}; the sink has ended, please "
                "report this with the traceback"
            ) from error

    async def _run(self, events: FlowSubscriber | BatchSubscriber) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._outbox.keep(), name=f"netring-{self}-keep")
                sending = tasks.create_task(self._send_always(), name=f"netring-{self}-send")
                await self._accept_all(events)
                self._outbox.close()
                self._board.close()
                # An empty outbox and no broker: there is nothing to wait for.
                wanted = self._connected or not self._outbox.finished
                patience = self._options.drain_timeout if wanted else 0.0
                done, _ = await asyncio.wait([sending], timeout=patience)
                if not done:
                    sending.cancel()
                keeping.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._outbox.end()
        if self._outbox.pending:
            where = "" if self._options.outbox_dir is None else "; they stay on the disk"
            _log.warning("%s: closed with %d flows not sent%s", self, self._outbox.pending, where)

    @property
    def _status_topic(self) -> str | None:
        """Where Home Assistant says that it has started."""
        wanted = self._options.home_assistant
        return None if wanted is None else wanted.status_topic

    def _set_topics(self, interface: str | None) -> None:
        self._interface = interface
        self._encoder = self._new_encoder()
        node = self._options.node
        if node is None:
            host = socket.gethostname()
            # A replay's interface is its file, with the folder.
            node = host if interface is None else f"{host}_{PurePath(interface).name}"
        topics = Topics.of(self._options.prefix, node)
        self._flows_topic = topics.flows
        self._availability.topic = topics.availability
        self._node = NodeTopics(self._board, self._options, node, self._capture)
        if len(topics.availability.encode()) > LONGEST_TOPIC:
            raise SinkError(
                f"publish to {self}: the topic is longer than {LONGEST_TOPIC} bytes; give a "
                "shorter prefix or node"
            )

    # -- stream → outbox --

    def _open_outbox(self) -> DiskOutbox:
        options = self._options
        assert options.outbox_dir is not None
        return DiskOutbox(
            Path(options.outbox_dir),
            options.outbox_bytes,
            options.outbox,
            batch_records=options.batch_flows,
            batch_bytes=options.batch_bytes,
        )

    async def _accept_all(self, events: FlowSubscriber | BatchSubscriber) -> None:
        self._node.begin(events.interface, events.info)
        while batch := await events.next_batch(_ACCEPT_BATCH):
            self._outbox.accept(self._records(batch))
            if not isinstance(batch, EventBatch):  # those have flows alone
                self._node.observe(batch, events.info)
                if self._node.is_full:
                    self._tell(
                        "max_devices",
                        f"{self._options.max_devices} devices have a topic: others have none, and "
                        "are counted as left_out; max_devices allows more",
                    )

    def _new_encoder(self) -> TextEncoder:
        return TextEncoder(
            "json", terminator=b"", interface=self._interface, capture=self._capture, seq=1
        )

    def _records(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as JSON. C encodes the batches of a capture, Python other events."""
        sequence = self._outbox.accepted - self._outbox.restored + 1
        if isinstance(events, EventBatch):
            self._encoder.seq = sequence
            return self._encoder.encode_records(events).records()
        # Lagged is counted in the subscriber's own books.
        wanted = self._options.kinds
        told = (e for e in events if isinstance(e, wanted) and not isinstance(e, Lagged))
        return [
            encode_event(event, interface=self._interface, capture=self._capture, seq=number)
            for number, event in enumerate(told, sequence)
        ]

    # -- outbox → broker --

    async def _send_always(self) -> None:
        """Connect, send, and connect again, until the outbox is closed and empty."""
        loop = asyncio.get_running_loop()
        failures = 0
        version = self._version
        while not (self._outbox.finished and self._board.finished):
            begin: float | None = None
            try:
                async with self._connection(version) as connection:
                    begin = loop.time()
                    await self._serve(connection, version)
                return
            except ConnectionFailed as error:
                failure = error
            finally:
                self._connected = False
                self._outbox.give_back()
            if begin is not None and loop.time() - begin >= _STEADY:
                failures = 0
                self._troubles.clear()
                self._batch_bytes = self._options.batch_bytes
            if self._adapt(failure):
                version = self._version
                continue
            if failure.silent and version == "5" and self._options.version is None:
                # So do brokers that know only 3.1.1. It may also be one that restarts: the next
                # round begins with 5 again.
                version = "3.1.1"
                continue
            version = self._version
            failures += 1
            await self._complain(failure)
            ceiling = min(self._options.reconnect_max, _FIRST_PAUSE * 2 ** min(failures - 1, 16))
            # Jitter: after a restart the broker's clients do not all come back at once.
            await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311

    async def _serve(self, connection: Connection, version: MqttVersion) -> None:
        """Send batches over one connection. Raises ``ConnectionFailed`` when it breaks."""
        if version != self._version:
            _log.info("%s: the broker does not answer to MQTT 5; using 3.1.1", self)
        try:
            # The watcher sees a broken connection while there is nothing to send. It is one task
            # for all messages, as a task for each would cost as much as the message.
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(connection.watch())
                answering = tasks.create_task(self._availability.answer_others(connection))
                await self._send(connection, tasks)
                watching.cancel()
                answering.cancel()
        except BaseExceptionGroup as group:
            # The group has the connection's error, and perhaps that of a publish under way. A
            # cancellation that came in the same moment goes before both.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            raise group.exceptions[0] from None

    async def _send(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        self._keep_to(connection)
        # Listen first: another user of the node answers the announcement at once.
        self._availability.begin()
        await self._listen(connection, [self._availability.topic])
        await self._availability.announce(connection, b"online")
        self._connections += 1
        self._connected = True
        self._board.repeat()
        telling = tasks.create_task(self._tell_state(connection, tasks))
        while True:
            await self._outbox.wait_batch(self._options.flush_interval)
            before = self._outbox.dropped.get("too_large", 0)
            batch = self._outbox.take()
            if self._outbox.dropped.get("too_large", 0) > before:
                self._tell(
                    "too_large",
                    f"the broker takes packets up to {self._packet_size} bytes: flows whose record "
                    "is longer are dropped and counted as too_large",
                )
            if batch:
                await self._publish(connection, batch)
                await asyncio.sleep(0)  # other tasks get a turn: at QoS 0 no call above has to wait
            elif self._outbox.finished:
                break
        await telling
        if self._looking is not None:
            self._looking.cancel()
        await self._availability.announce(connection, b"offline")
        # A socket that is closed with something unread in it takes along what the broker has not
        # read yet.
        listened = {self._availability.topic, *self._asked}
        await connection.unsubscribe(sorted(listened), patience=_LISTEN_TIMEOUT)

    async def _tell_state(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        """Send the topics besides flows."""
        if self._status_topic is not None:
            await self._listen(connection, [self._status_topic])
        if not self._has_looked and self._node.retained:
            asked = self._node.retained
            self._looked_at = tuple(topic.removesuffix("+") for topic in asked)
            await self._listen(connection, asked)
            self._looking = tasks.create_task(self._look_back(connection))
            if self._status_topic is not None:
                # The earlier discovery message has to come before the present one goes out.
                await asyncio.sleep(_ARRIVING)
            self._has_looked = True
        await self._sender.send_all(connection)

    async def _publish(self, connection: Connection, batch: Sequence[bytes]) -> None:
        payload = b"[" + b",".join(batch) + b"]"
        try:
            refusal = await connection.publish(self._flows_topic, payload, qos=self._qos)
        except ConnectionFailed as failure:
            if connection.broken_over != self._flows_topic:
                raise
            failure.add_note(
                f"a message of {len(payload)} bytes on {self._flows_topic} was not acknowledged"
            )
            if failure.code == PACKET_TOO_LARGE:
                self._shrink(len(batch), len(payload))
            else:
                self._suspect(len(batch), len(payload), closed=failure.closed)
            raise
        self._breaks = self._breaks_of_one = 0
        if refusal is None:
            self._outbox.acknowledge()
        elif refusal.code == PACKET_TOO_LARGE:
            self._shrink(len(batch), len(payload))
            self._outbox.give_back()
        else:
            self._outbox.drop("refused")
            self._tell_refused(
                self._flows_topic, refusal, "these flows are dropped and counted as refused"
            )

    def _shrink(self, records: int, size: int) -> None:
        """Make smaller messages after one that was too large for the broker."""
        if records == 1:
            self._outbox.drop("too_large")
            self._tell(
                "too_large",
                f"a message of {size} bytes with one flow is too large for the broker: such flows "
                "are dropped and counted as too_large",
            )
        else:
            self._batch_bytes = size // 4
            self._resize()

    def _suspect(self, records: int, size: int, *, closed: bool) -> None:
        """Find the message over which connections break again and again.

        Some brokers close the connection at a message that they do not take, without a word.
        """
        self._breaks += 1
        self._breaks_of_one = self._breaks_of_one + 1 if records == 1 and closed else 0
        if records > 1 and self._breaks >= _SUSPICIOUS:
            self._shrink(records, size)
        elif self._breaks_of_one >= _HOPELESS:
            self._outbox.drop("refused")
            self._breaks_of_one = 0
            self._tell(
                "hopeless",
                f"the broker closes the connection at a message of {size} bytes with one flow on "
                f"{self._flows_topic}: such flows are dropped and counted as refused; let this "
                "client publish there",
            )

    def _resize(self) -> None:
        room = self._packet_size - PUBLISH_OVERHEAD - len(self._flows_topic.encode())
        self._outbox.resize(batch_bytes=self._batch_bytes, message_bytes=room)

    # -- what the broker takes --

    def _keep_to(self, connection: Connection) -> None:
        limits = connection.limits
        self._packet_size = limits.packet_size
        self._retains = limits.retain
        self._resize()
        self._qos = min(self._options.qos, limits.qos)
        if self._qos < self._options.qos:
            self._tell(
                "qos",
                f"the broker takes QoS {limits.qos} only: a flow counts as acknowledged when it is "
                "handed to the connection",
            )
        if not limits.retain:
            self._tell(
                "retain",
                "the broker retains no messages: only those who already listen learn the "
                "availability",
            )

    def _adapt(self, failure: ConnectionFailed) -> bool:
        """Do without what the broker does not know; return whether that is worth a new attempt."""
        free = self._options.version is None
        if failure.code in UNSUPPORTED_VERSION and free and self._version == "5":
            _log.info("%s: the broker refuses MQTT 5; using 3.1.1", self)
            self._version = "3.1.1"
        elif failure.code == _NO_QOS and self._will_qos > 0:
            self._will_qos = 0
        elif failure.code == _NO_RETAIN and self._will_retain:
            self._will_retain = False
        else:
            return False
        return True

    # -- what comes in --

    async def _listen(self, connection: Connection, topics: Iterable[str]) -> None:
        """Ask for topics, those that the broker does not refuse."""
        for topic in topics:
            if topic not in self._denied:
                # A broker may break the connection instead of refusing: then never ask again.
                self._denied.add(topic)
                self._asked.add(topic)  # its answer may come behind the first message
                if await connection.subscribe(topic, patience=_LISTEN_TIMEOUT):
                    self._denied.discard(topic)
                else:
                    self._asked.discard(topic)

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        status = self._status_topic
        if topic == self._availability.topic and topic in self._asked:
            self._availability.on_message(payload, retained)
        elif topic == status and topic in self._asked:
            if payload == b"online" and not retained:
                now = asyncio.get_running_loop().time()
                self._node.on_birth(now, retained=self._retains)
        elif any(topic.startswith(beginning) for beginning in self._looked_at):
            if retained:  # else it is of this sink
                oldest = time.time_ns() - _REMEMBERED
                self._node.inherit(topic, payload, time_text(oldest))
        else:
            self._unasked += 1
            self._tell("unasked", "the broker sends messages without being asked; ignoring them")

    async def _look_back(self, connection: Connection) -> None:
        """Take what an earlier run has left, to clear what is no more."""
        await asyncio.sleep(_LOOK_BACK)
        await connection.unsubscribe(self._node.retained, patience=_LISTEN_TIMEOUT)
        self._asked.difference_update(self._node.retained)

    # -- the connection --

    def _connection(self, version: MqttVersion) -> Connection:
        options = self._options
        has_many = options.home_assistant is not None and options.home_assistant.devices > 0
        return Connection(
            self._broker,
            Login(
                version=version,
                client_id=options.client_id,
                username=self._credentials.username,
                password=self._credentials.password,
                keepalive=options.keepalive,
            ),
            will=Will(self._availability.topic, b"offline", self._will_qos, self._will_retain),
            tls=self._tls,
            on_message=self._on_message,
            largest=_EARLIER_LARGEST if has_many else LARGEST_INBOUND,
        )

    # -- what is told --

    async def _complain(self, failure: ConnectionFailed) -> None:
        """Log once that the broker is away, not at each attempt."""
        if failure.kind in self._troubles:
            return
        self._troubles.add(failure.kind)
        unclear = failure.kind in {"silent", "websocket"} and not self._broker.tls
        if unclear and await speaks_tls(self._broker):
            failure = tls_wanted(self._broker)
        remedy = self._remedy(failure)
        notes = "".join(f"; {note}" for note in getattr(failure, "__notes__", ()))
        # As text: a log record with the error would keep the failed connection alive.
        _log.warning(
            "%s: %s%s%s; trying again, flows wait in the outbox",
            self,
            printable(str(failure)),
            printable(notes),
            remedy,
        )

    def _remedy(self, failure: ConnectionFailed) -> str:
        code, client_id = failure.code, self._options.client_id
        if code in _REFUSED_LOGIN:
            return (
                "; check the user name and the password, and that the broker lets this client "
                f"publish on {self._flows_topic} and {self._availability.topic}"
            )
        if code in UNSUPPORTED_VERSION:
            return "; choose another version (--mqtt-version)"
        if code in _INVALID_CLIENT:
            return "; choose another client_id (--mqtt-client-id)"
        # Some brokers close the connection of the first one of two without a reason.
        unsaid = code is None and failure.closed and client_id is not None
        if code == _TAKEN_OVER or unsaid:
            return (
                f"; {'perhaps ' if unsaid else ''}another client uses the client id "
                f"{client_id!r}: give each capture its own (client_id, --mqtt-client-id)"
            )
        return ""

    def _tell_refused(
        self, topic: str, refusal: Refusal, outcome: str, kind: str | None = None
    ) -> None:
        self._tell(
            f"refused {kind or topic} {refusal.code}",
            f"the broker refuses messages on {topic}: {refusal.reason} (code {refusal.code}); "
            f"{outcome}; let this client publish there",
        )

    def _tell(self, what: str, text: str) -> None:
        """Log a warning, once in the life of the sink."""
        if what not in self._told:
            self._told.add(what)
            _log.warning("%s: %s", self, printable(text))
