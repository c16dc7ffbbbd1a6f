"""The books of a live capture, as Prometheus gets them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from netring_bpf import (
    FlowEnded,
    MetricsSink,
    Netring,
    StatsOptions,
    XdpMode,
    XdpOptions,
)
from netring_bpf.errors import OptionError, SinkError
from tests.support.frames import udp
from tests.support.lab import Namespace, VethPair
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE, until, wait_until
from tests.support.process import spawn, stop
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

EXAMPLES = ROOT / "examples" / "prometheus"
FRAMES = [udp("10.0.0.1", f"192.0.2.{n}", 7, 53) for n in range(1, 101)]


def scrape(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text: str = answer.read().decode()
    return text


def samples(text: str) -> dict[str, float]:
    """Return the samples by name and labels, as they stand in the text."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def scrape_of(ring: Netring, sink: MetricsSink, namespace: Namespace, frames: list[bytes]) -> str:
    """Capture these frames, and scrape once an interval with them is over."""

    async def run() -> str:
        async with ring:
            await sink.wait_started()
            assert await asyncio.to_thread(send_frames, namespace, SENDER, frames) == len(frames)
            await until(
                lambda: sink._latest and sink._latest.since_start.total.packets == len(frames)
            )
            return await asyncio.to_thread(scrape, sink.port)

    return asyncio.run(run())


@pytest.mark.parametrize("backend", ["af_xdp", "tpacket_v3"])
def test_a_scrape_has_the_books_exactly(backend: str) -> None:
    sink = MetricsSink("127.0.0.1:0")
    with wire() as namespace:
        ring = Netring(
            PORT, netns=namespace.path, backend=backend, steal=backend == "af_xdp", sinks=[sink],
            stats=StatsOptions(interval=0.1),
        )  # fmt: skip
        text = scrape_of(ring, sink, namespace, FRAMES)
    found, books = samples(text), ring.statistics().capture
    of = f'{{interface="{PORT}"}}'
    assert found[f"netring_received_frames_total{of}"] == books.received == len(FRAMES)
    assert found[f"netring_received_bytes_total{of}"] == books.received_bytes
    assert found[f"netring_keyed_frames_total{of}"] == books.keyed == len(FRAMES)
    assert found[f"netring_flows_started_total{of}"] == books.flows.started == len(FRAMES)
    assert found[f"netring_flows_live{of}"] == len(FRAMES)
    assert found[f"netring_books_balanced{of}"] == 1
    assert found[f'netring_lost_frames_total{{interface="{PORT}",reason="tp_drops"}}'] == 0
    assert (
        found[
            f'netring_capture_info{{attach="{ring.attach or ""}",backend="{backend}",'
            f'interface="{PORT}",version="0.1.0"}}'
        ]
        == 1
    )


def test_the_sums_of_the_scrape_are_those_of_the_stream() -> None:
    sink = MetricsSink("127.0.0.1:0")

    async def run(namespace: Namespace) -> str:
        ring = Netring(
            PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink],
            stats=StatsOptions(interval=0.1),
        )  # fmt: skip
        async with ring:
            await sink.wait_started()
            await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES)
            await until(lambda: ring.stats and ring.stats.since_start.total.packets == len(FRAMES))
            sums = ring.stats
            assert sums is not None
            await until(lambda: sink._latest is not None and sink._latest.number >= sums.number)
            found = samples(await asyncio.to_thread(scrape, sink.port))
        for direction, of in zip(
            ("in", "out", "internal", "transit"), sums.since_start, strict=True
        ):
            labels = f'{{direction="{direction}",interface="{PORT}"}}'
            assert found[f"netring_traffic_packets_total{labels}"] == of.packets
            assert found[f"netring_traffic_bytes_total{labels}"] == of.bytes
            assert found[f"netring_traffic_flows_total{labels}"] == of.flows
        assert sums.since_start.outbound.packets == len(FRAMES)
        return ""

    with wire() as namespace:
        asyncio.run(run(namespace))


def test_many_scrapes_at_once_are_answered_and_nothing_is_left_open() -> None:
    sink = MetricsSink("127.0.0.1:0")

    async def run(namespace: Namespace) -> None:
        async with Netring(PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink]):
            await sink.wait_started()
            texts = await asyncio.gather(*(asyncio.to_thread(scrape, sink.port) for _ in range(10)))
            assert all("netring_received_frames_total" in text for text in texts)
            port = sink.port
        with pytest.raises(urllib.error.URLError):
            await asyncio.to_thread(scrape, port)

    with wire() as namespace:
        asyncio.run(run(namespace))


