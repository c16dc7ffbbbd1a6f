"""The discovery message of Home Assistant: its form, its ids, and what its templates give."""

from __future__ import annotations

from typing import Any

import pytest

from netring_bpf import HomeAssistantOptions, MqttOptions, TopicOptions
from netring_bpf.errors import OptionError
from netring_bpf.sinks.home_assistant import Discovery, Shown
from tests.support.aggregates import INFO, device
from tests.support.home_assistant import check_discovery


def discovery(node: str = "box", prefix: str = "netring", devices: int = 0) -> Discovery:
    return Discovery(HomeAssistantOptions(devices=devices), prefix, node)


def test_the_message_has_the_form_that_home_assistant_takes() -> None:
    made = discovery(devices=2)
    entities = check_discovery(
        made.message(INFO, devices=[device(1, name="pi"), device(2)], has_devices=True)
    )
    assert made.topic == "homeassistant/device/netring_box/config"
    assert set(entities) == {
        "throughput", "throughput_in", "throughput_out", "packets", "flows", "live_flows", "loss",
        "books", "link", "restarts", "devices", "top_talker", "device_020000000001",
        "device_020000000002",
    }  # fmt: skip
    classes = {key: entity.get("device_class") for key, entity in entities.items()}
    assert classes["throughput_in"] == classes["throughput_out"] == "data_rate"
    assert (classes["books"], classes["link"]) == ("problem", "connectivity")
    assert {entity["unique_id"] for entity in entities.values()} == {
        f"netring_box_{key}" for key in entities
    }
    topics = {entity["state_topic"] for entity in entities.values()}
    assert topics == {
        "netring/box/stats", "netring/box/top", "netring/box/link/eth0",
        "netring/box/devices/02:00:00:00:00:01", "netring/box/devices/02:00:00:00:00:02",
    }  # fmt: skip


def test_the_message_names_the_device_its_origin_and_its_availability() -> None:
    made = discovery().message(INFO)
    del made["components"]
    assert made == {
        "device": {
            "identifiers": ["netring_box"],
            "name": "netring box",
            "manufacturer": "netring_bpf",
            "model": "eth0 (tpacket_v3)",
            "sw_version": "1.2.3",
        },
        "origin": {"name": "netring-bpf", "sw_version": "1.2.3"},
        "availability_topic": "netring/box/availability",
        "qos": 1,
    }


def test_only_what_is_published_has_entities() -> None:
    made = Discovery(
        HomeAssistantOptions(), "netring", "box", Shown(stats=False, top=False, devices=False)
    )
    assert set(check_discovery(made.message(INFO))) == {"link"}
    # A file has no link, and without devices there are none to count.
    entities = check_discovery(discovery().message(INFO._replace(backend="file")))
    assert not {"link", "devices"} & set(entities)


def test_devices_have_no_entities_unless_they_are_asked_for_and_no_more_than_that() -> None:
    many = [device(n) for n in range(1, 10)]
    assert not [key for key in discovery().message(INFO, devices=many)["components"]  # type: ignore[attr-defined]
                if key.startswith("device_")]  # fmt: skip
    entities = check_discovery(discovery(devices=3).message(INFO, devices=many))
    assert len([key for key in entities if key.startswith("device_")]) == 3


def test_an_entity_that_is_no_more_is_told_to_be_removed() -> None:
    made = discovery(devices=5)
    made.message(INFO, devices=[device(1), device(2)])
    second: Any = made.message(INFO, devices=[device(2)])
    check_discovery(second)
    assert second["components"]["device_020000000001"] == {"platform": "sensor"}
    third: Any = made.message(INFO, devices=[device(1), device(2)])
    assert len(third["components"]["device_020000000001"]) > 1


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"5", b"\xff", b"{", b'{"components":[]}', b'{"components":{"a":5}}',
        b'{"components":{"a":{"x":1,"y":2}}}', b'{"components":{"a":{"platform":[],"y":2}}}',
        b'{"components":{"a":{"platform":"lock","y":2}}}', b"[" * 100_000,
        b'{"components":{"link":{"platform":"sensor"}}}',
    ],
)  # fmt: skip
def test_a_message_of_others_removes_nothing(payload: bytes) -> None:
    made = discovery()
    assert made.inherit(payload) is False
    assert made.message(INFO) == discovery().message(INFO)


def test_no_more_than_some_entities_are_told_to_be_removed() -> None:
    made = discovery(devices=1)
    for number in range(600):
        message: Any = made.message(INFO, devices=[device(number)])
    entities = check_discovery(message)
    assert len(message["components"]) - len(entities) == 256


NODES = [
    ("netring", "box"), ("netring", "box/a"), ("netring", "box_a"), ("netring", "box a"),
    ("netring", "Box"), ("site", "box"), ("netring", "site/box"), ("netring", "büro"),
    ("netring", "büro2"), ("netring", "\udcff"), ("netring", "\udcfe"), ("netring", "💻"),
    ("netring", "a" * 65), ("netring", "a" * 66),
]  # fmt: skip


def test_each_node_has_an_id_of_its_own_that_home_assistant_takes() -> None:
    topics = [discovery(node, prefix).topic for prefix, node in NODES]
    for topic, (prefix, node) in zip(topics, NODES, strict=True):
        check_discovery(discovery(node, prefix).message(INFO))
        # One level, of letters that it takes.
        _, _, identity, _ = topic.split("/")
        assert identity.replace("_", "").replace("-", "").isalnum()
        assert identity.isascii()
    # The same text of a node with the prefix in it is the only one that two may share.
    assert len(set(topics)) == len(NODES) - 1


def test_ids_are_the_same_in_each_run() -> None:
    assert discovery("büro").identity == "netring_b_ro_" + discovery("büro").identity[-12:]
    assert discovery("büro").message(INFO) == discovery("büro").message(INFO)
    assert discovery("edge-7_eth1").identity == "netring_edge-7_eth1"


@pytest.mark.parametrize(
    ("option", "value"),
    [("prefix", ""), ("prefix", "a/+"), ("prefix", "a#"), ("prefix", "$SYS"), ("prefix", "a\n"),
     ("prefix", 5), ("devices", -1), ("devices", 257), ("devices", 1.5)],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        HomeAssistantOptions(**{option: value})  # type: ignore[arg-type]
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("option", "value"),
    [("enabled", 1), ("qos", 2), ("qos", "1"), ("retain", "yes"), ("interval", -1.0),
     ("interval", 86_401), ("interval", float("nan")), ("interval", "1")],
)  # fmt: skip
def test_options_of_a_topic_that_cannot_be_are_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        TopicOptions(**{option: value})  # type: ignore[arg-type]
    assert caught.value.option == option


@pytest.mark.parametrize(
    ("option", "value"),
    [("stats", 5), ("events", None), ("home_assistant", True), ("max_devices", 0),
     ("max_devices", 65_537)],
)  # fmt: skip
def test_options_of_the_sink_that_cannot_be_are_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        MqttOptions(**{option: value})  # type: ignore[arg-type]
    assert caught.value.option == option
