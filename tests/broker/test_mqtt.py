"""The MQTT sink against a real broker and a real subscriber, in fair weather and foul."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import FlowBroadcast, FlowEnded, LinkDown, MqttOptions, MqttSink, SinkStatistics
from netring_bpf.formats.json import encode_event
from tests.broker.publishing import (
    AVAILABILITY,
    FAST,
    FLOWS,
    assert_balanced,
    connected,
    distinct,
    publish_through,
    records,
)
from tests.support.broker import Broker, MosquittoSub
from tests.support.events import ended, started
from tests.support.frames import udp
from tests.support.patience import until
from tests.support.process import spawn
from tests.support.replay import one_batch

pytestmark = pytest.mark.requires("broker")


def test_every_acknowledged_flow_is_received_and_no_other_event() -> None:
    async def script(broadcast: FlowBroadcast) -> None:
        for start in range(0, 1000, 50):
            broadcast.publish([started(n) for n in range(start, start + 50)])
            broadcast.publish([ended(n) for n in range(start, start + 50)])
            await asyncio.sleep(0)

    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        books = publish_through(MqttSink(broker.url, MqttOptions(**FAST)), script)
        messages = sub.wait_for(lambda m: len(distinct(m)) == 1000)
    assert (books.accepted, books.acknowledged, books.dropped) == (1000, 1000, {})
    got = records(messages)
    assert [r["seq"] for r in got] == list(range(1, 1001))
    assert [r["id"] for r in got] == list(range(1000))
    assert {r["event"] for r in got} == {"ended"}
    assert len({r["capture"] for r in got}) == 1
    assert max(len(json.loads(m.text)) for m in messages if m.topic == FLOWS) == 100
    assert got[7] == ended(7).to_dict() | {
        "capture": got[0]["capture"], "seq": 8,
    }  # fmt: skip


def test_batches_off_a_capture_and_single_events_are_numbered_in_one_row() -> None:
    batch = one_batch(udp("10.0.0.1", "10.0.0.2", 1000 + n, 53) for n in range(300))

    async def script(broadcast: FlowBroadcast) -> None:
        broadcast.publish([ended(1), LinkDown(5, "eth0"), ended(2)])
        broadcast.publish(batch)
        broadcast.publish([ended(3)])

    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        books = publish_through(sink, script)
        messages = sub.wait_for(lambda m: len(distinct(m)) == 303)
    assert (books.accepted, books.acknowledged, books.dropped) == (303, 303, {})
    ends = [ended(1), ended(2), *batch.of_kinds(FlowEnded), ended(3)]
    capture = str(records(messages)[0]["capture"])
    assert records(messages) == [
        json.loads(encode_event(event, capture=capture, seq=number))
        for number, event in enumerate(ends, 1)
    ]


def test_availability_is_retained_and_goes_offline_at_a_graceful_end() -> None:
    with Broker() as broker:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        publish_through(sink, lambda _: connected(sink))
        with MosquittoSub(broker.port, AVAILABILITY) as late:
            messages = late.wait_for(lambda m: len(m) == 1)
    assert [(m.text, m.retain) for m in messages] == [("offline", True)]


def test_availability_goes_offline_by_last_will_when_the_process_is_killed() -> None:
    code = (
        "import asyncio, sys\n"
        "from netring_bpf import FlowBroadcast, MqttOptions, MqttSink\n"
        "sink = MqttSink(sys.argv[1], MqttOptions(node='box'))\n"
        "asyncio.run(sink.run(FlowBroadcast().subscribe()))\n"
    )
    with Broker() as broker, MosquittoSub(broker.port, AVAILABILITY) as sub:
        with spawn([sys.executable, "-c", code, broker.url]) as process:
            sub.wait_for(lambda m: [x.text for x in m] == ["online"])
            process.send_signal(signal.SIGKILL)
        sub.wait_for(lambda m: [x.text for x in m] == ["online", "offline"])


def test_a_killed_broker_loses_no_flow() -> None:
    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        balanced: list[SinkStatistics] = []

        async def script(broadcast: FlowBroadcast) -> None:
            number = 0

            async def offer(count: int) -> None:
                nonlocal number
                for _ in range(count):
                    broadcast.publish([ended(number)])
                    number += 1
                    if number % 20 == 0:
                        await asyncio.sleep(0)
                        balanced.append(sink.statistics())

            await connected(sink)
            await offer(500)
            await until(lambda: sink.statistics().acknowledged >= 100)
            broker.kill()
            await offer(500)
            await until(lambda: not sink.statistics().connected)
            await offer(500)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(sub.wait_subscribed, 2)
            await offer(500)
            await until(lambda: sink.statistics().acknowledged == 2000)

        books = publish_through(sink, script)
        # The broker forgot in the crash some of what it had acknowledged.
        messages = sub.wait_for(lambda m: 2000 in distinct(m))
    for moment in balanced:
        assert_balanced(moment)
    assert (books.accepted, books.acknowledged, books.pending) == (2000, 2000, 0)
    assert books.reconnects == 1
    assert distinct(messages) <= set(range(1, 2001))


def test_an_absent_broker_costs_a_bounded_outbox_and_nothing_else() -> None:
    with Broker() as broker:
        url = broker.url
    sink = MqttSink(url, MqttOptions(**FAST, outbox=300, drain_timeout=0.05))

    async def script(broadcast: FlowBroadcast) -> None:
        for number in range(1000):
            broadcast.publish([ended(number)])
        await until(lambda: sink.statistics().accepted == 1000)

    books = publish_through(sink, script)
    assert books == SinkStatistics(
        sink.name, 1000, 0, {"overflow": 700}, 300, reconnects=0, connected=False
    )


def test_a_frozen_broker_is_noticed_and_the_flows_arrive_when_it_thaws() -> None:
    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        sink = MqttSink(broker.url, MqttOptions(**FAST, keepalive=1))

        async def script(broadcast: FlowBroadcast) -> None:
            await connected(sink)
            broker.pause()
            broadcast.publish([ended(n) for n in range(250)])
            await until(lambda: not sink.statistics().connected)
            books = sink.statistics()
            assert (books.acknowledged, books.pending) == (0, 250)
            broker.resume()
            await until(lambda: sink.statistics().acknowledged == 250)

        publish_through(sink, script)
        sub.wait_for(lambda m: distinct(m) == set(range(1, 251)))


async def refuse_mqtt_5(port: int) -> tuple[asyncio.Server, int]:
    """A broker that speaks 3.1.1 only: mosquitto behind a door that turns MQTT 5 away."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(4096)
        if head[head.index(b"MQTT") + 4] == 5:
            writer.write(b"\x20\x02\x00\x01")  # CONNACK: unacceptable protocol version
            await writer.drain()
            writer.close()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        inner_writer.write(head)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1() -> None:
    async def run(broker: Broker) -> SinkStatistics:
        server, port = await refuse_mqtt_5(broker.port)
        async with server:
            sink = MqttSink(f"mqtt://127.0.0.1:{port}", MqttOptions(**FAST))
            broadcast = FlowBroadcast()
            running = asyncio.create_task(sink.run(broadcast.subscribe()))
            broadcast.publish([ended(1), ended(2)])
            broadcast.close()
            await running
            return sink.statistics()

    with Broker() as broker, MosquittoSub(broker.port, "netring/#") as sub:
        books = asyncio.run(run(broker))
        sub.wait_for(lambda m: distinct(m) == {1, 2})
        assert "as box" not in broker.log
    assert (books.acknowledged, books.reconnects) == (2, 0)


