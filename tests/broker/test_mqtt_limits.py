"""What the broker refuses and what it limits: counted by reason, told once, and kept to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netring_bpf import FlowBroadcast, MqttOptions, MqttSink
from netring_bpf.sinks.mqtt_connection import Connection, Limits, Login, Will
from netring_bpf.sinks.mqtt_options import Broker as Address
from tests.broker.publishing import (
    AVAILABILITY,
    FAST,
    FLOWS,
    connected,
    distinct,
    publish_through,
    records,
    settled,
    some_flows,
    warnings,
)
from tests.support.broker import Broker, MosquittoSub
from tests.support.events import ended

pytestmark = pytest.mark.requires("broker")


def acl(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "acl"
    path.write_text("\n".join([*lines, ""]))
    return f"acl_file {path}"


def test_flows_on_a_topic_that_is_denied_are_dropped_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = acl(tmp_path, "topic read #", "topic write netring/+/availability")
    with Broker(config=[rules]) as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        messages = sub.wait_for(lambda m: [x.text for x in m] == ["online", "offline"])
    assert (books.accepted, books.acknowledged, books.pending) == (300, 0, 0)
    assert books.dropped == {"refused": 300}
    assert books.reconnects == 0
    assert {message.topic for message in messages} == {AVAILABILITY}
    [warning] = warnings(caplog)
    assert warning == (
        f"{broker.url}: the broker refuses messages on {FLOWS}: Not authorized (code 135); these "
        "flows are dropped and counted as refused; let this client publish there"
    )


def test_a_denied_availability_does_not_stop_the_flows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = acl(tmp_path, "topic read #", "topic write netring/+/flows")
    with Broker(config=[rules]) as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        sub.wait_for(lambda m: len(distinct(m)) == 300)
    assert (books.acknowledged, books.dropped) == (300, {})
    [warning] = warnings(caplog)
    assert f"refuses messages on {AVAILABILITY}: Not authorized (code 135)" in warning


def test_flows_that_may_be_published_again_are_no_longer_dropped(tmp_path: Path) -> None:
    rules = acl(tmp_path, "topic read #", "topic write netring/+/availability")
    with Broker(config=[rules]) as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST))

        async def script(broadcast: FlowBroadcast) -> None:
            broadcast.publish([ended(n) for n in range(100)])
            await settled(sink, 100)
            acl(tmp_path, "topic readwrite #")
            broker.reload()
            while sink.statistics().acknowledged == 0:
                count = sink.statistics().accepted + 1
                broadcast.publish([ended(count)])
                await settled(sink, count)

        books = publish_through(sink, script)
        sub.wait_for(lambda m: len(distinct(m)) == 1)
    assert books.acknowledged == 1
    assert books.dropped == {"refused": books.accepted - 1}


def test_messages_shrink_to_the_broker_s_packet_size() -> None:
    with (
        Broker(config=["max_packet_size 4000"]) as broker,
        MosquittoSub(broker.port, "netring/#") as sub,
    ):
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        messages = sub.wait_for(lambda m: len(distinct(m)) == 300)
    assert (books.acknowledged, books.dropped, books.reconnects) == (300, {}, 0)
    sizes = [len(m.payload) for m in messages if m.topic == FLOWS]
    assert max(sizes) <= 4000
    assert len(sizes) < 300 / 4  # several flows a message all the same


def test_a_record_longer_than_a_packet_is_dropped_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Broker(config=["max_packet_size 300"]) as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
    assert (books.accepted, books.acknowledged, books.pending) == (300, 0, 0)
    assert books.dropped == {"too_large": 300}
    assert books.reconnects == 0
    assert warnings(caplog) == [
        f"{broker.url}: the broker takes packets up to 300 bytes: flows whose record is longer are "
        "dropped and counted as too_large"
    ]


def test_messages_shrink_where_the_broker_closes_the_connection_at_a_large_one() -> None:
    # mosquitto does not tell this limit; it closes the connection.
    with (
        Broker(config=["message_size_limit 4000"]) as broker,
        MosquittoSub(broker.port, "netring/#") as sub,
    ):
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        sub.wait_for(lambda m: len(distinct(m)) == 300)
    assert (books.acknowledged, books.dropped) == (300, {})


def test_a_flow_at_which_the_broker_closes_each_connection_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Broker(config=["message_size_limit 300"]) as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 3))
    assert (books.acknowledged, books.dropped, books.pending) == (0, {"refused": 3}, 0)
    assert len(warnings(caplog)) == 2  # that connections break, and that flows are dropped


def test_a_broker_without_qos_1_gets_qos_0(caplog: pytest.LogCaptureFixture) -> None:
    with (
        Broker(config=["max_qos 0"]) as broker,
        MosquittoSub(broker.port, "netring/#", qos=0) as sub,
    ):
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        messages = sub.wait_for(
            lambda m: bool(m) and m[-1].text == "offline" and len(distinct(m)) == 300
        )
    assert (books.acknowledged, books.dropped, books.reconnects) == (300, {}, 0)
    assert {message.qos for message in messages} == {0}
    assert warnings(caplog) == [
        f"{broker.url}: the broker takes QoS 0 only: a flow counts as acknowledged when it is "
        "handed to the connection"
    ]


def test_a_broker_that_retains_nothing_gets_nothing_to_retain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        Broker(config=["retain_available false"]) as broker,
        MosquittoSub(broker.port, "netring/#") as sub,
    ):
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, some_flows(sink, 300))
        messages = sub.wait_for(
            lambda m: bool(m) and m[-1].text == "offline" and len(distinct(m)) == 300
        )
    assert (books.acknowledged, books.dropped, books.reconnects) == (300, {}, 0)
    assert [m.text for m in messages if m.topic == AVAILABILITY] == ["online", "offline"]
    assert len(records(messages)) == 300
    assert warnings(caplog) == [
        f"{broker.url}: the broker retains no messages: only those who already listen learn the "
        "availability"
    ]


def limits_of(broker: Broker) -> tuple[Limits, int]:
    """What a connection knows of the broker, and the keep-alive that it uses."""

    async def run() -> tuple[Limits, int]:
        login = Login("5", None, None, None, keepalive=60)
        connection = Connection(
            Address.parse(broker.url),
            login,
            will=Will("gone", b"", 0, retain=False),
            tls=None,
            on_message=lambda *_: None,
        )
        async with connection:
            return connection.limits, connection._paho.keepalive

    return asyncio.run(run())


def test_the_limits_of_the_broker_are_read() -> None:
    config = ["max_packet_size 5000", "max_qos 1", "max_keepalive 10", "max_inflight_messages 7"]
    with Broker(config=[*config, "retain_available false"]) as broker:
        assert limits_of(broker) == (
            Limits(packet_size=5000, qos=1, retain=False, receive_maximum=7, keepalive=10),
            10,
        )


def test_a_broker_without_limits_leaves_the_client_its_own() -> None:
    with Broker(config=["max_inflight_messages 0"]) as broker:
        limits, keepalive = limits_of(broker)
    assert (limits.qos, limits.retain, limits.receive_maximum) == (2, True, 65_535)
    assert (limits.packet_size, limits.keepalive, keepalive) == (Limits().packet_size, None, 60)


def test_one_message_at_a_time_is_under_way_where_the_broker_takes_no_more() -> None:
    with (
        Broker(config=["max_inflight_messages 1"]) as broker,
        MosquittoSub(broker.port, "netring/#") as sub,
    ):
        sink = MqttSink(broker.url, MqttOptions(**FAST))

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            for start in range(0, 1000, 100):
                broadcast.publish([ended(n) for n in range(start, start + 100)])
                await asyncio.sleep(0)
            await settled(sink, 1000)

        books = publish_through(sink, script)
        sub.wait_for(lambda m: len(distinct(m)) == 1000)
    assert (books.acknowledged, books.reconnects) == (1000, 0)
