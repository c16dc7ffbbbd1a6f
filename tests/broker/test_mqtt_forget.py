"""``forget``: nothing that a node has left stays at the broker, and nobody else's goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netring_bpf import DeviceSeen, MqttOptions
from netring_bpf.errors import SinkError
from netring_bpf.sinks.home_assistant import HomeAssistantOptions
from netring_bpf.sinks.mqtt_forget import forget
from netring_bpf.sinks.mqtt_options import MqttVersion
from tests.broker.publishing import AVAILABILITY
from tests.broker.test_home_assistant import CONFIG, say, sink_of
from tests.broker.test_mqtt_topics import BOX, capturing, retained, told
from tests.support.aggregates import START, device, stats
from tests.support.broker import Broker

pytestmark = pytest.mark.requires("broker")


async def leave(broker: Broker, devices: int = 3) -> None:
    """Have a node leave all that it may."""
    sink = sink_of(broker, devices=2)
    async with capturing(sink) as broadcast:
        # Tables beyond what a sink takes from a broker.
        broadcast.publish([stats(1, rows=300, devices=3)])
        await told(sink, "stats", 1)
        broadcast.publish([DeviceSeen(START, device(n)) for n in range(1, devices + 1)])
        await told(sink, "devices", devices)


LEFT = [
    CONFIG, AVAILABILITY, *(f"{BOX}/devices/02:00:00:00:00:0{n}" for n in (1, 2, 3)),
    f"{BOX}/info", f"{BOX}/link/eth0", f"{BOX}/stats", f"{BOX}/top",
]  # fmt: skip


@pytest.mark.parametrize("version", [None, "5", "3.1.1"])
def test_nothing_of_the_node_stays_and_nothing_else_goes(version: MqttVersion | None) -> None:
    with Broker() as broker:
        asyncio.run(leave(broker))
        others = ["netring/box2/availability", "netring/box", "homeassistant/device/x/config"]
        for topic in others:
            say(broker, topic, "theirs", "-r")
        assert sorted(m.topic for m in retained(broker.port, "#")) == sorted(LEFT + others)
        options = MqttOptions(version=version)
        assert asyncio.run(forget(broker.url, options, "box")) == sorted([*LEFT, "netring/box"])
        left = retained(broker.port, "#")
        assert sorted(m.topic for m in left) == sorted(set(others) - {"netring/box"})
        assert asyncio.run(forget(broker.url, options, "box")) == []


def test_many_devices_are_forgotten_too() -> None:
    with Broker() as broker:
        asyncio.run(leave(broker, devices=200))
        removed = asyncio.run(forget(broker.url, MqttOptions(), "box"))
        assert len(removed) == len(LEFT) + 197
        say(broker, "last", "one", "-r")
        assert [m.topic for m in retained(broker.port, "#")] == ["last"]


def test_the_prefixes_and_names_of_others_are_left_alone() -> None:
    with Broker() as broker:
        asyncio.run(leave(broker))
        for options, node in ((MqttOptions(prefix="site"), "box"), (MqttOptions(), "bo")):
            assert asyncio.run(forget(broker.url, options, node)) == []
        discovery = HomeAssistantOptions(prefix="elsewhere")
        removed = asyncio.run(forget(broker.url, MqttOptions(), "box", discovery))
        assert removed == sorted(set(LEFT) - {CONFIG})


def test_a_node_that_seems_online_and_does_not_answer_is_forgotten() -> None:
    # As after a broker that was killed together with the capture: nobody published the will.
    with Broker() as broker:
        say(broker, AVAILABILITY, "online", "-r")
        assert asyncio.run(forget(broker.url, MqttOptions(), "box")) == [AVAILABILITY]


def test_the_node_of_a_capture_that_runs_is_not_forgotten() -> None:
    async def run(broker: Broker) -> None:
        async with capturing(sink_of(broker)):
            before = await asyncio.to_thread(retained, broker.port, "#")
            with pytest.raises(SinkError, match="its capture is online"):
                await forget(broker.url, MqttOptions(), "box")
            after = await asyncio.to_thread(retained, broker.port, "#")
            assert {m.topic: m.text for m in after} == {m.topic: m.text for m in before}

    with Broker() as broker:
        asyncio.run(run(broker))


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("topic write #\n", "lets this client not publish on .*, or not read"),
        (f"topic deny {BOX}/info\ntopic readwrite #\n", None),
        (f"topic read #\ntopic write {AVAILABILITY}\n", f"refuses messages on {BOX}/info"),
    ],
)
def test_rights_that_lack_are_named(tmp_path: Path, rules: str, words: str | None) -> None:
    path = tmp_path / "acl"
    path.write_text("topic readwrite #\n")
    path.chmod(0o644)
    with Broker(config=[f"acl_file {path}"]) as broker:
        say(broker, f"{BOX}/info", "{}", "-r")
        path.write_text(rules)
        broker.reload()
        if words is None:  # what it may not see is not there
            assert asyncio.run(forget(broker.url, MqttOptions(), "box")) == []
            return
        with pytest.raises(SinkError, match=words):
            asyncio.run(forget(broker.url, MqttOptions(), "box"))


def test_a_broker_that_is_not_there_is_told_of() -> None:
    with Broker() as broker:
        url = broker.url
    with pytest.raises(SinkError, match="forget netring/box: cannot connect"):
        asyncio.run(forget(url, MqttOptions(), "box"))
