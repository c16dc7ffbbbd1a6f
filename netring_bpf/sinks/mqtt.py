"""Publishes flows to an MQTT broker. Only this file knows aiomqtt.

Two tasks with the outbox between them: one takes events from the stream as fast as they come,
the other sends batches as fast as the broker acknowledges them. A broker that is away or slow
costs memory up to the outbox's limit, then the oldest flows, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import uuid
from collections.abc import Sequence

from netring_bpf.broadcast.broadcast import BatchSubscriber, FlowSubscriber
from netring_bpf.errors import SinkError, printable
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Event, Lagged
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.json import encode_event
from netring_bpf.sinks.base import SinkStatistics
from netring_bpf.sinks.mqtt_options import Broker, Credentials, MqttOptions
from netring_bpf.sinks.outbox import Outbox
from netring_bpf.sinks.topic import topic_level

try:
    import aiomqtt
    from aiomqtt.exceptions import MqttConnectError
except ModuleNotFoundError as missing:
    raise SinkError(
        f'publish to MQTT: {missing.name} is not installed; pip install "netring-bpf[mqtt]"'
    ) from missing

__all__ = ["MqttOptions", "MqttSink"]

_log = logging.getLogger("netring_bpf.sinks.mqtt")
_client_log = logging.getLogger("netring_bpf.sinks.mqtt.client")
_FIRST_PAUSE = 0.5  # seconds; doubles with each failed attempt
_CONNECT_TIMEOUT = 5.0
_ACCEPT_BATCH = 512
# Reason codes of a broker's refusal, of MQTT 5 and of 3.1.1.
_UNSUPPORTED_VERSION = {0x84, 1}
_REFUSED_LOGIN = {0x86, 0x87, 4, 5}


class MqttSink:
    """Publishes flows in batches: a JSON array a message, on ``<prefix>/<node>/flows``.

    Give it to ``Netring(sinks=[…])``. At QoS 1 a flow is delivered at least once or counted as
    dropped; ``capture`` and ``seq`` in each record tell a repeated one. The retained topic
    ``<prefix>/<node>/availability`` says ``online`` or ``offline``; the last will says ``offline``
    too. The sink speaks MQTT 5, and 3.1.1 with a broker that refuses 5. With ``mqtts://`` it
    verifies the certificate and the host name.

    Raises ``SinkError`` for a URL or credentials that it cannot use.
    """

    def __init__(self, url: str, options: MqttOptions | None = None) -> None:
        self._options = options or MqttOptions()
        self._broker = Broker.parse(url)
        self._credentials = Credentials.read(self._options.credentials_file)
        self._tls = self._tls_context()
        if self._credentials.password and not self._broker.tls and not self._broker.is_loopback:
            _log.warning("%s: the password goes over the network in clear; use mqtts://", self.name)
        base = f"{self._options.prefix}/{topic_level(self._options.node)}"
        self._flows_topic = f"{base}/flows"
        self._availability_topic = f"{base}/availability"
        self._outbox = Outbox(
            self._options.outbox,
            batch_records=self._options.batch_flows,
            batch_bytes=self._options.batch_bytes,
        )
        self._capture = uuid.uuid4().hex
        self._encoder = TextEncoder("json", terminator=b"", capture=self._capture, seq=1)
        self._protocol = aiomqtt.ProtocolVersion.V5
        self._connections = 0
        self._connected = False
        self._complained = False

    def __repr__(self) -> str:
        return f"MqttSink({self.name!r}, node={self._options.node!r})"

    @property
    def name(self) -> str:
        """The broker's URL."""
        return str(self._broker)

    @property
    def kinds(self) -> tuple[type[Event], ...]:
        """The event classes that it publishes."""
        return self._options.kinds

    def statistics(self) -> SinkStatistics:
        """Return the books: flows accepted, acknowledged, dropped, pending."""
        return SinkStatistics(
            name=self.name,
            accepted=self._outbox.accepted,
            acknowledged=self._outbox.acknowledged,
            dropped=self._outbox.dropped,
            pending=self._outbox.pending,
            reconnects=max(0, self._connections - 1),
            connected=self._connected,
        )

    async def run(self, events: FlowSubscriber | BatchSubscriber) -> None:
        """Publish the stream to its end, then empty the outbox, within ``drain_timeout``."""
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(self._send_always(), name=f"netring-{self.name}-send")
            await self._accept_all(events)
            self._outbox.close()
            # An empty outbox and no broker: there is nothing to wait for.
            wanted = self._connected or not self._outbox.finished
            patience = self._options.drain_timeout if wanted else 0.0
            done, _ = await asyncio.wait([sending], timeout=patience)
            if not done:
                sending.cancel()
        if self._outbox.pending:
            _log.warning("%s: closed with %d flows not sent", self.name, self._outbox.pending)

    # -- stream → outbox --

    async def _accept_all(self, events: FlowSubscriber | BatchSubscriber) -> None:
        while batch := await events.next_batch(_ACCEPT_BATCH):
            self._outbox.accept(self._records(batch))

    def _records(self, events: Sequence[Event]) -> list[bytes]:
        """Return the events as JSON. C encodes the batches of a capture, Python other events."""
        sequence = self._outbox.accepted + 1
        if isinstance(events, EventBatch):
            self._encoder.seq = sequence
            return self._encoder.encode_records(events).records()
        # Lagged is counted in the subscriber's own books.
        wanted = self._options.kinds
        told = (e for e in events if isinstance(e, wanted) and not isinstance(e, Lagged))
        return [
            encode_event(event, capture=self._capture, seq=number)
            for number, event in enumerate(told, sequence)
        ]

    # -- outbox → broker --

    async def _send_always(self) -> None:
        """Connect, send, and connect again, until the outbox is closed and empty."""
        failures = 0
        while not self._outbox.finished:
            before = self._connections
            try:
                async with self._client() as client:
                    await self._serve(client)
                return
            except aiomqtt.MqttError as error:
                failures = failures + 1 if self._connections == before else 1
                if self._downgrade(error):
                    continue
                self._complain(error)
            finally:
                self._connected = False
                self._outbox.give_back()
            ceiling = min(self._options.reconnect_max, _FIRST_PAUSE * 2 ** min(failures - 1, 16))
            # Full jitter: after a restart the broker's clients do not all come back at once.
            await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Send batches over one connection. Raises ``MqttError`` when the connection breaks."""
        try:
            # The watcher sees a broken connection before a publish times out. It is one task for
            # all messages, as a task for each would cost as much as the message.
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(_watch(client))
                await self._send(client)
                watching.cancel()
        except BaseExceptionGroup as group:
            # The group has the connection's error, and perhaps that of a publish under way. A
            # cancellation that came in the same moment goes before both.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            raise group.exceptions[0] from None

    async def _send(self, client: aiomqtt.Client) -> None:
        await self._publish(client, self._availability_topic, b"online", retain=True)
        self._connections += 1
        self._connected = True
        self._complained = False
        while True:
            await self._outbox.wait_batch(self._options.flush_interval)
            batch = self._outbox.take()
            if batch:
                payload = b"[" + b",".join(batch) + b"]"
                await self._publish(client, self._flows_topic, payload)
                self._outbox.acknowledge()
                await asyncio.sleep(0)  # other tasks get a turn: at QoS 0 no call above has to wait
            elif self._outbox.finished:
                break
        await self._publish(client, self._availability_topic, b"offline", retain=True)

    async def _publish(
        self, client: aiomqtt.Client, topic: str, payload: bytes, *, retain: bool = False
    ) -> None:
        qos = 1 if retain else self._options.qos
        await client.publish(
            topic, payload, qos=qos, retain=retain, timeout=self._options.keepalive
        )

    # -- the connection --

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._credentials.username,
            password=self._credentials.password,
            protocol=self._protocol,
            keepalive=self._options.keepalive,
            timeout=_CONNECT_TIMEOUT,
            tls_context=self._tls,
            will=aiomqtt.Will(self._availability_topic, b"offline", qos=1, retain=True),
            logger=_client_log,
        )

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self._broker.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self._options.cafile)
        except OSError as error:
            raise SinkError(f"MQTT certificates in {self._options.cafile}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _TlsSocket
        return context

    def _downgrade(self, error: aiomqtt.MqttError) -> bool:
        """Go on with 3.1.1 if the broker has refused MQTT 5; return whether it has."""
        if self._protocol != aiomqtt.ProtocolVersion.V5 or _code(error) not in _UNSUPPORTED_VERSION:
            return False
        _log.info("%s: the broker refuses MQTT 5; using 3.1.1", self.name)
        self._protocol = aiomqtt.ProtocolVersion.V311
        return True

    def _complain(self, error: aiomqtt.MqttError) -> None:
        """Log once that the broker is away, not at each attempt."""
        if self._complained:
            return
        self._complained = True
        remedy = "; check the user name and the password" if _code(error) in _REFUSED_LOGIN else ""
        # As text: a log record with the error would keep the failed connection alive.
        _log.warning(
            "%s: %s%s; trying again, flows wait in the outbox",
            self.name,
            printable(str(error)),
            remedy,
        )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho, under aiomqtt, leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _code(error: aiomqtt.MqttError) -> int | None:
    """Return the broker's reason code if the error is a refused connection."""
    if not isinstance(error, MqttConnectError) or error.rc is None:
        return None
    return error.rc if isinstance(error.rc, int) else int(error.rc.value)


async def _watch(client: aiomqtt.Client) -> None:
    """Wait until the connection breaks, and raise its ``MqttError``: no message ever comes."""
    async for _ in client.messages:
        pass
