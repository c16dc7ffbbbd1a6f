"""Whose topic it is: nodes, availability, client ids, and what the broker sends unasked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from netring_bpf import FlowBroadcast, FlowEnded, MqttOptions, MqttSink
from netring_bpf.errors import SinkError
from netring_bpf.sinks.mqtt_connection import Connection
from netring_bpf.sinks.mqtt_options import MqttVersion
from tests.broker.publishing import (
    AVAILABILITY,
    FAST,
    assert_balanced,
    connected,
    publish_through,
    records,
    settled,
    some_flows,
    warnings,
)
from tests.support.broker import Broker, MosquittoSub
from tests.support.events import ended
from tests.support.frames import udp
from tests.support.listener import CONNACK, Listener, relay
from tests.support.patience import until
from tests.support.replay import one_batch

pytestmark = pytest.mark.requires("broker")

PUBLISH, SUBSCRIBE = 3, 8  # the kinds of MQTT packets


@contextlib.asynccontextmanager
async def running(sink: MqttSink, interface: str | None = None) -> AsyncIterator[FlowBroadcast]:
    """The sink at work on a stream of its own; ended in good order."""
    broadcast = FlowBroadcast(interface=interface)
    task = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
    await connected(sink)
    try:
        yield broadcast
    finally:
        broadcast.close()
        await task
        assert_balanced(sink.statistics())


# -- the node --


def test_two_captures_of_a_host_have_topics_of_their_own_and_name_their_interface() -> None:
    async def run(broker: Broker) -> None:
        options = MqttOptions(flush_interval=0.01)
        left, right = MqttSink(broker.url, options), MqttSink(broker.url, options)
        async with running(left, "eth0") as first, running(right, "eth1/+") as second:
            first.publish([ended(1)])
            second.publish([ended(2)])
            second.publish(one_batch([udp("10.0.0.1", "10.0.0.2", 1, 53)]).of_kinds(FlowEnded))
            await settled(left, 1)
            await settled(right, 2)

    host = socket.gethostname()
    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: [x.text for x in m].count("offline") == 2)
    first = records(messages, f"netring/{host}_eth0/flows")
    second = records(messages, f"netring/{host}_%2B/flows")
    assert [r["interface"] for r in first] == ["eth0"]
    assert [r["interface"] for r in second] == ["eth1/+", "eth1/+"]
    assert [r["seq"] for r in second] == [1, 2]


def test_events_of_no_interface_are_published_under_the_host_alone() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(flush_interval=0.01))
        async with running(sink) as broadcast:
            broadcast.publish([ended(1)])
            await settled(sink, 1)

    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: [x.text for x in m].count("offline") == 1)
    [record] = records(messages, f"netring/{socket.gethostname()}/flows")
    assert "interface" not in record


def test_a_second_user_of_a_node_is_told_to_both_once_and_the_last_word_is_right(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Broker) -> None:
        first = MqttSink(broker.url, MqttOptions(**FAST))
        async with running(first):
            second = MqttSink(broker.url, MqttOptions(**FAST))
            async with running(second):
                await until(lambda: len(warnings(caplog)) == 2)
            await asyncio.to_thread(sub.wait_for, lambda m: "offline" in [x.text for x in m])
            # The second one has said so; the first one is still there.
            await asyncio.to_thread(sub.wait_for, lambda m: bool(m) and m[-1].text == "online")
            assert first.statistics().connected
            assert first.statistics().reconnects == 0

    with Broker() as broker, MosquittoSub(broker.port, AVAILABILITY) as sub:
        asyncio.run(run(broker))
        sub.wait_for(lambda m: bool(m) and m[-1].text == "offline")
    assert warnings(caplog) == 2 * [
        f"{broker.url}: another client writes {AVAILABILITY} too: two captures share this node; "
        "give each its own (node, --mqtt-node)"
    ]


def test_a_sink_listens_before_others_can_answer_it() -> None:
    kinds: list[int] = []

    def handler(connection: socket.socket) -> None:
        begin = connection.recv(65_536)
        with socket.create_connection(("127.0.0.1", broker.port)) as other:
            other.sendall(begin)
            peers = {connection: other, other: connection}
            while len(kinds) < 2:
                for source in select.select(list(peers), [], [])[0]:
                    data = source.recv(65_536)
                    if source is connection:
                        kinds.append(data[0] >> 4)
                    peers[source].sendall(data)

    with Broker() as broker, Listener(handler) as door:
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**FAST))

        async def script(_: FlowBroadcast) -> None:
            await until(lambda: len(kinds) == 2)

        publish_through(sink, script)
    assert kinds == [SUBSCRIBE, PUBLISH]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_user_of_a_node_is_never_taken_for_two(
    version: MqttVersion, caplog: pytest.LogCaptureFixture
) -> None:
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST, version=version))

        async def script(broadcast: FlowBroadcast) -> None:
            for number in range(1, 6):
                await until(lambda: sink.statistics().connected)
                broadcast.publish([ended(number)])
                await settled(sink, number)
                broker.kill()
                await until(lambda: not sink.statistics().connected)
                await asyncio.to_thread(broker.start)
            await connected(sink)

        assert publish_through(sink, script).reconnects == 5
    assert not [warning for warning in warnings(caplog) if "share this node" in warning]


def test_the_late_will_of_an_earlier_connection_does_not_stand() -> None:
    frozen: list[socket.socket] = []

    def handler(connection: socket.socket) -> None:
        if not frozen:
            # The broker does not hear that this connection is gone until the test ends it.
            frozen.append(connection)
            with contextlib.suppress(OSError):
                relay_until_silence(connection, broker.port)
        else:
            relay(connection, broker.port)

    late = asyncio.Event()

    def relay_until_silence(connection: socket.socket, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as other:
            peers = {connection: other, other: connection}
            while ready := select.select(list(peers), [], [], 0.5)[0]:
                for source in ready:
                    peers[source].sendall(source.recv(65_536))
            connection.close()
            while not late.is_set():
                socket.socket().close()  # a little work instead of a spin
            # The end without a DISCONNECT: the broker publishes the will.

    with (
        Broker() as broker,
        Listener(handler) as door,
        MosquittoSub(broker.port, AVAILABILITY) as sub,
    ):
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**FAST))

        async def script(_: FlowBroadcast) -> None:
            await until(lambda: sink.statistics().reconnects == 1 and sink.statistics().connected)
            late.set()
            await asyncio.to_thread(sub.wait_for, lambda m: [x.text for x in m][2:3] == ["offline"])
            await asyncio.to_thread(sub.wait_for, lambda m: [x.text for x in m][3:4] == ["online"])

        publish_through(sink, script)
        sub.wait_for(
            lambda m: [x.text for x in m] == ["online", "online", "offline", "online", "offline"]
        )


def test_a_sink_that_is_cut_short_leaves_the_availability_offline() -> None:
    with Broker() as broker, MosquittoSub(broker.port, AVAILABILITY) as sub:

        async def run() -> None:
            sink = MqttSink(broker.url, MqttOptions(**FAST))
            task = asyncio.create_task(sink.run(FlowBroadcast().subscribe()))
            await connected(sink)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(run())
        sub.wait_for(lambda m: [x.text for x in m] == ["online", "offline"])


def test_a_client_id_that_another_client_takes_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(broker: Broker) -> None:
        first = MqttSink(broker.url, MqttOptions(node="a", client_id="probe"))
        async with running(first):
            second = MqttSink(broker.url, MqttOptions(node="b", client_id="probe"))
            async with running(second):
                await until(lambda: warnings(caplog) != [])

    with Broker() as broker:
        asyncio.run(run(broker))
        assert "as probe" in broker.log
    # Closed or reset: that depends on what the broker had yet to read.
    assert warnings(caplog)[0].endswith(
        "; perhaps another client uses the client id 'probe': give each capture its own "
        "(client_id, --mqtt-client-id); trying again, flows wait in the outbox"
    )


def test_a_broker_that_says_that_the_session_was_taken_over_is_quoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(connection: socket.socket) -> None:
        answer(connection)
        connection.sendall(bytes([0xE0, 2, 0x8E, 0]))
        connection.recv(65_536)

    with Listener(handler) as door:
        options = MqttOptions(**FAST, client_id="probe", drain_timeout=0.0)
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", options)
        publish_through(sink, lambda _: until(lambda: len(door.accepted) >= 5))
    assert warnings(caplog) == [
        f"{sink.name}: the broker ended the connection: Session taken over (code 142); another "
        "client uses the client id 'probe': give each capture its own (client_id, "
        "--mqtt-client-id); trying again, flows wait in the outbox"
    ]


# -- what comes in --


def publish_packet(topic: bytes, payload: bytes, qos: int = 0, mid: int = 1) -> bytes:
    body = struct.pack("!H", len(topic)) + topic
    body += (struct.pack("!H", mid) if qos else b"") + b"\0" + payload
    length, size = bytearray(), len(body)
    while True:
        length.append(size % 128 | (128 if size >= 128 else 0))
        size //= 128
        if not size:
            return bytes([0x30 | qos << 1]) + bytes(length) + body


def answer(connection: socket.socket) -> bool:
    """Take one packet of a client's as a broker does; return whether there was one."""
    data = connection.recv(65_536)
    if data[:1] == b"\x10":
        connection.sendall(CONNACK)
    elif data and data[0] >> 4 == 3:
        length = struct.unpack_from("!H", data, 3 if data[1] & 128 else 2)[0]
        at = (5 if data[1] & 128 else 4) + length
        connection.sendall(bytes([0x40, 2]) + data[at : at + 2])
    elif data and data[0] >> 4 == 8:
        connection.sendall(bytes([0x90, 4]) + data[2:4] + bytes([0, 0]))
    return bool(data)


