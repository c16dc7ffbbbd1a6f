"""The configuration of an MQTT sink: options and broker URL."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from netring_bpf.errors import OptionError, SinkError
from netring_bpf.events.event import Event, FlowEnded, FlowUpdated
from netring_bpf.events.select import classes_of
from netring_bpf.sinks.home_assistant import HomeAssistantOptions
from netring_bpf.sinks.mqtt_credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE
from netring_bpf.sinks.mqtt_topics import TopicOptions
from netring_bpf.sinks.topic import LONGEST_TOPIC, is_mqtt_text, topic_level

__all__ = ["Broker", "MqttOptions", "MqttVersion"]

MqttVersion: TypeAlias = Literal["5", "3.1.1"]

_LONGEST_SUFFIX: Final = "/availability"
_TOPICS: Final = ("info", "link", "stats", "top", "devices", "events")
_MAX_DEVICES: Final = 65_536
_AS_IT_CHANGES: Final = TopicOptions()
_EACH_SECOND: Final = TopicOptions(interval=1.0)
_EACH_TEN_SECONDS: Final = TopicOptions(interval=10.0)
_TEN_A_SECOND: Final = TopicOptions(retain=False, interval=0.1)
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_WEBSOCKET_PATH: Final = "/mqtt"
_PATH: Final = re.compile(r"/[!-~]*")  # as it stands in an HTTP request


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """The options of an ``MqttSink``. Times are in seconds.

    ``node`` names this capture in the topics ``<prefix>/<node>/flows``,
    ``<prefix>/<node>/availability`` and so on; by default it is ``<host name>_<interface>``. Two
    captures must not share it. ``prefix``: the beginning of all topics.
    ``qos``: 0 or 1; with 1 the broker acknowledges a message, with 0 the sink only hands it to the
    connection.
    ``kinds``: the flow events to publish; none for ``()``.
    ``info``, ``link``, ``stats``, ``top``, ``devices``, ``events``: the options of these topics
    (docs/mqtt.md). ``devices`` carries what ``Netring(devices=…)`` tells. ``max_devices``: so many
    devices have a topic.
    ``home_assistant``: publish the discovery message of Home Assistant too.
    ``batch_flows``, ``batch_bytes``, ``flush_interval``: the sink sends a message that has so
    many flows or bytes, or is so old.
    ``outbox``: so many flows wait while the broker is away or slow; the sink drops the oldest and
    counts them.
    ``outbox_dir``: flows wait in this folder instead, up to ``outbox_bytes``, and outlive the
    process (docs/outbox.md). It is the sink's alone, and made if it is absent. ``outbox`` is then
    how many wait in memory for the disk.
    ``keepalive``: seconds between two signs of life; also how long an acknowledgement may take
    before the sink gives up the connection. The broker may ask for another interval between signs
    of life. ``reconnect_max``: the longest pause between attempts to connect, in seconds.
    ``drain_timeout``: seconds for which closing waits for the outbox to empty.
    ``client_id``: the name of the connection; no other client of the broker may have it. By
    default each connection has a random one.
    ``version``: ``"5"`` or ``"3.1.1"`` speaks only that version of MQTT. By default the sink
    speaks 5, and 3.1.1 with a broker that does not know 5.
    ``credentials_file``: user name and password, a line each, in a file that others cannot read.
    ``cafile``: certificates to trust instead of the system's.
    ``certfile``, ``keyfile``: the client's certificate and its key, which is not encrypted, in
    PEM; without ``keyfile`` the key is in ``certfile``.

    Raises ``OptionError``, also for a prefix or node that no broker takes in a topic.
    """

    node: str | None = None
    prefix: str = "netring"
    qos: int = 1
    kinds: tuple[type[Event], ...] = (FlowUpdated, FlowEnded)
    info: TopicOptions = _AS_IT_CHANGES
    link: TopicOptions = _AS_IT_CHANGES
    stats: TopicOptions = _EACH_SECOND
    top: TopicOptions = _EACH_SECOND
    devices: TopicOptions = _EACH_TEN_SECONDS
    events: TopicOptions = _TEN_A_SECOND
    max_devices: int = 256
    home_assistant: HomeAssistantOptions | None = None
    batch_flows: int = 100
    batch_bytes: int = 65_536
    flush_interval: float = 0.2
    outbox: int = 50_000
    outbox_dir: str | os.PathLike[str] | None = None
    outbox_bytes: int = 256 << 20
    keepalive: int = 15
    reconnect_max: float = 30.0
    drain_timeout: float = 5.0
    client_id: str | None = None
    version: MqttVersion | None = None
    credentials_file: str | os.PathLike[str] | None = None
    cafile: str | os.PathLike[str] | None = None
    certfile: str | os.PathLike[str] | None = None
    keyfile: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        classes_of(self.kinds, "MqttOptions")
        good_node = self.node is None or _is_level(self.node)
        rules = {
            "node": (
                good_node,
                "a text without NUL and surrogates, at most "
                f"{LONGEST_TOPIC} bytes long in the topic",
            ),
            "prefix": (
                bool(self.prefix)
                and is_mqtt_text(self.prefix)
                and not self.prefix.startswith("$")
                and not set(self.prefix) & set("+#")
                and (not good_node or self._fits()),
                "the beginning of a topic: no $ in front, no +, # or control characters, and with "
                f"the node at most {LONGEST_TOPIC} bytes",
            ),
            "qos": (self.qos in {0, 1}, "0 or 1"),
            "max_devices": (1 <= self.max_devices <= _MAX_DEVICES, f"from 1 to {_MAX_DEVICES}"),
            "home_assistant": (
                self.home_assistant is None
                or isinstance(self.home_assistant, HomeAssistantOptions),
                "HomeAssistantOptions(…) or None",
            ),
            "batch_flows": (1 <= self.batch_flows <= 10_000, "from 1 to 10000"),
            "batch_bytes": (1024 <= self.batch_bytes <= 1 << 24, "from 1024 to 16777216 bytes"),
            "flush_interval": (0.0 <= self.flush_interval <= 60.0, "from 0 to 60 seconds"),
            "outbox": (1 <= self.outbox <= 10_000_000, "from 1 to 10000000"),
            "outbox_bytes": (
                max(1 << 20, 32 * self.batch_bytes) <= self.outbox_bytes <= 1 << 40,
                "from 1 MiB, and 32 times batch_bytes, to 1 TiB",
            ),
            "keepalive": (1 <= self.keepalive <= 3600, "from 1 to 3600 seconds"),
            "reconnect_max": (0.1 <= self.reconnect_max <= 3600.0, "from 0.1 to 3600 seconds"),
            "drain_timeout": (0.0 <= self.drain_timeout <= 600.0, "from 0 to 600 seconds"),
            "client_id": (
                self.client_id is None or (bool(self.client_id) and is_mqtt_text(self.client_id)),
                "a text without control characters, of 1 to 65535 bytes",
            ),
            "version": (self.version in {None, "5", "3.1.1"}, '"5" or "3.1.1"'),
            "keyfile": (
                self.keyfile is None or self.certfile is not None,
                "the key of a certfile, which is not given",
            ),
        }
        for name in _TOPICS:
            if not isinstance(getattr(self, name), TopicOptions):
                rules[name] = (False, "TopicOptions(…)")
        for name in ("credentials_file", "cafile", "certfile", "keyfile"):
            if not _is_path(getattr(self, name)):
                rules[name] = (False, "the path of a file, a text or a Path")
        if not _is_path(self.outbox_dir):
            rules["outbox_dir"] = (False, "the path of a folder, a text or a Path")
        for name, (holds, rule) in rules.items():
            if not holds:
                shown = repr(getattr(self, name))
                shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
                raise OptionError(f"{name}={shown}: must be {rule}", option=name)

    def _fits(self) -> bool:
        node = "" if self.node is None else topic_level(self.node)
        return len(f"{self.prefix}/{node}{_LONGEST_SUFFIX}".encode()) <= LONGEST_TOPIC


def _is_path(path: str | os.PathLike[str] | None) -> bool:
    if path is None:
        return True
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    return isinstance(text, str) and bool(text) and "\0" not in text


def _is_level(node: str) -> bool:
    if not node or "\0" in node:
        return False
    try:
        return len(topic_level(node)) <= LONGEST_TOPIC
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return False


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker's address. It has no credentials, so a message may show it.

    ``path``: that of the WebSocket; None if the connection is plain TCP or TLS.
    """

    host: str
    port: int
    tls: bool
    path: str | None = None

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Read ``mqtt://``, ``mqtts://``, ``ws://`` or ``wss://HOST[:PORT]``. Raises ``SinkError``.

        WebSockets may have a path behind it; it is ``/mqtt`` by default. The error does not repeat
        the URL, as there may be a password in it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SinkError("MQTT URL: the port or the address in it is malformed") from error
        if parts.username is not None or parts.password is not None or "@" in url:
            raise SinkError(
                "MQTT URL: it has credentials in it, which every user of the machine can read; put "
                "them in a file that only you can read (chmod 600), or in "
                f"{USERNAME_VARIABLE} and {PASSWORD_VARIABLE}"
            )
        if parts.hostname and not parts.hostname.isprintable():
            raise SinkError("MQTT URL: the host has characters that no name has")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SinkError(
                "MQTT URL: must be mqtt://HOST[:PORT], mqtts://HOST[:PORT], ws://HOST[:PORT]/PATH "
                "or wss://HOST[:PORT]/PATH"
            )
        websocket = parts.scheme.startswith("ws")
        if parts.query or parts.fragment or not (websocket or parts.path in {"", "/"}):
            raise SinkError(
                "MQTT URL: nothing may follow HOST:PORT but the path of a WebSocket; topics are "
                "set by node and prefix"
            )
        if port == 0:
            raise SinkError("MQTT URL: port 0 is none; leave it out for the usual one")
        if not _is_host(parts.hostname):
            raise SinkError(
                "MQTT URL: the host is no name that can be looked up: a label of it is empty or "
                "over 63 characters"
            )
        path = None
        if websocket:
            path = _WEBSOCKET_PATH if parts.path in {"", "/"} else parts.path
        if path is not None and not _PATH.fullmatch(path):
            raise SinkError("MQTT URL: percent-encode what is not ASCII in the WebSocket's path")
        return cls(
            parts.hostname,
            port or _PORTS[parts.scheme],
            tls=parts.scheme in {"mqtts", "wss"},
            path=path,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether messages to the broker stay on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def scheme(self) -> str:
        """The scheme of the URL, as ``mqtts``."""
        return self.secure_scheme if self.tls else self.plain_scheme

    @property
    def plain_scheme(self) -> str:
        """The scheme without TLS."""
        return "mqtt" if self.path is None else "ws"

    @property
    def secure_scheme(self) -> str:
        """The scheme with TLS."""
        return f"{self.plain_scheme}s"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path or ''}"


def _is_host(host: str) -> bool:
    """Whether the name can be looked up at all."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in host):
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return ":" in host
    return True
