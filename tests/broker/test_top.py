"""``netring-bpf top --mqtt``: the screen of a capture elsewhere, over a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from netring_bpf import MqttOptions, MqttSink, Netring, StatsOptions
from netring_bpf.cli.top_app import TopApp
from netring_bpf.cli.top_model import TopModel
from netring_bpf.cli.top_remote import BrokerSource
from netring_bpf.devices.vendors import load_vendors
from netring_bpf.errors import SinkError
from netring_bpf.sinks.mqtt_topics import TopicOptions
from tests.support.broker import Broker
from tests.support.home import DEVICES, home_frames
from tests.support.made_stats import stats
from tests.support.patience import until
from tests.support.savefiles import pcap
from tests.unit.cli.test_top import column, screen

pytestmark = pytest.mark.requires("broker")

AT_ONCE = TopicOptions(interval=0.0)


@pytest.fixture(scope="module", autouse=True)
def _vendors() -> None:
    # The registry stays mapped once it is loaded, so it is loaded before the tests.
    asyncio.run(load_vendors())


def publish(broker: Broker, topic: str, payload: bytes, *, retain: bool = True) -> None:
    argv = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic]
    subprocess.run([*argv, *(["-r"] if retain else []), "-s"], input=payload, check=True)


@contextlib.asynccontextmanager
async def watching(
    broker: Broker, node: str | None = None
) -> AsyncIterator[tuple[TopApp, TopModel, Pilot[None]]]:
    model = TopModel()
    async with BrokerSource(broker.url, MqttOptions(node=node)) as source:
        app = TopApp(model, source)
        async with app.run_test(size=(120, 30)) as pilot:
            yield app, model, pilot


async def _drawn(app: TopApp, pilot: Pilot[None]) -> str:
    app.draw(everything=True)
    await pilot.pause()
    return "\n".join(screen(app))


async def _replayed(broker: Broker, path: Path, node: str) -> int:
    """Publish a file; return its bytes."""
    options = MqttOptions(
        node=node, stats=AT_ONCE, top=AT_ONCE, devices=AT_ONCE, flush_interval=0.01
    )
    sink = MqttSink(broker.url, options)
    ring = Netring.replay(path, sinks=[sink], devices=True, stats=StatsOptions(interval=60.0))
    async with ring:
        async for _ in ring.subscribe():
            pass
    assert ring.stats is not None
    return ring.stats.since_start.total.bytes


def test_a_capture_elsewhere_is_shown_as_its_own_sums_say(tmp_path: Path) -> None:
    path = tmp_path / "home.pcap"
    path.write_bytes(pcap(home_frames(20)))

    async def run(broker: Broker) -> None:
        async with watching(broker) as (app, model, pilot):
            assert "no node yet" in await _drawn(app, pilot)
            count = await _replayed(broker, path, "edge 7")
            await until(lambda: model.traffic.total.bytes == count)
            await until(lambda: len(model.flows()) == model.traffic.total.flows)
            await until(lambda: bool(model.table("names")))
            assert sum(line.total for line in model.flows()) == count
            await pilot.press("2")
            await until(lambda: {name for *_, name in DEVICES} <= _names(model))
            shown = await _drawn(app, pilot)
            assert f"edge 7 at {broker.url} (" in shown
            assert {name for *_, name in DEVICES} <= set(column(app))
            assert "books balanced" in shown
            await pilot.press("4")
            await _drawn(app, pilot)
            assert "cdn.video.example" in column(app)
            await pilot.press("1", "enter")
            await pilot.pause()
            assert "orig_addr" in "\n".join(screen(app))

    with Broker() as broker:
        asyncio.run(run(broker))


def _names(model: TopModel) -> set[str]:
    return {line.name for line in model.devices.values()}


def test_n_turns_to_the_next_node_and_a_named_one_is_shown_at_once() -> None:
    def told(n: int) -> bytes:
        record = stats(packets=n).to_dict()
        del record["event"], record["top"], record["top_since_start"]
        return json.dumps({"v": 1, **record}).encode()

    async def run(broker: Broker) -> None:
        for n, node in ((10, "a"), (20, "b")):
            publish(broker, f"netring/{node}/availability", b"online")
            publish(broker, f"netring/{node}/stats", told(n))
        async with watching(broker) as (app, model, pilot):
            await until(lambda: "1 more: n" in app._source.title and model.stats is not None)
            first = model.traffic.inbound.packets
            await pilot.press("n")
            await until(lambda: model.traffic.inbound.packets == 30 - first)
            await pilot.press("n")
            await until(lambda: model.traffic.inbound.packets == first)
        async with watching(broker, "b") as (_, model, _):
            await until(lambda: model.traffic.inbound.packets == 20)

    with Broker() as broker:
        asyncio.run(run(broker))


@pytest.mark.parametrize(
    "payload",
    [
        b"{", b"[]", b"null", b"7", b'{"v":2}', b'{"v":1}', b"\xff\xfe", b"[" * 5000,
        b'{"v":1,"top":[],"top_since_start":{}}',
        b'{"v":1,"ts":"yesterday","traffic":{},"since_start":{},"health":{}}',
        b'{"v":1,"ts":1e999}', b'[{"id":-1}]', b'[[]]', b'{"v":1,"mac":7,"addresses":7}',
        b'{"v":1,"event":"x","ts":"2024-13-45T99:99:99.000000000Z"}',
    ],
)  # fmt: skip
def test_what_is_no_message_of_a_capture_is_counted_and_changes_nothing(payload: bytes) -> None:
    async def run(broker: Broker) -> None:
        publish(broker, "netring/x/availability", b"online")
        async with watching(broker, "x") as (app, model, pilot):
            source = app._source
            assert isinstance(source, BrokerSource)
            for topic in ("stats", "top", "flows", "events", "devices/02:00:00:00:00:01"):
                publish(broker, f"netring/x/{topic}", payload)
            wrong = 5 - (payload == b"[]")  # no flows: of all topics that one alone is right
            await until(lambda: source._counts["not understood"] >= wrong)
            await until(lambda: source._counts.total() >= 5 + wrong)
            assert source._counts.total() - source._counts["not understood"] == 5
            assert source._counts["not understood"] == wrong
            assert (model.stats, model.flows(), dict(model.devices)) == (None, [], {})
            await _drawn(app, pilot)
            await pilot.press("b")
            await pilot.pause()
            assert "not understood" in "\n".join(screen(app))

    with Broker() as broker:
        asyncio.run(run(broker))


def test_names_in_messages_are_text() -> None:
    name = "[red]\x1b[2J\u202e\\x"

    async def run(broker: Broker) -> None:
        publish(broker, "netring/x/availability", b"online")
        publish(broker, "netring/x/devices/02:00:00:00:00:01", json.dumps({
            "v": 1, "mac": "02:00:00:00:00:01", "name": name, "addresses": [name],
            "names": [{"name": name, "source": name}], name: name,
            "last": "2024-11-23T22:13:20.000000001Z",
        }).encode())  # fmt: skip
        async with watching(broker, "x") as (app, model, pilot):
            await pilot.press("2")
            await until(lambda: len(model.devices) == 1)
            shown = await _drawn(app, pilot)
            assert column(app)[0].startswith("[red]\\x1b[2J\\u202")
            await pilot.press("enter")
            await pilot.pause()
            shown += "\n".join(screen(app))
            assert "[red]\\x1b[2J\\u202e" in shown
            assert not {"\x1b", "\u202e"} & set(shown)

    with Broker() as broker:
        asyncio.run(run(broker))


def test_a_broker_that_comes_back_is_read_on() -> None:
    async def run(broker: Broker) -> None:
        publish(broker, "netring/x/availability", b"online")
        async with watching(broker, "x") as (app, model, _):
            await until(lambda: "(online)" in app._source.title)
            broker.kill()
            await until(lambda: "not connected" in app._source.title)
            assert any("again in 1 s" in text for _, text in model.notes)
            broker.start()
            await until(lambda: "not connected" not in app._source.title)
            publish(broker, "netring/x/availability", b"offline")
            await until(lambda: "(offline)" in app._source.title)

    with Broker() as broker:
        asyncio.run(run(broker))


def test_a_broker_that_is_not_there_is_an_error_before_any_screen() -> None:
    async def run(url: str) -> None:
        async with BrokerSource(url, MqttOptions()):
            pass

    with Broker() as broker:
        url = broker.url
    with pytest.raises(SinkError, match=f"{url}: "):
        asyncio.run(run(url))
