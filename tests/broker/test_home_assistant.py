"""Discovery on a real broker: one message, sent again when Home Assistant starts."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    DeviceGone,
    DeviceSeen,
    FlowBroadcast,
    HomeAssistantOptions,
    MqttOptions,
    MqttSink,
)
from tests.broker.publishing import AVAILABILITY, FAST, warnings
from tests.broker.test_mqtt_topics import BOX, NO_PAUSE, capturing, retained, told
from tests.support.aggregates import START, device, stats
from tests.support.broker import Broker, Message, MosquittoSub
from tests.support.home_assistant import check_discovery
from tests.support.patience import until

pytestmark = pytest.mark.requires("broker")

CONFIG = "homeassistant/device/netring_box/config"


def sink_of(broker: Broker, devices: int = 0, **options: Any) -> MqttSink:
    home_assistant = HomeAssistantOptions(devices=devices)
    return MqttSink(
        broker.url, MqttOptions(**{**NO_PAUSE, **options}, home_assistant=home_assistant)
    )


def say(broker: Broker, topic: str, text: str, *flags: str) -> None:
    subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic,
         "-m", text, *flags],
        check=True,
    )  # fmt: skip


def discoveries(messages: list[Message]) -> list[dict[str, Any]]:
    return [json.loads(m.text) for m in messages if m.topic == CONFIG]


def test_one_retained_message_tells_of_all_entities() -> None:
    async def run(broker: Broker) -> None:
        async with capturing(sink_of(broker)) as broadcast:
            broadcast.publish([stats(1)])

    with Broker() as broker:
        asyncio.run(run(broker))
        [message] = [m for m in retained(broker.port, "#") if "homeassistant" in m.topic]
    assert message.topic == CONFIG
    assert len(check_discovery(json.loads(message.text))) == 11
    assert len(message.payload) < 8192


def test_without_the_option_nothing_is_said_to_home_assistant() -> None:
    async def run(broker: Broker) -> None:
        async with capturing(MqttSink(broker.url, MqttOptions(**FAST))):
            pass

    with Broker() as broker:
        asyncio.run(run(broker))
        assert [m for m in retained(broker.port, "#") if "homeassistant" in m.topic] == []


def test_discovery_is_sent_again_when_home_assistant_starts() -> None:
    async def run(broker: Broker) -> None:
        sink = sink_of(broker)
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1)])
            await told(sink, "stats", 1)
            # Neither its end nor what the broker has kept of it is a start.
            await asyncio.to_thread(say, broker, "homeassistant/status", "offline")
            await asyncio.to_thread(say, broker, "homeassistant/status", "online")
            await until(lambda: sink.statistics().topics["discovery"].repeated == 1)
            await asyncio.to_thread(say, broker, "homeassistant/status", "online")
            await until(lambda: sink.statistics().topics["discovery"].repeated == 2)
        books = sink.statistics().topics
        assert (books["discovery"].published, books["discovery"].offered) == (1, 1)
        assert books["stats"].repeated == 0  # the broker has it
        assert sink.statistics().unasked == 0

    with Broker() as broker, MosquittoSub(broker.port, CONFIG) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: len(m) == 3)
    assert len({m.text for m in messages}) == 1


def test_what_the_broker_does_not_retain_follows_when_home_assistant_starts() -> None:
    async def run(broker: Broker) -> None:
        sink = sink_of(broker)
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1)])
            await told(sink, "stats", 1)
            await asyncio.to_thread(say, broker, "homeassistant/status", "online")
            await until(lambda: sink.statistics().topics["stats"].repeated == 1)
            await until(lambda: sink.statistics().topics["link"].repeated == 1)

    with (
        Broker(config=["retain_available false"]) as broker,
        MosquittoSub(broker.port) as sub,
    ):
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: bool(m) and m[-1].text == "offline")
    topics = [m.topic for m in messages]
    again = topics[topics.index("homeassistant/status") + 1 :]
    assert again[0] == CONFIG
    assert {f"{BOX}/stats", f"{BOX}/link/eth0", f"{BOX}/info", f"{BOX}/top"} <= set(again)
    assert AVAILABILITY in again


def test_devices_are_counted_once_there_are_any() -> None:
    async def run(broker: Broker) -> None:
        sink = sink_of(broker)
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1)])
            await told(sink, "stats", 1)
            broadcast.publish([stats(2, devices=3)])
            await told(sink, "stats", 2)

    with Broker() as broker, MosquittoSub(broker.port, CONFIG) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: len(m) == 2)
    first, second = map(check_discovery, discoveries(messages))
    assert set(second) - set(first) == {"devices"}


def test_devices_come_and_go_as_entities_within_their_bound() -> None:
    async def run(broker: Broker) -> None:
        sink = sink_of(broker, devices=2)
        async with capturing(sink) as broadcast:
            broadcast.publish([DeviceSeen(START, device(n)) for n in (1, 2, 3)])
            await told(sink, "devices", 3)
            broadcast.publish([DeviceGone(START, device(1), "silent")])
            await told(sink, "devices", 4)

    with Broker() as broker, MosquittoSub(broker.port, CONFIG) as sub:
        asyncio.run(run(broker))
        messages = sub.received
    last = discoveries(messages)[-1]
    entities = check_discovery(last)
    assert {key for key in entities if key.startswith("device_")} == {
        "device_020000000002", "device_020000000003",
    }  # fmt: skip
    assert last["components"]["device_020000000001"] == {"platform": "sensor"}


def test_entities_of_an_earlier_run_that_are_no_more_are_told_to_be_removed() -> None:
    async def run(broker: Broker, *numbers: int) -> None:
        sink = sink_of(broker, devices=3)
        async with capturing(sink) as broadcast:
            broadcast.publish([DeviceSeen(START, device(n, last=1 << 62)) for n in numbers])
            await told(sink, "devices", len(numbers))

    with Broker() as broker:
        removed = []
        for numbers in ((1, 2), (2, 3), (3,)):
            asyncio.run(run(broker, *numbers))
            [message] = discoveries(retained(broker.port, "#"))
            entities = check_discovery(message)
            assert [key[-1] for key in entities if key.startswith("device_")] == [
                str(number) for number in numbers
            ]
            removed.append([key[-1] for key in message["components"] if key not in entities])
    # One that was told to be removed is not told again.
    assert removed == [[], ["1"], ["2"]]


def test_a_message_that_is_too_long_leaves_out_the_devices(tmp_path: Path) -> None:
    async def run(broker: Broker) -> None:
        sink = sink_of(broker, devices=50)
        async with capturing(sink) as broadcast:
            broadcast.publish([DeviceSeen(START, device(n)) for n in range(1, 51)])
            await told(sink, "devices", 50)

    with (
        Broker(config=["max_packet_size 6000"]) as broker,
        MosquittoSub(broker.port, CONFIG) as sub,
    ):
        asyncio.run(run(broker))
        last = discoveries(sub.wait_for(lambda m: len(m) >= 1))[-1]
    entities = check_discovery(last)
    assert len([key for key in entities if key.startswith("device_")]) < 50
    assert "throughput" in entities


def test_a_broker_that_does_not_let_it_listen_gets_discovery_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write #\n")
    rules.chmod(0o644)

    async def run(broker: Broker) -> None:
        sink = sink_of(broker)
        broadcast = FlowBroadcast(interface="eth0")
        task = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds)))
        await until(lambda: (b := sink.statistics().topics.get("discovery")) and b.published == 1)
        broadcast.close()
        await task
        assert sink.statistics().reconnects == 0

    with Broker(config=[f"acl_file {rules}"]) as broker:
        asyncio.run(run(broker))
    assert warnings(caplog) == []