SECRET = "canary-7f3a"


def credentials(tmp_path: Path, password: str) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text(f"alice\n{password}\n")
    return path


def test_credentials_from_a_file(tmp_path: Path) -> None:
    async def script(broadcast: FlowBroadcast) -> None:
        broadcast.publish([ended(1)])

    options = MqttOptions(**FAST, credentials_file=credentials(tmp_path, SECRET))
    with Broker(users={"alice": SECRET}) as broker:
        books = publish_through(MqttSink(broker.url, options), script)
    assert books.acknowledged == 1


def test_a_wrong_password_is_said_once_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = MqttOptions(**FAST, credentials_file=credentials(tmp_path, SECRET), drain_timeout=0.5)
    with Broker(users={"alice": "another"}) as broker:
        sink = MqttSink(broker.url, options)

        async def script(broadcast: FlowBroadcast) -> None:
            broadcast.publish([ended(1)])
            await until(lambda: "check the user name and the password" in caplog.text)

        books = publish_through(sink, script)
    assert (books.acknowledged, books.pending) == (0, 1)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([w for w in warnings if "check the user name and the password" in w]) == 1
    assert SECRET not in caplog.text + repr(sink) + repr(options) + repr(vars(sink))


def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key,
         "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_an_unknown_certificate_is_refused_and_a_trusted_one_accepted(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)

    async def script(broadcast: FlowBroadcast) -> None:
        broadcast.publish([ended(1)])

    with Broker(certfile=cert, keyfile=key) as broker:
        assert broker.url.startswith("mqtts://")
        refused = publish_through(
            MqttSink(broker.url, MqttOptions(**FAST, drain_timeout=0.5)), script
        )
        accepted = publish_through(MqttSink(broker.url, MqttOptions(**FAST, cafile=cert)), script)
    assert (refused.acknowledged, refused.pending) == (0, 1)
    assert (accepted.acknowledged, accepted.pending) == (1, 0)
