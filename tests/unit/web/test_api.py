"""Each path answers as the API's own document says, and tells the capture as it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import openapi_spec_validator
import pytest

from netring_bpf import App, FlowEnded, FlowKey, FlowOptions, Netring, StatsOptions
from netring_bpf.errors import InterfaceGoneError
from netring_bpf.events.event import CaptureError, LinkDown, LinkUp
from netring_bpf.web import serve
from netring_bpf.web.openapi import document
from tests.support.events import ended
from tests.support.frames import icmp_echo, udp
from tests.support.household import DEVICES, client_hello, dhcp, download, lookup
from tests.support.patience import until
from tests.support.savefiles import pcap
from tests.support.web import piped, timed

TELEVISION = DEVICES[0][1:]
FRAMES = [
    *(frame for name, mac, address in DEVICES for frame in dhcp((mac, address), name.encode())),
    *lookup(TELEVISION, b"cdn.video.example", "198.51.100.7", 40000),
    *download(TELEVISION, "198.51.100.7", 41000, client_hello(b"cdn.video.example"), 90_000),
]  # fmt: skip
PATHS = {
    path: [path] for path in document()["paths"] if path not in {"/api/events", "/metrics"}
} | {
    "/api/top": ["/api/top", "/api/top?limit=1", "/api/top?limit=99999999999", "/api/top?limit=x"],
    "/api/flows": ["/api/flows", "/api/flows?search=tls&limit=1", "/api/flows?search=" + "x" * 201],
}


def test_the_document_is_one_of_openapi() -> None:
    openapi_spec_validator.validate(document())


def validated(path: str, status: int, kind: str, text: str) -> Any:
    """The value of an answer, which is as the document says."""
    whole = document()
    answer = whole["paths"][path]["get"]["responses"][str(status)]
    assert set(answer["content"]) == {kind}
    schema = answer["content"][kind]["schema"] | {"components": whole["components"]}
    value = json.loads(text)
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(value)
    return value


async def get(client: aiohttp.ClientSession, path: str) -> Any:
    async with client.get(path) as answer:
        bare = path.partition("?")[0]
        return validated(bare, answer.status, answer.content_type, await answer.text())


def test_each_path_answers_by_its_schema_while_the_capture_runs(tmp_path: Path) -> None:
    async def run() -> None:
        frames = timed(FRAMES, gap=20_000_000)
        async with (
            piped(tmp_path, frames) as (ring, server),
            aiohttp.ClientSession(server.url) as client,
        ):
            for paths in PATHS.values():
                for path in paths:
                    await get(client, path)
            await until(lambda: ring.stats is not None)
            ring.broadcast.publish([ended(5), ended(6)])
            while not (await get(client, "/api/flows"))["flows"]:
                await asyncio.sleep(0.01)
            for paths in PATHS.values():
                for path in paths:
                    await get(client, path)

    asyncio.run(run())


def test_a_file_is_shown_on_after_its_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pcap(timed(FRAMES, gap=20_000_000)))

    async def run() -> None:
        stats = StatsOptions(interval=1.0, top=50)
        ring = Netring.replay(tmp_path / "file", devices=True, stats=stats)
        async with ring, serve(ring, "127.0.0.1:0") as server:
            await server.wait_end()
            async with aiohttp.ClientSession(server.url) as client:
                told = {path: await get(client, path) for path in PATHS}
        check(told, ring)

    asyncio.run(run())


@pytest.mark.parametrize("key", list(FlowKey))
def test_flows_of_every_key_are_shown(key: FlowKey, tmp_path: Path) -> None:
    frames = [
        *FRAMES,
        icmp_echo("192.168.7.38", "198.51.100.7", 5, 1),
        udp("fe80::1", "ff02::fb", 5353, 5353),
    ]
    (tmp_path / "file").write_bytes(pcap(timed(frames, gap=20_000_000)))

    async def run() -> None:
        ring = Netring.replay(
            tmp_path / "file", flow=FlowOptions(key=key), devices=True, stats=True
        )
        async with ring, serve(ring, "127.0.0.1:0") as server:
            await server.wait_end()
            async with aiohttp.ClientSession(server.url) as client:
                told = {path: await get(client, path) for path in PATHS}
                async with client.get("/api/events") as answer:
                    assert b"snapshot" in await answer.content.readline() + (
                        await answer.content.readuntil(b"data: ")
                    )
        assert told["/api/flows"]["ended"] == len(told["/api/flows"]["flows"]) > 0
        assert told["/healthz"]["status"] == "ended"

    asyncio.run(run())


def check(told: dict[str, Any], ring: Netring) -> None:
    latest = ring.stats
    assert latest is not None
    stats = told["/api/stats"]["stats"]
    assert stats["since_start"]["total"] == latest.since_start.total.to_dict()
    assert stats["health"]["balanced"]
    assert told["/healthz"]["status"] == "ended"
    assert not told["/healthz"]["healthy"]
    assert len(told["/api/history"]["rows"]) == latest.number
    flows = told["/api/flows"]
    assert flows["ended"] == len(flows["flows"]) == latest.since_start.total.flows
    assert sum(f["orig_bytes"] + f["resp_bytes"] for f in flows["flows"]) == (
        latest.since_start.total.bytes
    )
    video = next(flow for flow in flows["flows"] if flow.get("service") == "tls")
    assert (video["name"], video["orig_name"]) == ("cdn.video.example", "television")
    top = told["/api/top"]
    assert top["since_start"]["names"][0]["key"] == "cdn.video.example"
    minute = {row["key"]: row["bytes"] for row in top["minute"]["services"]}
    assert minute == {row["key"]: row["bytes"] for row in top["since_start"]["services"]}
    devices = {device["mac"]: device for device in told["/api/devices"]["devices"]}
    assert {name for name, mac, _ in DEVICES if devices[mac].get("name") == name} == {
        name for name, *_ in DEVICES
    }
    assert told["/api/devices"]["known"] == len(devices) == len(DEVICES) + 1


@pytest.mark.parametrize(
    ("search", "ports"),
    [
        ("", [1, 2, 3]),
        ("10.0.0.1 2", [2]),
        ("VIDEO", [3]),
        ("tls video", [3]),
        ("tls nothing", []),
        ("<script>", []),
        ("%", []),
        ("tcp", [1, 2, 3]),
    ],
)
def test_flows_are_found_by_words(search: str, ports: list[int], tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server):
            third = ended(3)
            third = third._replace(
                flow=third.flow._replace(app=App(protocol="tls", name="cdn.video.example"))
            )
            ring.broadcast.publish([ended(1), ended(2), third])
            async with aiohttp.ClientSession(server.url) as client:
                while (await get(client, "/api/flows"))["kept"] < 3:
                    await asyncio.sleep(0.01)
                async with client.get("/api/flows", params={"search": search}) as answer:
                    found = (await answer.json())["flows"]
        # Port 2 of the address 10.0.0.2 is in all of them.
        assert [flow["orig_port"] for flow in reversed(found)] == ports or search == "10.0.0.1 2"

    asyncio.run(run())


def test_flows_beyond_a_rate_are_counted_and_not_listed(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server):
            ring.broadcast.publish([ended(number) for number in range(3000)])
            async with aiohttp.ClientSession(server.url) as client:
                while (told := await get(client, "/api/flows"))["ended"] < 3000:
                    await asyncio.sleep(0.01)
        assert told["kept"] + told["left_out"] == 3000
        assert told["lagged"] == 0
        assert 50 <= told["kept"] <= 2000
        assert len(told["flows"]) == min(100, told["kept"])

    asyncio.run(run())


def test_health_is_that_of_the_capture(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server), aiohttp.ClientSession(server.url) as client:

            async def health() -> tuple[int, str]:
                async with client.get("/healthz") as answer:
                    value = validated("/healthz", answer.status, answer.content_type,
                                      await answer.text())  # fmt: skip
                    return answer.status, value["status"]

            async def told(wanted: tuple[int, str]) -> None:
                while await health() != wanted:
                    await asyncio.sleep(0.01)

            async with asyncio.timeout(60):
                await told((200, "running"))
                ring.broadcast.publish([LinkDown(1, "eth1")])
                await told((503, "link_down"))
                ring.broadcast.publish([LinkUp(2, "eth1")])
                await told((200, "running"))
                gone = InterfaceGoneError("gone\x1b", interface="eth1")
                ring.broadcast.publish([CaptureError(3, gone)])
                await told((503, "failed"))

    asyncio.run(run())


def test_books_that_are_off_are_no_health(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path, timed(FRAMES, gap=20_000_000)) as (ring, server):
            await until(lambda: ring.stats is not None)
            assert ring.stats is not None
            off = ring.stats._replace(health=ring.stats.health._replace(balanced=False))
            ring.broadcast.publish([off])
            async with aiohttp.ClientSession(server.url) as client, asyncio.timeout(60):
                while True:
                    async with client.get("/healthz") as answer:
                        value = await answer.json()
                        if answer.status == 503:
                            break
                    await asyncio.sleep(0.01)
            assert (value["balanced"], value["status"]) == (False, "running")

    asyncio.run(run())


def test_texts_of_the_api_are_cleaned_and_cut(tmp_path: Path) -> None:
    hostile = "\u202e\x1b[2J<script>alert(1)</script>" + "x" * 10_240

    async def run() -> FlowEnded:
        async with piped(tmp_path) as (ring, server):
            event = ended(1)
            flow = event.flow._replace(app=App(protocol="tls", name=hostile))
            ring.broadcast.publish([event._replace(flow=flow)])
            async with aiohttp.ClientSession(server.url) as client:
                while not (flows := (await get(client, "/api/flows"))["flows"]):
                    await asyncio.sleep(0.01)
            name: str = flows[0]["name"]
            assert name.startswith(r"\u202e\x1b[2J<script>alert(1)</script>xxx")
            assert (len(name), name[-1], name.isprintable()) == (256, "…", True)
            return event

    asyncio.run(run())


def test_metrics_without_their_package_are_not_implemented(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            piped(tmp_path) as (_, server),
            aiohttp.ClientSession(server.url) as client,
            client.get("/metrics") as answer,
        ):
            assert answer.status in {200, 501}
            assert answer.content_type == "text/plain"

    asyncio.run(run())
