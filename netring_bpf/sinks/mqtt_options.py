"""The configuration of an MQTT sink: options, broker URL, credentials."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from netring_bpf.errors import OptionError, SinkError
from netring_bpf.events.event import Event, FlowEnded, FlowUpdated
from netring_bpf.events.select import classes_of

__all__ = ["Broker", "Credentials", "MqttOptions"]

_USERNAME, _PASSWORD = "NETRING_MQTT_USERNAME", "NETRING_MQTT_PASSWORD"


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """The options of an ``MqttSink``. Times are in seconds.

    ``node`` names this machine in the topics ``<prefix>/<node>/flows`` and
    ``<prefix>/<node>/availability``; its host name by default.
    ``qos``: with 1 the broker acknowledges a message, with 0 the sink only hands it to the
    connection.
    ``kinds``: the flow events to publish.
    ``batch_flows``, ``batch_bytes``, ``flush_interval``: the sink sends a message that has so
    many flows or bytes, or is so old.
    ``outbox``: so many flows wait while the broker is away or slow; the sink drops the oldest and
    counts them.
    ``keepalive``: also how long an acknowledgement may take before the sink gives up the
    connection.
    ``reconnect_max``: the longest pause between attempts to connect.
    ``drain_timeout``: how long closing waits for the outbox to empty.
    ``credentials_file``: user name and password, a line each, in a file of mode 0600.
    ``cafile``: certificates to trust instead of the system's.
    """

    node: str = field(default_factory=socket.gethostname)
    prefix: str = "netring"
    qos: int = 1
    kinds: tuple[type[Event], ...] = (FlowUpdated, FlowEnded)
    batch_flows: int = 100
    batch_bytes: int = 65_536
    flush_interval: float = 0.2
    outbox: int = 50_000
    keepalive: int = 15
    reconnect_max: float = 30.0
    drain_timeout: float = 5.0
    credentials_file: Path | None = None
    cafile: Path | None = None

    def __post_init__(self) -> None:
        classes_of(self.kinds, "MqttOptions")
        rules = {
            "node": (bool(self.node) and "\0" not in self.node, "a text without NUL"),
            "prefix": (
                bool(self.prefix) and not set(self.prefix) & set("+#\0"),
                "a topic without +, # and NUL",
            ),
            "qos": (self.qos in {0, 1}, "0 or 1"),
            "batch_flows": (1 <= self.batch_flows <= 10_000, "from 1 to 10000"),
            "batch_bytes": (1024 <= self.batch_bytes <= 1 << 24, "from 1024 to 16777216 bytes"),
            "flush_interval": (0.0 <= self.flush_interval <= 60.0, "from 0 to 60 seconds"),
            "outbox": (1 <= self.outbox <= 10_000_000, "from 1 to 10000000"),
            "keepalive": (1 <= self.keepalive <= 3600, "from 1 to 3600 seconds"),
            "reconnect_max": (0.1 <= self.reconnect_max <= 3600.0, "from 0.1 to 3600 seconds"),
            "drain_timeout": (0.0 <= self.drain_timeout <= 600.0, "from 0 to 600 seconds"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise OptionError(f"{name}={getattr(self, name)!r}: must be {rule}", option=name)


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker's address. It has no credentials, so a message may show it."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Read ``mqtt://HOST[:PORT]`` or ``mqtts://HOST[:PORT]``. Raises ``SinkError``.

        The error does not repeat the URL, as there may be a password in it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SinkError("MQTT URL: the port or the address in it is malformed") from error
        if parts.username is not None or parts.password is not None or "@" in url:
            raise SinkError(
                "MQTT URL: it has credentials in it, which every user of the machine can read; "
                f"put them in a file of mode 0600 or in {_USERNAME} and {_PASSWORD}"
            )
        if parts.hostname and not parts.hostname.isprintable():
            raise SinkError("MQTT URL: the host has characters that no name has")
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise SinkError("MQTT URL: must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
        try:
            parts.hostname.encode("idna")
        except UnicodeError as error:
            raise SinkError(
                "MQTT URL: the host is no name that can be looked up: a label of it is empty or "
                "over 63 characters"
            ) from error
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise SinkError(
                "MQTT URL: nothing may follow HOST:PORT; topics are set by node and prefix"
            )
        if port == 0:
            raise SinkError("MQTT URL: port 0 is none; leave it out for 1883 or 8883")
        tls = parts.scheme == "mqtts"
        return cls(parts.hostname, port or (8883 if tls else 1883), tls)

    @property
    def is_loopback(self) -> bool:
        """Whether messages to the broker stay on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user name and a password; no repr shows them."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({'set' if self.username is not None else 'none'})"

    @classmethod
    def read(cls, path: Path | None) -> Credentials:
        """Read them from the file, or from the environment if there is no file."""
        if path is None:
            return cls(os.environ.get(_USERNAME), os.environ.get(_PASSWORD))
        try:
            with path.open(encoding="utf-8") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise SinkError(
                        f"MQTT credentials in {path}: its mode is {mode:04o}, others can read or "
                        f"change it; chmod 600 {path}"
                    )
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SinkError(f"MQTT credentials in {path}: {error}") from None
        if not 1 <= len(lines) <= 2 or not lines[0]:
            raise SinkError(
                f"MQTT credentials in {path}: must be the user name on the first line and the "
                "password on the second"
            )
        return cls(lines[0], lines[1] if len(lines) == 2 else None)
