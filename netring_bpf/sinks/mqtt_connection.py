"""One connection to an MQTT broker. Only this file knows aiomqtt, and paho below it.

aiomqtt drops what the broker says of itself (CONNACK), why it refuses a message (PUBACK), and why
it leaves (DISCONNECT); paho's callbacks have all three, so this file sets itself between the two.
It also owns the socket's place in the event loop: aiomqtt registers it by number, later, when it
may be closed already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from netring_bpf.errors import SinkError
from netring_bpf.sinks.mqtt_options import Broker, MqttVersion

try:
    import aiomqtt
    import paho.mqtt
    from paho.mqtt.client import Client as PahoClient
    from paho.mqtt.client import (
        ConnectFlags,
        DisconnectFlags,
        MQTTMessage,
        WebsocketConnectionError,
    )
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode
except ModuleNotFoundError as _missing:
    raise SinkError(
        f'publish to MQTT: {_missing.name} is not installed; pip install "netring-bpf[mqtt]"'
    ) from _missing

if TYPE_CHECKING:
    from types import TracebackType

    from paho.mqtt.client import SocketLike

__all__ = [
    "LARGEST_INBOUND",
    "PACKET_TOO_LARGE",
    "PUBLISH_OVERHEAD",
    "UNSUPPORTED_VERSION",
    "Connection",
    "ConnectionFailed",
    "Limits",
    "Login",
    "Refusal",
    "TlsSocket",
    "Will",
    "speaks_tls",
    "tls_wanted",
]

_log = logging.getLogger("netring_bpf.sinks.mqtt.client")

# The clients log in passing what this file raises with its remedy.
_log.addFilter(lambda record: record.levelno < logging.WARNING or _log.isEnabledFor(logging.DEBUG))

PACKET_TOO_LARGE: Final = 0x95  #: the reason code
UNSUPPORTED_VERSION: Final = frozenset({0x84, 1})  #: the reason codes of MQTT 5 and 3.1.1
#: The bytes of a PUBLISH besides topic and payload, at most: type and length, the topic's length,
#: the identifier, no properties.
PUBLISH_OVERHEAD: Final = 5 + 2 + 2 + 1

_CONNECT_TIMEOUT: Final = 5.0
_MISC_PERIOD: Final = 1.0  # seconds between looks at the keep-alive
# The broker is told the size of packets; the rest holds for one that does not listen.
LARGEST_INBOUND: Final = 16_384  #: bytes of a packet
_MOST_INBOUND: Final = 64  # messages of QoS 2 that wait for their release
_MOST_OUTBOUND: Final = 1024  # packets, most of them acknowledgements
_LARGEST_BUFFER: Final = 1 << 20  # bytes of one WebSocket frame
_FIRST_BYTES: Final = 16

_VERSIONS: Final[dict[MqttVersion, aiomqtt.ProtocolVersion]] = {
    "5": aiomqtt.ProtocolVersion.V5,
    "3.1.1": aiomqtt.ProtocolVersion.V311,
}
_USED_OF_AIOMQTT: Final = (
    "_client", "_connected", "_disconnected", "_pending_publishes", "_pending_subscribes",
    "_on_connect", "_on_disconnect", "_on_publish",
)  # fmt: skip
_USED_OF_PAHO: Final = (
    "_create_socket", "_create_socket_connection", "_in_messages", "_keepalive", "_out_packet",
    "_sock_close", "_sock_recv", "_ssl_wrap_socket",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the broker sets, and their values where it sets none.

    ``receive_maximum`` is at least 1, and a ``Connection`` has one message at a time under way.
    """

    packet_size: int = (1 << 28) + 4  # the longest there is
    qos: int = 2
    retain: bool = True
    receive_maximum: int = 65_535
    keepalive: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """The identity that a client gives when it connects."""

    version: MqttVersion
    client_id: str | None
    username: str | None
    password: str | None
    keepalive: int


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the broker publishes when this client is lost."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The broker's answer to a message that it does not take."""

    code: int
    reason: str


