"""What goes out besides flows: the topics of a node, on a real broker, against their schemas."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    CaptureError,
    CaptureInfo,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    FlowBroadcast,
    Lagged,
    LinkDown,
    LinkUp,
    MqttOptions,
    MqttSink,
    SinkFailed,
    SinkStatistics,
    TopicOptions,
    TopicStatistics,
)
from netring_bpf.errors import InterfaceGoneError, NetringError
from netring_bpf.sinks.mqtt_options import MqttVersion
from tests.broker.publishing import AVAILABILITY, FAST, FLOWS, connected, settled, warnings
from tests.support.aggregates import INFO, SECOND, START, device, stats
from tests.support.broker import Broker, Message, MosquittoSub
from tests.support.events import ended
from tests.support.patience import until
from tests.support.schemas import checked, payloads

pytestmark = pytest.mark.requires("broker")

BOX = "netring/box"
NO_PAUSE: dict[str, Any] = {
    **FAST,
    **dict.fromkeys(("stats", "top", "devices"), TopicOptions()),
    "events": TopicOptions(retain=False),
}


def assert_balanced(statistics: SinkStatistics) -> None:
    for kind, b in statistics.topics.items():
        total = b.published + b.unchanged + b.replaced + sum(b.dropped.values()) + b.pending
        assert b.offered == total, kind


def all_told(sink: MqttSink) -> bool:
    return sink.statistics().connected and not any(
        books.pending for books in sink.statistics().topics.values()
    )


@contextlib.asynccontextmanager
async def capturing(
    sink: MqttSink, info: CaptureInfo | None = INFO
) -> AsyncIterator[FlowBroadcast]:
    """The sink at work on a stream of its own, all of what there is to tell at first told."""
    broadcast = FlowBroadcast(interface="eth0")
    if info is not None:
        broadcast.describe(info)
    task = asyncio.create_task(sink.run(broadcast.subscribe(kinds=sink.kinds, errors="event")))
    await until(lambda: all_told(sink))
    try:
        yield broadcast
    finally:
        broadcast.close()
        await task
        assert_balanced(sink.statistics())


def ended_well(messages: list[Message]) -> bool:
    return bool(messages) and messages[-1].text == "offline"


def offered_of(sink: MqttSink, kind: str) -> int:
    books = sink.statistics().topics.get(kind)
    return 0 if books is None else books.offered


async def told(sink: MqttSink, kind: str, offered: int) -> TopicStatistics:
    """Wait until so many values were offered and none of them waits."""
    await until(lambda: offered_of(sink, kind) == offered and all_told(sink))
    return sink.statistics().topics[kind]


def retained(port: int, topic: str = f"{BOX}/#") -> list[Message]:
    """What the broker keeps for one who comes now."""
    with MosquittoSub(port, topic, extra=["-t", "end/of/it"]) as late:
        # mosquitto sends what it retains before it does anything else for the subscriber.
        end = ["-t", "end/of/it", "-m", "end", "-q", "1"]
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), *end], check=True)
        got = late.wait_for(lambda got: any(m.topic == "end/of/it" for m in got))
    return [m for m in got if m.retain]


def test_each_payload_has_the_form_of_its_schema() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            hostile = 'a"b\\c\x1b[2J\u202e<script>\u0085\U0001f600'
            broadcast.publish([ended(1), stats(1, devices=2), DeviceSeen(START, device(1))])
            await told(sink, "stats", 1)
            broadcast.publish(
                [
                    DeviceChanged(START, device(1, name=hostile), ("names",)),
                    DeviceGone(START, device(1), "silent"),
                    LinkDown(START, "eth0"),
                    LinkUp(START + SECOND, "eth0"),
                    SinkFailed(START, hostile, NetringError(hostile * 1000)),
                    Lagged(START, 1 << 60),
                    stats(2, packets=1 << 60),
                ]
            )
            await told(sink, "stats", 2)
            await told(sink, "events", 7)
            broadcast.publish([CaptureError(START, InterfaceGoneError("gone", interface="eth0"))])
            await told(sink, "events", 8)

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    assert checked(messages) == {
        "availability", "flows", "info", "link", "stats", "top", "devices", "events",
    }  # fmt: skip
    assert [e["event"] for e in payloads(messages, f"{BOX}/events")] == [
        "device_seen", "device_changed", "device_gone", "link_down", "link_up", "sink_failed",
        "lagged", "error",
    ]  # fmt: skip
    [info] = payloads(messages, f"{BOX}/info")
    [flow] = payloads(messages, FLOWS)[0]
    assert info["capture"] == flow["capture"]
    assert info == {
        "v": 1, **INFO.to_dict(), "capture": flow["capture"],
    }  # fmt: skip
    link = payloads(messages, f"{BOX}/link/eth0")
    assert [x["up"] for x in link] == [True, False, True, False] or [x["up"] for x in link] == [
        True, True, False,
    ]  # fmt: skip
    stats_told = payloads(messages, f"{BOX}/stats")
    whole = stats(1, devices=2).to_dict()
    for name in ("event", "top", "top_since_start"):
        del whole[name]
    assert stats_told[0] == {"v": 1, **whole}
    assert stats_told[1]["traffic"]["in"]["packets"] == 2**53 - 1
    top = payloads(messages, f"{BOX}/top")[0]
    assert top["top"] == stats(1).top.to_dict()
    assert top["rows"] == 3


def test_state_is_retained_and_events_are_not() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1), DeviceSeen(START, device(1)), LinkDown(START, "eth0")])
            await told(sink, "events", 2)

    with Broker() as broker:
        asyncio.run(run(broker))
        kept = retained(broker.port)
    assert sorted(m.topic for m in kept) == [
        AVAILABILITY, f"{BOX}/devices/02:00:00:00:00:01", f"{BOX}/info", f"{BOX}/link/eth0",
        f"{BOX}/stats", f"{BOX}/top",
    ]  # fmt: skip
    [link] = payloads(kept, f"{BOX}/link/eth0")
    assert link["up"] is False


def test_what_does_not_change_is_not_sent() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            for number in range(1, 6):
                # The time, the memory and the CPU differ each time.
                broadcast.publish([stats(number), LinkUp(START + number, "eth0")])
                await told(sink, "stats", number)
            broadcast.publish([stats(6, packets=200)])
            await told(sink, "stats", 6)
        books = sink.statistics().topics
        assert (books["stats"].published, books["stats"].unchanged) == (2, 4)
        assert (books["top"].published, books["top"].unchanged) == (1, 5)
        assert (books["link"].published, books["link"].unchanged) == (1, 5)

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    assert [p["number"] for p in payloads(messages, f"{BOX}/stats")] == [1, 6]


def test_each_topic_has_its_options() -> None:
    options = MqttOptions(
        **FAST,
        info=TopicOptions(enabled=False),
        link=TopicOptions(qos=0),
        stats=TopicOptions(retain=False, interval=3600.0),
        top=TopicOptions(enabled=False),
        devices=TopicOptions(enabled=False),
        events=TopicOptions(enabled=False),
    )

    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, options)
        assert [kind.__name__ for kind in sink.kinds] == [
            "FlowUpdated", "FlowEnded", "StatsUpdated", "LinkUp", "LinkDown",
        ]  # fmt: skip
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1, packets=1)])
            await told(sink, "stats", 1)
            broadcast.publish([stats(n, packets=n) for n in range(2, 10)])
            await until(lambda: sink.statistics().topics["stats"].replaced == 7)
            assert sink.statistics().topics["stats"].published == 1
        assert set(sink.statistics().topics) == {"link", "stats"}

    with Broker() as broker, MosquittoSub(broker.port, qos=1) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
        kept = retained(broker.port)
    # The last value goes out at the end, before its time.
    assert [p["number"] for p in payloads(messages, f"{BOX}/stats")] == [1, 9]
    assert {m.topic: m.qos for m in messages} == {
        AVAILABILITY: 1, f"{BOX}/link/eth0": 0, f"{BOX}/stats": 1,
    }  # fmt: skip
    assert {m.topic for m in kept} == {AVAILABILITY, f"{BOX}/link/eth0"}


def test_without_kinds_no_flow_is_published() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE, kinds=()))
        async with capturing(sink) as broadcast:
            broadcast.publish([ended(1), stats(1)])
            await told(sink, "stats", 1)
        assert sink.statistics().accepted == 0

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    assert payloads(messages, FLOWS) == []


def test_a_topic_s_value_waits_for_its_interval() -> None:
    async def run(broker: Broker) -> None:
        options = NO_PAUSE | {"stats": TopicOptions(interval=0.5)}
        sink = MqttSink(broker.url, MqttOptions(**options))
        loop = asyncio.get_running_loop()
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1)])
            await told(sink, "stats", 1)
            begin = loop.time()
            broadcast.publish([stats(n, packets=n) for n in range(2, 100)])
            books = await told(sink, "stats", 99)
            assert loop.time() - begin >= 0.4
            assert (books.published, books.replaced) == (2, 97)

    with Broker() as broker:
        asyncio.run(run(broker))


def test_a_device_that_is_gone_leaves_nothing_behind() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**FAST))
        async with capturing(sink) as broadcast:
            broadcast.publish([DeviceSeen(START, device(n)) for n in (1, 2)])
            await told(sink, "devices", 2)
            broadcast.publish([DeviceGone(START, device(1), "silent")])
            # At once: the interval is for what is told of a device.
            await told(sink, "devices", 3)

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
        kept = retained(broker.port)
    assert [bool(p) for p in payloads(messages, f"{BOX}/devices/02:00:00:00:00:01")] == [
        True,
        False,
    ]
    assert [m.topic for m in kept if "/devices/" in m.topic] == [f"{BOX}/devices/02:00:00:00:00:02"]


def test_no_more_devices_have_a_topic_than_may_have(caplog: pytest.LogCaptureFixture) -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE, max_devices=3))
        async with capturing(sink) as broadcast:
            broadcast.publish([DeviceSeen(START, device(n)) for n in range(1, 6)])
            books = await told(sink, "devices", 5)
            assert (books.published, books.dropped) == (3, {"left_out": 2})
            broadcast.publish(
                [DeviceGone(START, device(1), "silent"), DeviceSeen(START, device(6))]
            )
            await told(sink, "devices", 7)

    with Broker() as broker:
        asyncio.run(run(broker))
        kept = retained(broker.port)
    assert sorted(m.topic[-1] for m in kept if "/devices/" in m.topic) == ["2", "3", "6"]
    assert warnings(caplog) == [
        f"{broker.url}: 3 devices have a topic: others have none, and are counted as left_out; "
        "max_devices allows more"
    ]


def test_what_an_earlier_run_has_left_is_kept_within_its_bounds_and_cleared() -> None:
    now = 1 << 62  # later than any wall clock, so that it is fresh

    async def first(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink, INFO._replace(interface="eth7")) as broadcast:
            fresh = [DeviceSeen(START, device(n, last=now + n)) for n in range(1, 5)]
            broadcast.publish([*fresh, DeviceSeen(START, device(5, last=START))])
            await told(sink, "devices", 5)

    async def second(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE, max_devices=3))
        async with capturing(sink) as broadcast:
            # Device 5 is out of date, 1 is too many; and there is another link.
            await told(sink, "devices", 2)
            broadcast.publish([DeviceSeen(START, device(9))])  # then 2 is too many
            await told(sink, "devices", 4)
            broadcast.publish([DeviceGone(START, device(3), "silent")])
            await told(sink, "devices", 5)
        assert sink.statistics().unasked == 0

    with Broker() as broker:
        asyncio.run(first(broker))
        asyncio.run(second(broker))
        kept = retained(broker.port)
    assert sorted(m.topic for m in kept if "/devices/" in m.topic or "/link/" in m.topic) == [
        f"{BOX}/devices/02:00:00:00:00:04", f"{BOX}/devices/02:00:00:00:00:09",
        f"{BOX}/link/eth0",
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_state_is_told_again_to_a_broker_that_has_lost_it(version: MqttVersion) -> None:
    async def run(broker: Broker) -> list[Message]:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE, version=version))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1), DeviceSeen(START, device(1)), ended(1)])
            await told(sink, "devices", 1)
            await settled(sink, 1)
            broker.kill()
            await until(lambda: not sink.statistics().connected)
            # Meanwhile: the latest counts.
            broadcast.publish([stats(n, packets=n) for n in range(2, 9)])
            await until(lambda: offered_of(sink, "stats") == 8)
            await asyncio.to_thread(broker.start)
            await connected(sink)
            books = sink.statistics().topics
            await until(lambda: sink.statistics().topics["devices"].repeated == 1)
            await until(lambda: sink.statistics().topics["top"].repeated == 1)
            await told(sink, "stats", 8)
        books = sink.statistics().topics
        assert (books["stats"].published, books["stats"].replaced) == (2, 6)
        assert (books["info"].published, books["info"].repeated) == (1, 1)
        return await asyncio.to_thread(retained, broker.port)

    with Broker() as broker:
        kept = asyncio.run(run(broker))
    assert checked(kept) == {"availability", "info", "link", "stats", "top", "devices"}
    assert [p["number"] for p in payloads(kept, f"{BOX}/stats")] == [8]


def test_tables_shrink_to_the_broker_s_packet_size() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1, rows=200)])
            books = await told(sink, "top", 1)
            assert (books.published, books.dropped) == (1, {})

    with (
        Broker(config=["max_packet_size 12000"]) as broker,
        MosquittoSub(broker.port, f"{BOX}/top") as sub,
    ):
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: len(m) == 1)
    checked(messages)
    [top] = payloads(messages, f"{BOX}/top")
    assert 0 < top["rows"] < 10
    assert {len(table) for table in top["top"].values()} == {top["rows"]}
    # The largest are those that are left.
    assert top["top"]["hosts"] == stats(1, rows=200).top.to_dict()["hosts"][: top["rows"]]  # type: ignore[index]


def test_tables_of_a_thousand_rows_fit_a_message_without_a_limit() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1, rows=1000)])
            await told(sink, "top", 1)

    with Broker() as broker, MosquittoSub(broker.port, f"{BOX}/top") as sub:
        asyncio.run(run(broker))
        [message] = sub.wait_for(lambda m: len(m) == 1)
    assert 20_000 < len(message.payload) <= 65_536


def test_what_fits_no_packet_is_dropped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            for number in (1, 2):
                broadcast.publish([stats(number, packets=number, rows=10)])
                await told(sink, "stats", number)
        books = sink.statistics().topics
        assert books["stats"].dropped == {"too_large": 2}
        assert books["top"].dropped == {"too_large": 1}
        assert (books["link"].published, sink.statistics().reconnects) == (1, 0)

    with Broker(config=["max_packet_size 200"]) as broker:
        asyncio.run(run(broker))
    told_of = [w.rpartition(" ")[2] for w in warnings(caplog) if "too small for" in w]
    assert told_of == [f"{BOX}/info", f"{BOX}/stats", f"{BOX}/top"]


def test_a_broker_that_closes_at_large_messages_gets_smaller_tables() -> None:
    # mosquitto does not tell this limit; it closes the connection.
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1, rows=100), ended(1)])
            await told(sink, "top", 1)
            await settled(sink, 1)
        books = sink.statistics()
        assert (books.topics["top"].published, books.acknowledged) == (1, 1)

    with (
        Broker(config=["message_size_limit 20000"]) as broker,
        MosquittoSub(broker.port, f"{BOX}/top") as sub,
    ):
        asyncio.run(run(broker))
        message = sub.wait_for(lambda m: len(m) >= 1)[0]
    assert json.loads(message.text)["rows"] > 0


def test_a_topic_that_is_denied_is_dropped_told_once_and_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "acl"
    denied = "".join(f"topic deny {BOX}/{name}\n" for name in ("stats", "events"))
    rules.write_text(f"{denied}topic readwrite #\n")
    rules.chmod(0o644)

    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1), LinkDown(START, "eth0"), LinkUp(START, "eth0"), ended(1)])
            await told(sink, "events", 2)
            await settled(sink, 1)
        books = sink.statistics()
        assert books.topics["stats"].dropped == {"refused": 1}
        assert books.topics["events"].dropped == {"refused": 2}
        assert (books.topics["top"].published, books.acknowledged) == (1, 1)

    with Broker(config=[f"acl_file {rules}"]) as broker:
        asyncio.run(run(broker))
    assert [w.partition("messages on ")[2].partition(":")[0] for w in warnings(caplog)] == [
        f"{BOX}/stats", f"{BOX}/events",
    ]  # fmt: skip


def test_a_broker_without_qos_1_and_retained_messages_gets_all_the_same() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.publish([stats(1), DeviceSeen(START, device(1))])
            await told(sink, "devices", 1)
            broadcast.publish([DeviceGone(START, device(1), "silent")])
            await told(sink, "devices", 2)
            books = await told(sink, "events", 2)
            assert (books.published, books.dropped) == (2, {})
        assert sink.statistics().reconnects == 0

    with (
        Broker(config=["max_qos 0", "retain_available false"]) as broker,
        MosquittoSub(broker.port, qos=0) as sub,
    ):
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    assert {(m.qos, m.retain) for m in messages} == {(0, False)}
    assert checked(messages) == {
        "availability", "info", "link", "stats", "top", "devices", "events",
    }  # fmt: skip


def test_a_file_has_no_link() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink, INFO._replace(backend="file", interface="a/b.pcap")):
            pass

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    assert [m.topic for m in messages] == [AVAILABILITY, f"{BOX}/info", AVAILABILITY]


def test_an_interface_may_have_any_name() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink, INFO._replace(interface="a/+#\udcff")):
            pass

    with Broker() as broker, MosquittoSub(broker.port) as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(ended_well)
    checked(messages)
    assert [m.topic for m in messages if "/link/" in m.topic] == [f"{BOX}/link/a%2F%2B%23%FF"]


def test_a_change_of_the_capture_is_told() -> None:
    async def run(broker: Broker) -> None:
        sink = MqttSink(broker.url, MqttOptions(**NO_PAUSE))
        async with capturing(sink) as broadcast:
            broadcast.describe(INFO._replace(filter="udp"))
            broadcast.publish([stats(1)])
            await told(sink, "info", 2)

    with Broker() as broker, MosquittoSub(broker.port, f"{BOX}/info") as sub:
        asyncio.run(run(broker))
        messages = sub.wait_for(lambda m: len(m) == 2)
    assert [p["filter"] for p in payloads(messages, f"{BOX}/info")] == ["tcp port 443", "udp"]
