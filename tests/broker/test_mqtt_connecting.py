"""Whom the sink reaches, in which version, and how it says that it does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netring_bpf import FlowBroadcast, MqttOptions, MqttSink
from netring_bpf.errors import SinkError
from tests.broker.publishing import (
    FAST,
    connected,
    distinct,
    publish_through,
    settled,
    some_flows,
    warnings,
)
from tests.support.broker import Broker, MosquittoSub
from tests.support.certificates import Certificates
from tests.support.events import ended
from tests.support.listener import (
    CONNACK,
    Listener,
    close_without_answer,
    protocol_level,
    relay,
)
from tests.support.patience import until

pytestmark = pytest.mark.requires("broker")

SILENT = {**FAST, "drain_timeout": 0.1}


def complaint(url: str, caplog: pytest.LogCaptureFixture, **options: object) -> str:
    """The one warning of a sink that does not get through to ``url``."""
    sink = MqttSink(url, MqttOptions(**SILENT, **options))

    async def script(broadcast: FlowBroadcast) -> None:
        broadcast.publish([ended(n) for n in range(5)])
        await until(lambda: warnings(caplog) != [])
        await asyncio.sleep(0.5)  # some more attempts, which nobody hears of

    books = publish_through(sink, script)
    assert (books.accepted, books.acknowledged, books.pending) == (5, 0, 5)
    first, *others = warnings(caplog)
    assert others == [f"{sink.name}: closed with 5 flows not sent"]
    return first.removeprefix(f"{sink.name}: ")


# -- the version --


def test_a_broker_that_closes_the_connection_at_mqtt_5_gets_3_1_1() -> None:
    levels: list[int] = []

    def handler(connection: socket.socket) -> None:
        connect = connection.recv(4096)
        levels.append(protocol_level(connect))
        if levels[-1] == 4:
            relay(connection, broker.port, connect)

    with (
        Broker() as broker,
        Listener(handler) as door,
        MosquittoSub(broker.port, "netring/#") as sub,
    ):
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**FAST))
        begin = time.monotonic()
        books = publish_through(sink, some_flows(sink, 300))
        assert time.monotonic() - begin < 4.0  # no waiting for an answer that does not come
        sub.wait_for(lambda m: len(distinct(m)) == 300)
    assert levels == [5, 4]
    assert (books.acknowledged, books.reconnects) == (300, 0)


@pytest.mark.parametrize(("version", "level"), [("5", 5), ("3.1.1", 4)])
def test_a_forced_version_is_the_only_one_tried(
    version: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    levels: set[int] = set()

    def handler(connection: socket.socket) -> None:
        levels.add(protocol_level(connection.recv(4096)))

    with Listener(handler) as door:
        complaint(f"mqtt://127.0.0.1:{door.port}", caplog, version=version)
    assert levels - {0} == {level}  # 0: the look whether the port speaks TLS


def test_a_forced_3_1_1_is_spoken_with_a_broker_that_knows_5() -> None:
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST, version="3.1.1"))
        books = publish_through(sink, some_flows(sink, 10))
        assert books.acknowledged == 10
        assert "(p2," in broker.log  # mosquitto's name of 3.1.1


# -- servers that are no broker --


def test_a_server_that_closes_each_connection_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Listener(close_without_answer) as door:
        text = complaint(f"mqtt://127.0.0.1:{door.port}", caplog)
    assert text == (
        "it closed the connection instead of answering: is it an MQTT broker, and is mqtt:// "
        "right?; trying again, flows wait in the outbox"
    )


@pytest.mark.parametrize("closing", [True, False])
def test_an_http_server_is_named(closing: bool, caplog: pytest.LogCaptureFixture) -> None:
    def handler(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        if not closing:
            connection.recv(4096)

    with Listener(handler) as door:
        text = complaint(f"mqtt://127.0.0.1:{door.port}", caplog)
    assert text.startswith("an HTTP server answers, not an MQTT broker: use the port of MQTT, or")


def test_another_server_is_shown_without_its_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(connection: socket.socket) -> None:
        connection.sendall(b"\x1b[2JSSH-2.0-sshd\r\n")
        connection.recv(4096)

    with Listener(handler) as door:
        text = complaint(f"mqtt://127.0.0.1:{door.port}", caplog)
    assert text.startswith(r"this is no MQTT broker: it answers b'\x1b[2J")
    assert text.isprintable()


def test_a_silent_server_is_told_and_leaves_no_descriptor(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netring_bpf.sinks.mqtt_connection._CONNECT_TIMEOUT", 0.2)

    def handler(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with Listener(handler) as door:
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**SILENT))

        async def script(broadcast: FlowBroadcast) -> None:
            await until(lambda: len(door.accepted) >= 2)
            before = len(os.listdir("/proc/self/fd"))
            await until(lambda: len(door.accepted) >= 12)
            # One may be under way, with its end in this process too.
            assert len(os.listdir("/proc/self/fd")) <= before + 2

        publish_through(sink, script)
    [warning] = warnings(caplog)
    assert "it lets 0 s pass instead of answering" in warning


def test_nobody_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with Broker() as broker:
        url = broker.url
    assert complaint(url, caplog).startswith("cannot connect: Connection refused; trying again")


def test_a_plain_client_at_a_tls_port_is_told(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(certfile=certificates.server, keyfile=certificates.server_key) as broker:
        text = complaint(f"mqtt://127.0.0.1:{broker.port}", caplog)
    assert text.startswith("the port speaks TLS: use mqtts://")


def test_a_tls_client_at_a_plain_port_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with Broker() as broker:
        text = complaint(f"mqtts://127.0.0.1:{broker.port}", caplog)
    assert re.match(r"the (port does not speak TLS|TLS handshake ended early .*): ?", text)
    assert "mqtt://" in text


# -- TLS --


def test_a_certificate_of_an_unknown_authority_is_told(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(certfile=certificates.server, keyfile=certificates.server_key) as broker:
        text = complaint(broker.url, caplog)
    assert text.startswith("the broker's certificate is not accepted: ")
    assert "cafile (--mqtt-cafile)" in text


def test_a_certificate_of_another_host_is_told(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker(certfile=certificates.elsewhere, keyfile=certificates.server_key) as broker:
        text = complaint(broker.url, caplog, cafile=certificates.authority)
    assert "IP address mismatch" in text


def asking(certificates: Certificates) -> Broker:
    """A broker that asks its clients for a certificate."""
    return Broker(
        certfile=certificates.server,
        keyfile=certificates.server_key,
        config=[f"cafile {certificates.authority}", "require_certificate true"],
    )


def test_a_client_s_certificate_opens_a_broker_that_asks_for_it(
    certificates: Certificates,
) -> None:
    with asking(certificates) as broker:
        options = MqttOptions(
            **FAST,
            cafile=certificates.authority,
            certfile=certificates.client,
            keyfile=certificates.client_key,
        )
        sink = MqttSink(broker.url, options)
        books = publish_through(sink, some_flows(sink, 10))
    assert (books.acknowledged, books.pending) == (10, 0)


def test_a_missing_client_s_certificate_is_told(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with asking(certificates) as broker:
        text = complaint(broker.url, caplog, cafile=certificates.authority)
    assert "certificate" in text
    assert "(--mqtt-cert, --mqtt-key)" in text


# -- WebSocket --


def websocket_listener(*settings: str) -> tuple[int, list[str]]:
    """A free port, and the configuration of a listener there beside the first one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return port, [f"listener {port}", "protocol websockets", *settings]