def test_a_port_in_use_is_named_and_the_capture_goes_on() -> None:
    async def run(namespace: Namespace, port: int) -> None:
        sink = MetricsSink(f"127.0.0.1:{port}")
        ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink])
        ends = ring.subscribe(kinds=FlowEnded)
        async with ring:
            await until(lambda: ring.error)
            assert isinstance(ring.error, SinkError)
            assert f"serve metrics at 127.0.0.1:{port}: Address already in use" in str(ring.error)
            await asyncio.to_thread(send_frames, namespace, SENDER, FRAMES)
            await until(lambda: ring.statistics().capture.received == len(FRAMES))
        assert len([event async for event in ends if isinstance(event, FlowEnded)]) == len(FRAMES)

    with wire() as namespace, socket.create_server(("127.0.0.1", 0)) as taken:
        asyncio.run(run(namespace, taken.getsockname()[1]))


@pytest.mark.parametrize(
    "address",
    ["", "9560", ":9560", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "example.org:1", "a@b:1"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(OptionError) as caught:
        MetricsSink(address)
    assert caught.value.option == "address"


@pytest.mark.requires("prometheus")
def test_promtool_finds_nothing_to_complain_of() -> None:
    sink = MetricsSink("127.0.0.1:0")
    with wire() as namespace:
        ring = Netring(
            PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink],
            stats=StatsOptions(interval=0.1),
        )  # fmt: skip
        text = scrape_of(ring, sink, namespace, FRAMES)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.requires("prometheus")
def test_promtool_takes_the_examples() -> None:
    for what, file in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        subprocess.run(
            ["promtool", "check", what, EXAMPLES / file], check=True, capture_output=True
        )


@pytest.mark.requires("prometheus")
def test_a_prometheus_scrapes_it_and_the_rule_fires_on_loss(tmp_path: Path) -> None:
    """Frames that no chunk can carry are lost for certain."""
    sink = MetricsSink("127.0.0.1:0")
    large = [udp("10.0.0.1", "192.0.2.1", 7, 53, bytes(3000))] * 20

    def ask(port: int, path: str) -> object:
        url = f"http://127.0.0.1:{port}/api/v1/{path}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None  # it starts

    def firing(port: int) -> list[str]:
        data = ask(port, "alerts")
        alerts = data["alerts"] if isinstance(data, dict) else []
        return [a["labels"]["alertname"] for a in alerts if a["state"] == "firing"]

    async def run(namespace: Namespace) -> None:
        ring = Netring(
            PORT, netns=namespace.path, backend="af_xdp", steal=True, sinks=[sink],
            xdp=XdpOptions(mode=XdpMode.GENERIC, chunk_size=2048),
        )  # fmt: skip
        async with ring:
            await sink.wait_started()
            prometheus, port = start_prometheus(tmp_path, sink.port)
            try:
                up = f'query?query=netring_received_frames_total{{interface="{PORT}"}}'
                await until_in_thread(lambda: (ask(port, up) or {"result": []})["result"])  # type: ignore[index]
                assert firing(port) == []
                await asyncio.to_thread(send_frames, namespace, SENDER, large)
                await until(lambda: ring.statistics().capture.lost == len(large))
                await until_in_thread(lambda: "NetringLosesFrames" in firing(port))
            finally:
                await asyncio.to_thread(stop, prometheus)

    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT, mtu=9000)
        asyncio.run(run(namespace))


async def until_in_thread(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition)


def start_prometheus(folder: Path, target: int) -> tuple[subprocess.Popen[str], int]:
    """Start a Prometheus with the examples' files, but for the port and the pace."""
    config = (EXAMPLES / "prometheus.yml").read_text(encoding="utf-8")
    assert config.count("9560") == 2
    assert config.count("15s") == 2
    config = config.replace("9560", str(target)).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    (folder / "rules.yml").write_text(
        (EXAMPLES / "rules.yml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = (
        f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    )  # fmt: skip
    return spawn(["prometheus", *arguments]), port


@pytest.mark.requires("prometheus")
def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Its queries are Prometheus's, of metrics that a capture serves."""
    sink = MetricsSink("127.0.0.1:0")
    with wire() as namespace:
        ring = Netring(
            PORT, netns=namespace.path, backend="tpacket_v3", sinks=[sink],
            stats=StatsOptions(interval=0.1),
        )  # fmt: skip
        found = samples(scrape_of(ring, sink, namespace, FRAMES))
        served = {name.partition("{")[0] for name in found}
    dashboard = json.loads((ROOT / "examples" / "grafana" / "netring.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"netring_[a-z_]+", query)}
    assert asked - served == set()