def test_messages_that_nobody_asked_for_are_counted_and_take_no_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(connection: socket.socket) -> None:
        for _ in range(3):
            answer(connection)
        for number in range(1, 2001):
            qos = number % 2
            connection.sendall(publish_packet(b"other", bytes(16_000), qos, number))
        while answer(connection):
            pass

    with Listener(handler) as door:
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**FAST))

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            before = resident()
            await until(lambda: sink.statistics().unasked == 2000)
            assert resident() - before < 8 << 20
            assert sink.statistics().connected

        books = publish_through(sink, script)
    assert (books.unasked, books.reconnects) == (2000, 0)
    assert len([w for w in warnings(caplog) if "without being asked" in w]) == 1


@pytest.mark.parametrize("hostile", ["one message of 200 MB", "unreleased messages"])
def test_a_broker_that_floods_the_client_is_left(
    hostile: str, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(connection: socket.socket) -> None:
        for _ in range(3):
            answer(connection)
        if hostile == "one message of 200 MB":
            connection.sendall(b"\x30\x80\xc8\xaf\x5f\0\1a\0")
            for _ in range(200):
                connection.sendall(bytes(1 << 20))
        for number in range(1, 20_000):
            connection.sendall(publish_packet(b"other", bytes(16_000), 2, number))

    with Listener(handler) as door:
        sink = MqttSink(f"mqtt://127.0.0.1:{door.port}", MqttOptions(**FAST, drain_timeout=0.0))

        async def script(broadcast: FlowBroadcast) -> None:
            await until(lambda: door.accepted)  # it may be over before anybody saw it connected
            before = resident()
            await until(lambda: len(door.accepted) >= 3)
            assert resident() - before < 64 << 20

        publish_through(sink, script)
    told = [w for w in warnings(caplog) if "the broker sends more than was asked for" in w]
    assert len(told) == 1


def resident() -> int:
    """The bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- the end of a sink --


def test_a_client_that_lacks_what_the_sink_uses_ends_it_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("paho.mqtt.client.Client._sock_recv")
    sink = MqttSink("mqtt://127.0.0.1:1", MqttOptions(**FAST))
    with pytest.raises(SinkError, match=r"has no paho's Client\._sock_recv; install the versions"):
        publish_through(sink, some_flows_unsent)


async def some_flows_unsent(broadcast: FlowBroadcast) -> None:
    broadcast.publish([ended(1)])
    await asyncio.sleep(0)


def test_an_unexpected_failure_ends_the_sink_by_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by the test")

    monkeypatch.setattr(Connection, "publish", fail)
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        with pytest.raises(SinkError, match="ZeroDivisionError: by the test; the sink has ended"):
            publish_through(sink, some_flows_unsent)
    assert_balanced(sink.statistics())


def test_a_sink_is_used_once() -> None:
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        publish_through(sink, some_flows(sink, 1))
        with pytest.raises(SinkError, match="used before; make a new one"):
            publish_through(sink, some_flows_unsent)