def test_flows_go_over_a_websocket() -> None:
    port, config = websocket_listener()
    with Broker(config=config) as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(f"ws://127.0.0.1:{port}", MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 1000))
        sub.wait_for(lambda m: len(distinct(m)) == 1000)
    assert sink.name == f"ws://127.0.0.1:{port}/mqtt"
    assert (books.acknowledged, books.reconnects) == (1000, 0)


def test_flows_go_over_a_websocket_with_tls(certificates: Certificates) -> None:
    port, config = websocket_listener(
        f"certfile {certificates.server}", f"keyfile {certificates.server_key}"
    )
    with Broker(config=config) as broker, MosquittoSub(broker.port, "netring/#") as sub:
        options = MqttOptions(**FAST, cafile=certificates.authority)
        sink = MqttSink(f"wss://127.0.0.1:{port}/any/path", options)
        books = publish_through(sink, some_flows(sink, 1000))
        sub.wait_for(lambda m: len(distinct(m)) == 1000)
    assert (books.acknowledged, books.reconnects) == (1000, 0)


def test_a_web_server_without_mqtt_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def handler(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")

    with Listener(handler) as door:
        text = complaint(f"ws://127.0.0.1:{door.port}/here", caplog)
    assert "is there MQTT over WebSocket at /here, and is ws:// right?" in text


# -- connections that do not last --


def answer_and_close(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(CONNACK)
    connection.shutdown(socket.SHUT_WR)  # a close with bytes unread would be a reset
    while connection.recv(4096):
        pass


def test_pauses_grow_where_each_connection_succeeds_and_breaks_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Listener(answer_and_close) as door:
        options = MqttOptions(node="box", drain_timeout=0.0)
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", options)
        publish_through(sink, lambda _: until(lambda: len(door.accepted) == 5))
    pauses = [b - a for a, b in zip(door.accepted, door.accepted[1:], strict=False)]
    for pause, ceiling in zip(pauses, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert ceiling / 2 <= pause
    [warning] = warnings(caplog)
    assert "the broker closed the connection" in warning


def test_the_first_pause_is_short_again_after_a_connection_that_lasted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("netring_bpf.sinks.mqtt._STEADY", 0.3)
    lasting = False

    def handler(connection: socket.socket) -> None:
        if not lasting:
            answer_and_close(connection)
            return
        relay(connection, broker.port)

    with Broker() as broker, Listener(handler) as door:
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(node="box"))

        async def script(_: FlowBroadcast) -> None:
            nonlocal lasting
            await until(lambda: len(door.accepted) == 3)
            lasting = True
            await connected(sink)
            await asyncio.sleep(0.6)
            count, broken = len(door.accepted), time.monotonic()
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            await until(lambda: len(door.accepted) > count)
            assert door.accepted[count] - broken < 2.0  # the next pause was to be 2 to 4 seconds
            await connected(sink)

        publish_through(sink, script)
    assert len(warnings(caplog)) == 2  # one for each trouble


def test_a_broker_that_closes_the_connection_at_our_topic_is_told_with_the_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(CONNACK)
        while data := connection.recv(65_536):
            if b"/flows" in data[:60]:
                return
            if data[0] >> 4 == 3:
                length = struct.unpack_from("!H", data, 2)[0]
                connection.sendall(bytes([0x40, 2]) + data[4 + length : 6 + length])

    with Listener(handler) as door:
        text = complaint(f"mqtt://127.0.0.1:{door.port}", caplog)
    assert "; a message of " in text
    assert "bytes on netring/box/flows was not acknowledged" in text


async def until_more(counter: Callable[[], int], more: int) -> None:
    goal = counter() + more
    await until(lambda: counter() >= goal)


def test_no_callback_fails_and_no_descriptor_stays_when_the_broker_dies_under_load() -> None:
    complaints: list[str] = []
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST, outbox=1_000_000))

        async def script(broadcast: FlowBroadcast) -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: complaints.append(repr(context))
            )
            number = 0

            async def offer() -> None:
                nonlocal number
                while True:
                    broadcast.publish([ended(n) for n in range(number, number + 50)])
                    number += 50
                    await asyncio.sleep(0.002)

            await connected(sink)
            before = len(os.listdir("/proc/self/fd"))
            offering = asyncio.create_task(offer())
            for _ in range(12):
                await until_more(lambda: sink.statistics().acknowledged, 500)
                goal = sink.statistics().reconnects + 1
                broker.kill()
                broker.start()
                await until(lambda goal=goal: sink.statistics().reconnects >= goal)
            offering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await offering
            await settled(sink, number)
            assert len(os.listdir("/proc/self/fd")) == before

        books = publish_through(sink, script)
    assert complaints == []
    assert (books.accepted, books.dropped) == (books.acknowledged, {})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_files_of_certificates_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing\n")
    for name in ("cafile", "certfile"):
        with pytest.raises(SinkError, match=r"none\.pem"):
            MqttSink("mqtts://127.0.0.1", MqttOptions(**{name: tmp_path / "none.pem"}))
        with pytest.raises(SinkError, match=f"{name} is for TLS, .* use mqtts://"):
            MqttSink("mqtt://127.0.0.1", MqttOptions(**{name: tmp_path / "none.pem"}))