class ConnectionFailed(Exception):  # noqa: N818 - not an error of the program
    """There is no connection, or no longer. The text says why, and the remedy.

    ``code``: the broker's reason, if it gave one. ``silent``: it closed the connection instead
    of an answer to CONNECT; ``closed``: it closed an open one. ``kind`` groups the causes that
    need be told only once.
    """

    def __init__(
        self,
        text: str,
        *,
        kind: str = "away",
        code: int | None = None,
        silent: bool = False,
        closed: bool = False,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.code = code
        self.silent = silent
        self.closed = closed


class Connection:
    """A connection while it lasts: an async context manager, used once.

    Leaving it with an exception closes the socket without a word, so that the broker publishes
    the will. ``on_message`` gets the topic, the payload and whether it is retained, of what the
    broker sends. ``largest``: the bytes of a packet that it may send. Entering and all methods
    raise ``ConnectionFailed``.
    """

    def __init__(
        self,
        broker: Broker,
        login: Login,
        *,
        will: Will | None,
        tls: ssl.SSLContext | None,
        on_message: Callable[[str, bytes, bool], None],
        largest: int = LARGEST_INBOUND,
    ) -> None:
        self.limits: Limits = Limits()
        self._largest = largest
        #: The topic of the message that was under way when the connection broke.
        self.broken_over: str | None = None
        self._under_way: str | None = None
        self._broker = broker
        self._login = login
        self._heard = on_message
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lost: asyncio.Future[ConnectionFailed] = self._loop.create_future()
        self._publishing = asyncio.Lock()
        self._refusal: Refusal | None = None
        self._first = bytearray()  # of what the broker sent before it took us
        self._opened = self._accepted = self._leaving = self._closed = False
        self._fault: OSError | None = None
        self._misc: asyncio.Task[None] | None = None
        self._client = aiomqtt.Client(
            broker.host,
            broker.port,
            username=login.username,
            password=login.password,
            identifier=login.client_id,
            protocol=_VERSIONS[login.version],
            keepalive=login.keepalive,
            timeout=_CONNECT_TIMEOUT,
            tls_context=tls,
            transport="tcp" if broker.path is None else "websockets",
            websocket_path=broker.path,
            will=None
            if will is None
            else aiomqtt.Will(will.topic, will.payload, qos=will.qos, retain=will.retain),
            properties=_connect_properties(largest) if login.version == "5" else None,
            logger=_log,
        )
        self._paho = _paho_of(self._client)
        self._receive_from_socket = self._paho._sock_recv
        self._hook()

    def _hook(self) -> None:
        paho = self._paho
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_publish = self._on_publish
        paho.on_message = self._on_message
        paho.on_socket_open = self._on_socket_open
        paho.on_socket_close = self._on_socket_close
        paho.on_socket_register_write = self._on_register_write
        paho.on_socket_unregister_write = self._on_unregister_write
        paho._sock_recv = self._receive  # type: ignore[method-assign]
        _close_what_fails(paho)

    # -- use --

    async def __aenter__(self) -> Self:
        try:
            await self._client.__aenter__()
        except aiomqtt.MqttError as error:
            self._drop()
            failure = self._lost.result() if self._lost.done() else self._unconnected(error)
            raise failure from None
        except BaseException:
            self._drop()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc is None and not self._lost.done():
                self._leaving = True
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._client.__aexit__(None, None, None)
        finally:
            self._drop()

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False
    ) -> Refusal | None:
        """Publish one message, and wait for its acknowledgement at QoS 1.

        Returns the broker's refusal, which MQTT 3.1.1 does not have; None if the message was
        taken.
        """
        async with self._publishing:  # so that a refusal is of this message
            if self._lost.done():
                raise self._lost.result()
            self._refusal = None
            self._under_way = topic
            patience = self._login.keepalive
            try:
                await self._client.publish(topic, payload, qos=qos, retain=retain, timeout=patience)
            except aiomqtt.MqttError as error:
                if not self._lost.done():
                    self.broken_over = topic
                    text = f"no acknowledgement within {patience} s ({error})"
                    raise ConnectionFailed(text) from None
            if self._lost.done():
                raise self._lost.result()
            self._under_way = None
            return self._refusal

    async def subscribe(self, topic: str, *, patience: float) -> bool:
        """Ask for the messages on a topic at QoS 0; return whether the broker grants it."""
        try:
            codes = await self._client.subscribe(topic, qos=0, timeout=patience)
        except aiomqtt.MqttError:
            if self._lost.done():
                raise self._lost.result() from None
            return False
        return all((code if isinstance(code, int) else code.value) < 0x80 for code in codes)

    async def unsubscribe(self, topics: Sequence[str], *, patience: float) -> None:
        """Ask for the messages on these topics no more.

        The answer shows that the broker has read everything before it, also messages of QoS 0.
        """
        try:
            await self._client.unsubscribe(list(topics), timeout=patience)
        except aiomqtt.MqttError:
            if self._lost.done():
                raise self._lost.result() from None

    async def watch(self) -> None:
        """Wait until the connection is lost, and raise the ``ConnectionFailed``."""
        raise await asyncio.shield(self._lost)

    # -- what paho tells; all in the event loop, but for the opening of a socket --

    def _on_connect(
        self,
        paho: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if reason.is_failure:
            self._lose(_refused(reason.value, str(reason)))
            return
        if not self._accepted:
            self._accepted = True
            self._keep_to(properties)
        self._client._on_connect(paho, userdata, flags, reason, properties)

    def _keep_to(self, properties: Properties | None) -> None:
        said = {} if properties is None else vars(properties)
        unlimited = Limits()
        self.limits = Limits(
            packet_size=said.get("MaximumPacketSize", unlimited.packet_size),
            qos=said.get("MaximumQoS", unlimited.qos),
            retain=bool(said.get("RetainAvailable", unlimited.retain)),
            receive_maximum=said.get("ReceiveMaximum", unlimited.receive_maximum),
            keepalive=said.get("ServerKeepAlive"),
        )
        if self.limits.keepalive is not None:
            self._paho._keepalive = self.limits.keepalive

    def _on_disconnect(
        self,
        paho: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._leaving:
            self._client._on_disconnect(paho, userdata, flags, reason, properties)
        elif not self._accepted:
            self._lose(self._unanswered("it closed the connection"))
        elif flags.is_disconnect_packet_from_server:
            self._lose(
                ConnectionFailed(
                    f"the broker ended the connection: {reason} (code {reason.value})",
                    kind=f"code {reason.value}",
                    code=reason.value,
                    closed=True,
                )
            )
        elif self._fault is not None:
            closed = isinstance(self._fault, ConnectionResetError)
            text = f"the connection broke: {_text(self._fault)}"
            self._lose(ConnectionFailed(text, closed=closed))
        elif str(reason) == "Keep alive timeout":
            self._lose(ConnectionFailed("the broker no longer answers"))
        else:
            self._lose(ConnectionFailed("the broker closed the connection", closed=True))

    def _on_publish(
        self,
        paho: PahoClient,
        userdata: Any,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        if reason.is_failure:
            self._refusal = Refusal(reason.value, str(reason))
        self._client._on_publish(paho, userdata, mid, reason, properties)

    def _on_message(self, paho: PahoClient, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._heard(topic, bytes(message.payload), message.retain)

    def _receive(self, bufsize: int) -> bytes:
        """Read from the socket for paho, which takes packets of any length."""
        paho = self._paho
        if (
            bufsize > self._largest
            or len(paho._in_messages) > _MOST_INBOUND
            or len(paho._out_packet) > _MOST_OUTBOUND
            or len(getattr(paho.socket(), "_readbuffer", b"")) > _LARGEST_BUFFER
        ):
            # paho closes the connection at an OSError.
            self._fault = ConnectionAbortedError("the broker sends more than was asked for")
            raise self._fault
        try:
            data = self._receive_from_socket(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self._fault = error.with_traceback(None)
            raise
        if not self._accepted and len(self._first) < _FIRST_BYTES:
            self._first += data
        return data

    # -- the socket in the event loop --

    def _on_socket_open(self, paho: PahoClient, userdata: Any, sock: SocketLike) -> None:
        self._opened = True
        self._in_loop(self._watch_socket, sock)

    def _watch_socket(self, sock: SocketLike) -> None:
        if self._closed:
            self._paho._sock_close()  # whoever waited for it was cancelled
        elif self._is_open(sock):
            self._loop.add_reader(sock.fileno(), self._on_readable)
            self._misc = self._loop.create_task(self._keep_alive(), name="netring-mqtt-keepalive")

    def _on_register_write(self, paho: PahoClient, userdata: Any, sock: SocketLike) -> None:
        self._in_loop(self._watch_write, sock)

    def _watch_write(self, sock: SocketLike) -> None:
        if self._is_open(sock):
            self._loop.add_writer(sock.fileno(), self._on_writable)

    def _on_unregister_write(self, paho: PahoClient, userdata: Any, sock: SocketLike) -> None:
        if sock.fileno() >= 0 and threading.get_ident() == self._thread:
            self._loop.remove_writer(sock.fileno())

    def _on_socket_close(self, paho: PahoClient, userdata: Any, sock: SocketLike) -> None:
        if sock.fileno() >= 0 and threading.get_ident() == self._thread:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
        if self._misc is not None:
            self._misc.cancel()

    def _is_open(self, sock: SocketLike) -> bool:
        return self._paho.socket() is sock and sock.fileno() >= 0

    def _in_loop(self, call: Callable[[SocketLike], None], sock: SocketLike) -> None:
        """Call it in the loop's thread: paho opens the socket in another one."""
        if threading.get_ident() == self._thread:
            call(sock)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(call, sock)

    def _on_readable(self) -> None:
        try:
            while True:
                self._paho.loop_read()
                # TLS may hold decoded bytes that the event loop does not see.
                pending = getattr(self._paho.socket(), "pending", None)
                if pending is None or pending() == 0:
                    return
        except Exception as error:  # noqa: BLE001 - paho's parsers raise anything
            self._lose(self._broken(error))

    def _on_writable(self) -> None:
        try:
            self._paho.loop_write()
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(self._broken(error))

    async def _keep_alive(self) -> None:
        try:
            while self._paho.loop_misc() == 0:  # noqa: ASYNC110 - paho has no event for it
                await asyncio.sleep(_MISC_PERIOD)
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(self._broken(error))

    # -- the end --

    def _lose(self, failure: ConnectionFailed) -> None:
        """Note why the connection is gone, and wake everybody who waits on it."""
        if self._lost.done():
            return
        self.broken_over = self._under_way
        self._lost.set_result(failure)
        client, error = self._client, aiomqtt.MqttError(str(failure))
        connection = client._disconnected if self._accepted else client._connected
        waiting: list[asyncio.Future[Any]] = [connection, *client._pending_subscribes.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody needs to look at it
        for confirmation in client._pending_publishes.values():
            confirmation.set()
        # Not here: paho, which may have called, holds a lock that closing needs.
        self._loop.call_soon(self._drop)

    def _drop(self) -> None:
        """Close the socket without a word. Idempotent."""
        self._closed = True
        self._paho._sock_close()

    def _broken(self, error: Exception) -> ConnectionFailed:
        if not self._accepted:
            return self._unanswered(f"it broke the protocol: {error}")
        return ConnectionFailed(f"the broker broke the protocol: {type(error).__name__}: {error}")

    # -- why there is no connection --

    def _unconnected(self, error: aiomqtt.MqttError) -> ConnectionFailed:
        """Say why connecting failed, from aiomqtt's error."""
        cause = error.__context__
        if self._opened:
            patience = f"it lets {_CONNECT_TIMEOUT:.0f} s pass"
            return self._unanswered(patience, closed=False)
        if isinstance(cause, WebsocketConnectionError):
            return ConnectionFailed(
                f"{cause}; is there MQTT over WebSocket at {self._broker.path}, and is "
                f"{self._broker.scheme}:// right?",
                kind="websocket",
            )
        if isinstance(cause, OSError):
            return self._unreachable(cause)
        return ConnectionFailed(f"cannot connect: {error}")

    def _unreachable(self, error: OSError) -> ConnectionFailed:
        plain = self._broker.plain_scheme
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConnectionFailed(
                f"the broker's certificate is not accepted: {error.verify_message}; cafile "
                "(--mqtt-cafile) names certificates to trust",
                kind="certificate",
            )
        if isinstance(error, ssl.SSLError) and error.reason in {
            "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST",
            "PACKET_LENGTH_TOO_LONG",
        }:  # fmt: skip
            return ConnectionFailed(
                f"the port does not speak TLS: use {plain}://, or another port", kind="tls"
            )
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return _needs_certificate(error)
        if self._broker.tls and isinstance(error, (ssl.SSLError, ConnectionResetError)):
            return ConnectionFailed(
                f"the TLS handshake ended early ({_text(error)}): does the port speak TLS? Else "
                f"use {plain}://",
                kind="tls",
            )
        return ConnectionFailed(f"cannot connect: {_text(error)}")

    def _unanswered(self, text: str, *, closed: bool = True) -> ConnectionFailed:
        """Say why there is no answer to CONNECT, or not one of MQTT."""
        first = bytes(self._first)
        if first.startswith(b"\x15\x03"):
            return tls_wanted(self._broker)
        if first.startswith(b"HTTP/"):
            return ConnectionFailed(
                "an HTTP server answers, not an MQTT broker: use the port of MQTT, or ws:// for "
                "MQTT over WebSocket",
                kind="http",
            )
        if first[:1] == b"\x20" and len(first) >= 4 and first[3]:
            return _refused(first[3], "the client does not read this answer")
        if first and first[0] >> 4 != PacketTypes.CONNACK:
            return ConnectionFailed(
                f"this is no MQTT broker: it answers {first[:_FIRST_BYTES]!r}", kind="other server"
            )
        if isinstance(self._fault, ssl.SSLError) and "ALERT" in (self._fault.reason or ""):
            return _needs_certificate(self._fault)
        return ConnectionFailed(
            f"{text} instead of answering: is it an MQTT broker, and is {self._broker.scheme}:// "
            "right?",
            kind="silent",
            silent=closed and not first,
        )


def _connect_properties(largest: int) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = largest
    properties.ReceiveMaximum = _MOST_INBOUND
    return properties


def _paho_of(client: aiomqtt.Client) -> PahoClient:
    """Return paho's client inside, if both have what this file uses. Raises ``SinkError``."""
    inside = getattr(client, "_client", None)
    lacking = [f"aiomqtt.Client.{name}" for name in _USED_OF_AIOMQTT if not hasattr(client, name)]
    lacking += [f"paho's Client.{name}" for name in _USED_OF_PAHO if not hasattr(inside, name)]
    if lacking or not isinstance(inside, PahoClient):
        raise SinkError(
            f"publish to MQTT: this aiomqtt, over paho-mqtt {paho.mqtt.__version__}, has no "
            f"{', '.join(lacking) or 'client of paho inside'}; install the versions that "
            "netring_bpf is tested with: aiomqtt 2.5.1 and paho-mqtt 2.2.0"
        )
    return inside


def _close_what_fails(paho: PahoClient) -> None:
    """Have paho close the sockets of a connection that fails in a handshake."""
    create, connect, wrap = (
        paho._create_socket, paho._create_socket_connection, paho._ssl_wrap_socket
    )  # fmt: skip
    opened: list[socket.socket] = []

    def noting_connect() -> socket.socket:
        opened.append(connect())
        return opened[-1]

    def noting_wrap(tcp_sock: socket.socket) -> ssl.SSLSocket:
        wrapped = wrap(tcp_sock)
        opened.append(wrapped)
        return wrapped

    def closing_create() -> Any:
        try:
            return create()
        except BaseException:
            for each in opened:
                each.close()
            raise
        finally:
            opened.clear()

    paho._create_socket_connection = noting_connect  # type: ignore[method-assign]
    paho._ssl_wrap_socket = noting_wrap  # type: ignore[method-assign]
    paho._create_socket = closing_create  # type: ignore[method-assign]


def tls_wanted(broker: Broker) -> ConnectionFailed:
    """Return what is wrong where the port speaks TLS and the URL does not."""
    return ConnectionFailed(f"the port speaks TLS: use {broker.secure_scheme}://", kind="tls")


async def speaks_tls(broker: Broker) -> bool:
    """Whether the port begins TLS with a client that wants it."""
    return await asyncio.to_thread(_shakes_hands, broker)


def _shakes_hands(broker: Broker) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # a probe: it sends no data and trusts no answer
    context.sslsocket_class = TlsSocket
    try:
        with (
            socket.create_connection((broker.host, broker.port), _CONNECT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=broker.host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


class TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _refused(code: int, reason: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"the broker refuses the connection: {reason} (code {code})", kind=f"code {code}", code=code
    )


def _needs_certificate(error: ssl.SSLError) -> ConnectionFailed:
    return ConnectionFailed(
        f"the broker ends TLS: {_text(error)}; does it ask for a client certificate? certfile and "
        "keyfile (--mqtt-cert, --mqtt-key) name one",
        kind="certificate",
    )


def _text(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__
