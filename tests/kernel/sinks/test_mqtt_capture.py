"""The topics of a real capture: what it is, its link, its sums and its devices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netring_bpf import (
    DeviceOptions,
    FlowKey,
    FlowOptions,
    HomeAssistantOptions,
    MqttOptions,
    MqttSink,
    Netring,
    StatsOptions,
    TopicOptions,
    __version__,
)
from netring_bpf.errors import OptionError
from tests.support.broker import Broker, Message, MosquittoSub
from tests.support.frames import udp
from tests.support.home_assistant import check_discovery
from tests.support.patience import until
from tests.support.rig import PORT, SENDER, assert_balanced, wire
from tests.support.schemas import checked, payloads
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "broker")

BOX = "netring/box"
FRAMES = [
    udp("192.168.1.7", "198.51.100.1", 5000, 53, b"x" * 100, smac="02:00:00:00:00:07"),
    udp("198.51.100.1", "192.168.1.7", 53, 5000, b"y" * 500, dmac="02:00:00:00:00:07"),
]
OPTIONS = MqttOptions(
    node="box",
    reconnect_max=0.2,
    stats=TopicOptions(),
    top=TopicOptions(),
    events=TopicOptions(retain=False),
    home_assistant=HomeAssistantOptions(devices=1),
)


def newest(messages: list[Message], topic: str) -> dict[str, Any]:
    found: dict[str, Any] = payloads(messages, topic)[-1]
    return found


def test_a_capture_tells_what_it_is_and_what_it_sums_up() -> None:
    async def run() -> None:
        sink = MqttSink(broker.url, OPTIONS)
        ring = Netring(
            PORT,
            netns=namespace.path,
            backend="tpacket_v3",
            filter="udp",
            sinks=[sink],
            flow=FlowOptions(key=FlowKey.HOST_PAIR),
            devices=DeviceOptions(prefixes=["192.168.1.0/24"]),
            stats=StatsOptions(interval=0.2),
        )
        async with ring:
            subscriber = ring.subscribe()
            assert subscriber.info is not None
            assert subscriber.info.filter == "udp"
            subscriber.close()
            for _ in range(5):
                await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES)
            await until(
                lambda: ring.stats is not None and ring.stats.since_start.total.packets == 10
            )
            await asyncio.to_thread(
                sub.wait_for,
                lambda m: any(
                    p["since_start"]["total"]["packets"] == 10 for p in payloads(m, f"{BOX}/stats")
                ),
            )
            # The broker loses all it has, and gets it again.
            before = len(sub.received)
            await asyncio.to_thread(broker.kill)
            await until(lambda: not sink.statistics().connected)
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(sub.wait_subscribed, 2)
            wanted = {"info", f"link/{PORT}", "stats", "top", "devices/02:00:00:00:00:07"}
            await asyncio.to_thread(
                sub.wait_for,
                lambda m: {f"{BOX}/{name}" for name in wanted} <= {x.topic for x in m[before:]},
            )
            namespace.ip(f"link set {SENDER} down")
            await asyncio.to_thread(
                sub.wait_for, lambda m: newest(m, f"{BOX}/link/{PORT}")["up"] is False
            )
            namespace.ip(f"link set {SENDER} up")
            await asyncio.to_thread(
                sub.wait_for, lambda m: newest(m, f"{BOX}/link/{PORT}")["up"] is True
            )
            await ring.set_filter("udp port 53")
            await asyncio.to_thread(
                sub.wait_for, lambda m: newest(m, f"{BOX}/info")["filter"] == "udp port 53"
            )
        statistics = ring.statistics()
        assert_balanced(statistics)
        laws = [e.law for e in statistics.equations() if "offered = published" in e.law]
        assert len(laws) == 7
        messages = sub.wait_for(lambda m: m[-1].text == "offline")
        assert checked(messages) == {
            "availability", "info", "link", "stats", "top", "devices", "events", "flows",
        }  # fmt: skip

        info = payloads(messages, f"{BOX}/info")[0]
        assert (info["version"], info["interface"]) == (__version__, PORT)
        assert (info["backend"], info["attach"], info["filter"]) == ("tpacket_v3", None, "udp")
        assert info["options"] == {
            "backend": "tpacket_v3", "netns": namespace.path, "flow.key": "host_pair",
            "devices.prefixes": "192.168.1.0/24", "stats.interval": "0.2",
        } | {"flow.events": info["options"]["flow.events"]}  # fmt: skip
        assert "NeighbourSeen" in info["options"]["flow.events"]

        last = newest(messages, f"{BOX}/stats")
        assert last["since_start"]["out"] == {"packets": 5, "bytes": 5 * 142, "flows": 1}
        assert last["since_start"]["in"] == {"packets": 5, "bytes": 5 * 542, "flows": 0}
        assert last["health"]["devices"] == last["health"]["devices_online"] == 2
        top = newest(messages, f"{BOX}/top")["top_since_start"]
        assert [(h["key"], h["bytes"]) for h in top["hosts"]] == [
            ("192.168.1.7", 5 * 684), ("198.51.100.1", 5 * 684),
        ]  # fmt: skip
        told = [e["event"] for e in payloads(messages, f"{BOX}/events")]
        assert [e for e in told if e.startswith("link")] == ["link_down", "link_up"]
        # A broker that is killed takes with it what it has acknowledged and not handed on.
        assert statistics.sinks[0].topics["events"].published >= 4
        [device] = payloads(messages, f"{BOX}/devices/02:00:00:00:00:07")[:1]
        assert device["addresses"] == ["192.168.1.7"]
        config = payloads(messages, "homeassistant/device/netring_box/config")[-1]
        assert {"devices", "link", "top_talker"} <= set(check_discovery(config))
        assert config["components"]["link"]["state_topic"] == f"{BOX}/link/{PORT}"

    with wire() as namespace, Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run())


def test_a_sink_without_stats_and_top_has_no_sums_made() -> None:
    async def run() -> None:
        off = TopicOptions(enabled=False)
        sink = MqttSink(broker.url, MqttOptions(node="box", stats=off, top=off))
        ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink])
        async with ring:
            await until(lambda: sink.statistics().connected)
            with pytest.raises(OptionError):
                _ = ring.stats
            assert set(sink.statistics().topics) <= {"events", "info", "link"}

    with wire() as namespace, Broker() as broker:
        asyncio.run(run())
