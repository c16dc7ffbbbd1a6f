"""The topics of a capture, without a broker: discovery within its bounds, and the link."""

from __future__ import annotations

import json
from typing import Any

import pytest

from netring_bpf import DeviceGone, DeviceSeen, HomeAssistantOptions, MqttOptions, TopicOptions
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.sinks.mqtt_node import NodeTopics
from netring_bpf.sinks.mqtt_state import StateBoard, fitting
from tests.support.aggregates import INFO, START, device, stats

CONFIG = "homeassistant/device/netring_box/config"


class Node:
    """The topics of a node, and what a broker got of them."""

    def __init__(self, info: CaptureInfo = INFO, devices: int = 0, **options: Any) -> None:
        self.board = StateBoard()
        wanted = HomeAssistantOptions(devices=devices)
        self.topics = NodeTopics(
            self.board, MqttOptions(home_assistant=wanted, **options), "box", "0" * 32
        )
        self.topics.begin("eth0", info)

    def send(self, now: float = 0.0, room: int = 1 << 28) -> list[tuple[str, bytes]]:
        sent = []
        while (message := self.board.take(now)) is not None:
            payload = fitting(message.render, min(room, message.largest))
            assert payload is not None
            sent.append((message.topic, payload))
            self.board.published(message, now)
        return sent


def entities(payload: bytes) -> list[str]:
    """The devices that have an entity, of a discovery message."""
    components = json.loads(payload)["components"]
    return [key for key, made in components.items() if key[:7] == "device_" and len(made) > 1]


def test_as_many_devices_as_may_be_have_an_entity_each() -> None:
    node = Node(devices=256)
    name = "\U0001f4bb" * 64
    node.topics.observe([DeviceSeen(START, device(n, name=name)) for n in range(256)], INFO)
    assert len(entities(dict(node.send())[CONFIG])) == 256


@pytest.mark.parametrize(("room", "shown"), [(1 << 28, 200), (65_536, 100), (24_000, 25)])
def test_a_broker_of_small_packets_gets_as_many_halves_as_fit(room: int, shown: int) -> None:
    node = Node(devices=200)
    node.topics.observe([DeviceSeen(START, device(n)) for n in range(200)], INFO)
    assert len(entities(dict(node.send(room=room))[CONFIG])) == shown


def test_a_flood_of_birth_messages_makes_few_messages_and_keeps_nobody_waiting() -> None:
    node = Node(stats=TopicOptions(retain=False))
    node.topics.observe([stats(1)], INFO)
    node.send(100.0)
    sent = []
    for step in range(800):  # one each 10 ms
        now = 101.0 + step / 100
        node.topics.on_birth(now, retained=True)
        sent += [topic for topic, _ in node.send(now)]
    assert sent.count(CONFIG) == 8
    assert sent.count("netring/box/stats") == 2


def test_the_link_is_as_the_capture_found_it() -> None:
    for is_up in (True, False):
        [link] = [
            json.loads(payload)
            for topic, payload in Node(INFO._replace(link_up=is_up)).send()
            if topic == "netring/box/link/eth0"
        ]
        assert link["up"] is is_up


def test_devices_that_are_watched_are_counted_from_the_first_message_on() -> None:
    for option in ("devices", "devices.max_devices"):
        node = Node(INFO._replace(options=((option, "1"),)))
        assert "devices" in json.loads(dict(node.send())[CONFIG])["components"]
    assert "devices" not in json.loads(dict(Node().send())[CONFIG])["components"]


def test_devices_of_an_earlier_run_keep_their_entities_within_the_bound() -> None:
    before = Node(devices=5)
    before.topics.observe([DeviceSeen(START, device(n, name=f"pi{n}")) for n in range(1, 6)], INFO)
    earlier = dict(before.send())[CONFIG]
    for devices, kept in ((5, 4), (3, 2), (1, 0), (0, 0)):
        node = Node(devices=devices)
        node.topics.inherit(CONFIG, earlier, "")
        node.topics.observe([DeviceSeen(START, device(5))], INFO)
        assert len(entities(dict(node.send())[CONFIG])) == min(devices, 1 + kept)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"{}", b'{"components":[]}',
        b'{"components":{"device_1":{"platform":"sensor"}}}',
        b'{"components":{"device_020000000001":7}}', b"[" * 100_000,
        b'{"components":{"device_../../x00000":{"platform":"sensor","name":"x"}}}',
        b'{"components":{"device_020000000001":{"platform":"camera","name":"x"}}}',
    ],
)  # fmt: skip
def test_an_earlier_message_that_is_none_changes_nothing(payload: bytes) -> None:
    node = Node(devices=5)
    before = dict(node.send())[CONFIG]
    node.topics.inherit(CONFIG, payload, "")
    node.topics.observe([DeviceSeen(START, device(1))], INFO)
    after = json.loads(dict(node.send(10.0))[CONFIG])
    assert set(after["components"]) - set(json.loads(before)["components"]) == {
        "devices", "device_020000000001"
    }  # fmt: skip


def test_what_an_earlier_message_says_of_a_device_is_its_name_alone() -> None:
    node = Node(devices=5)
    long = "n" * 5000
    component = {"platform": "sensor", "name": long, "state_topic": "elsewhere", "x": [long]}
    earlier = json.dumps({"components": {"device_020000000001": component}}).encode()
    node.topics.inherit(CONFIG, earlier, "")
    made = json.loads(dict(node.send())[CONFIG])["components"]["device_020000000001"]
    assert made["state_topic"] == "netring/box/devices/02:00:00:00:00:01"
    assert (made["unique_id"], made["name"]) == ("netring_box_device_020000000001", "n" * 71)
    assert "x" not in made


def test_discovery_goes_out_again_only_as_a_device_that_has_an_entity_changes() -> None:
    node = Node(INFO._replace(options=(("devices", "True"),)), devices=2)

    def told(now: float, *events: DeviceSeen | DeviceGone) -> list[str] | None:
        node.topics.observe(events, INFO._replace(options=(("devices", "True"),)))
        sent = dict(node.send(now))
        return entities(sent[CONFIG]) if CONFIG in sent else None

    first, second, third = (f"device_02000000000{n}" for n in (1, 2, 3))
    assert told(10.0, DeviceSeen(START, device(1)), DeviceSeen(START, device(2))) == [first, second]
    assert told(20.0, DeviceSeen(START, device(3))) is None
    assert told(30.0, DeviceSeen(START, device(1, last=START + 1))) is None
    assert told(40.0, DeviceSeen(START, device(3, name="pi"))) is None
    assert told(50.0, DeviceSeen(START, device(1, name="pi"))) == [first, second]
    assert told(60.0, DeviceGone(START, device(2), "silent")) == [first, third]
    assert told(70.0, DeviceGone(START, device(2), "silent")) is None
    assert told(80.0, DeviceSeen(START, device(2))) is None
