"""Removes what a node has left at a broker: its retained topics, and its discovery message."""

from __future__ import annotations

import asyncio
from typing import Final

from netring_bpf.errors import SinkError, printable
from netring_bpf.sinks.home_assistant import Discovery, HomeAssistantOptions
from netring_bpf.sinks.mqtt_connection import (
    UNSUPPORTED_VERSION,
    Connection,
    ConnectionFailed,
    Login,
)
from netring_bpf.sinks.mqtt_credentials import Credentials
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions, MqttVersion
from netring_bpf.sinks.mqtt_tls import tls_context
from netring_bpf.sinks.mqtt_topics import Topics

__all__ = ["forget"]

_LARGEST: Final = 1 << 25  # bytes of a packet: no message of a sink is larger
_ANSWER: Final = 5.0  # seconds for the answer to a subscription
_QUIET: Final = 0.7  # seconds without a message, after which the broker has sent all that it has
_PATIENCE: Final = 30.0
_ROUNDS: Final = 3
_ONLINE: Final = b"online"
_OFFLINE: Final = b"offline"


async def forget(
    url: str,
    options: MqttOptions,
    node: str,
    discovery: HomeAssistantOptions | None = None,
) -> list[str]:
    """Remove the retained topics of a node from a broker; returns their names.

    ``options`` say how to connect, and the prefix of the topics. Raises ``SinkError`` if the broker
    cannot be reached or refuses something, and if the node's capture runs, which would publish
    again.
    """
    return await _Forgetting(url, options, node, discovery).run()


class _Forgetting:
    def __init__(
        self,
        url: str,
        options: MqttOptions,
        node: str,
        discovery: HomeAssistantOptions | None,
    ) -> None:
        self._broker = Broker.parse(url)
        self._options = options
        self._credentials = Credentials.read(options.credentials_file)
        self._tls = tls_context(self._broker, options)
        self._topics = Topics.of(options.prefix, node)
        wanted = discovery or HomeAssistantOptions()
        self._filters = (self._topics.all, Discovery(wanted, options.prefix, node).topic)
        self._found: dict[str, bytes] = {}
        self._heard = asyncio.Event()
        self._said: list[bytes] = []  # on the availability topic, by anybody now

    async def run(self) -> list[str]:
        first: MqttVersion = self._options.version or "5"
        try:
            return await self._with(first)
        except ConnectionFailed as failure:
            older = failure.silent or failure.code in UNSUPPORTED_VERSION
            if not older or self._options.version is not None:
                raise self._error(str(failure)) from None
        try:
            return await self._with("3.1.1")
        except ConnectionFailed as failure:
            raise self._error(str(failure)) from None

    async def _with(self, version: MqttVersion) -> list[str]:
        login = Login(
            version=version,
            client_id=self._options.client_id,
            username=self._credentials.username,
            password=self._credentials.password,
            keepalive=self._options.keepalive,
        )
        removed: dict[str, None] = {}
        async with Connection(
            self._broker,
            login,
            will=None,
            tls=self._tls,
            on_message=self._on_message,
            largest=_LARGEST,
        ) as connection:
            for _ in range(_ROUNDS):
                await self._look(connection)
                if not self._found:
                    return sorted(removed)
                for topic in self._found:
                    await self._clear(connection, topic)
                    removed[topic] = None
        raise self._error(
            f"{', '.join(sorted(self._found))}: somebody publishes there at the same time"
        )

    async def _look(self, connection: Connection) -> None:
        """Ask for all that is retained; a new subscription brings it again."""
        self._found.clear()
        self._said.clear()
        for topic in self._filters:
            if not await connection.subscribe(topic, patience=_ANSWER):
                raise self._error(f"the broker does not let this client read {topic}")
        # A capture says otherwise to this. It also shows whether messages come in at all.
        qos = min(1, connection.limits.qos)
        await connection.publish(self._topics.availability, _OFFLINE, qos=qos)
        await self._wait_quiet()
        if self._found.get(self._topics.availability) == _ONLINE and _ONLINE not in self._said:
            await self._wait_quiet(_ANSWER)
        if _ONLINE in self._said:
            raise self._error("its capture is online, and would publish again: stop it first")
        if _OFFLINE not in self._said:
            raise self._error(
                f"the broker lets this client not publish on {self._topics.availability}, or not "
                f"read {self._topics.all}"
            )
        await connection.unsubscribe(self._filters, patience=_ANSWER)

    async def _wait_quiet(self, least: float = _QUIET) -> None:
        """Wait until nothing has come for a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        while loop.time() < deadline and _ONLINE not in self._said:
            self._heard.clear()
            try:
                async with asyncio.timeout(least):
                    await self._heard.wait()
            except TimeoutError:
                return

    async def _clear(self, connection: Connection, topic: str) -> None:
        qos = min(1, connection.limits.qos)
        refusal = await connection.publish(topic, b"", qos=qos, retain=True)
        if refusal is not None:
            raise self._error(
                f"the broker refuses messages on {topic}: {refusal.reason} (code {refusal.code}); "
                "let this client publish there"
            )

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if retained and payload:
            self._found[topic] = payload
        elif topic == self._topics.availability:
            self._said.append(payload)
        self._heard.set()

    def _error(self, text: str) -> SinkError:
        return SinkError(printable(f"{self._broker}: forget {self._topics.base}: {text}"))
