"""The stream of events: what a viewer gets, and what one who is slow costs the others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from netring_bpf import Health, Netring, StatsUpdated, Sums, Top, TopRow, Traffic
from netring_bpf.events.event import BackendChanged, LinkDown
from netring_bpf.web import WebServer
from netring_bpf.web.viewers import MAX_QUEUED, Viewers
from tests.support.events import ended
from tests.support.patience import PATIENCE, until
from tests.support.web import piped

SECOND = 1_000_000_000


def stats(number: int, *, lost: int = 0) -> StatsUpdated:
    """Interval ``number``, made by hand."""
    traffic = Traffic(inbound=Sums(10, 125_000, 1))
    top = Top(hosts=tuple(TopRow(f"192.0.2.{n}", None, 0, 1, 0, 99 - n, 1) for n in range(50)))
    return StatsUpdated(
        ts=number * SECOND, interface="eth1", number=number, start=(number - 1) * SECOND,
        traffic=traffic, top=top, since_start=traffic, top_since_start=top,
        health=Health(received=10, lost=lost, flows_capacity=100),
    )  # fmt: skip


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """The events of a stream."""
    kind = ""
    async for line in answer.content:
        if line.startswith(b"event: "):
            kind = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield kind, json.loads(line[6:])


def test_a_viewer_gets_all_that_there_is_and_then_what_is_new(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server):
            client = aiohttp.ClientSession(server.url)
            ring.broadcast.publish([stats(1), stats(2), ended(1), ended(2)])
            await until(lambda: server._state._ended_flows == 2)
            async with client, client.get("/api/events") as answer, asyncio.timeout(PATIENCE):
                assert answer.content_type == "text/event-stream"
                coming = events(answer)
                kind, first = await anext(coming)
                assert (kind, len(first["history"]["rows"])) == ("snapshot", 2)
                assert [flow["id"] for flow in first["flows"]["flows"]] == [2, 1]
                ring.broadcast.publish([stats(3, lost=5), ended(3)])
                found: dict[str, Any] = {}
                while not {"stats", "flows", "top"} <= found.keys():
                    kind, value = await anext(coming)
                    found.setdefault(kind, value)
                assert [row[0][:19] for row in found["stats"]["rows"]] == ["1970-01-01T00:00:03"]
                assert found["stats"]["stats"]["health"]["lost"] == 5
                assert [flow["id"] for flow in found["flows"]["flows"]] == [3]
                assert len(found["top"]["minute"]["hosts"]) == 10
                assert found["top"]["minute"]["hosts"][0]["recent"] == [99, 99, 99]

    asyncio.run(run())


def test_what_happens_to_the_capture_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server):
            client = aiohttp.ClientSession(server.url)
            async with client, client.get("/api/events") as answer, asyncio.timeout(PATIENCE):
                coming = events(answer)
                assert (await anext(coming))[1]["state"]["status"] == "running"
                ring.broadcast.publish(
                    [LinkDown(SECOND, "eth1"), BackendChanged(SECOND, "eth1", "tpacket_v3", "\x1b")]
                )
                assert await anext(coming) == (
                    "state", {"status": "link_down", "message": "the link is down"},
                )  # fmt: skip
                kind, told = await anext(coming)
                assert (kind, [(n["level"], n["text"]) for n in told["notes"]]) == (
                    "notes",
                    [("warning", "the link is down"),
                     ("warning", r"the capture goes on by tpacket_v3: \x1b")],
                )  # fmt: skip

    asyncio.run(run())


def test_no_more_viewers_come_than_are_allowed(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path, max_viewers=3) as (_, server):
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(server.url, connector=connector) as client:
                kept = [await client.get("/api/events") for _ in range(3)]
                assert [answer.status for answer in kept] == [200] * 3
                async with client.get("/api/events") as answer:
                    assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
                async with client.get("/api/info") as answer:
                    assert answer.status == 200
                kept[0].close()
                await until(lambda: server.viewers < 3)
                kept.append(await client.get("/api/events"))
                assert kept[-1].status == 200
                for answer in kept:
                    answer.close()

    asyncio.run(run())


def test_a_slow_viewer_loses_events_with_a_count_and_costs_nobody_else(tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path) as (ring, server):
            slow = await reading_nothing(server)
            async with (
                aiohttp.ClientSession(server.url) as client,
                client.get("/api/events") as answer,
                asyncio.timeout(PATIENCE),
            ):
                coming = events(answer)
                await anext(coming)
                await until(lambda: server.viewers == 2)
                seen = await until_missed(ring, server, coming)
            assert server._viewers.missed > 0
            # The fast one had all of them.
            assert seen == list(range(1, len(seen) + 1))
            slow.close()
            await until(lambda: server.viewers == 0)

    asyncio.run(run())


async def reading_nothing(server: WebServer) -> socket.socket:
    """A viewer that asks for events and reads none."""
    port = urlsplit(server.url).port
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", port))
    request = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    await loop.sock_sendall(made, request.encode())
    return made


async def until_missed(
    ring: Netring, server: WebServer, coming: AsyncIterator[tuple[str, Any]]
) -> list[int]:
    """Publish until the slow viewer missed some; return the intervals that came."""
    seen: list[int] = []
    number = 0
    while not server._viewers.missed:
        number += 1
        ring.broadcast.publish([stats(number), *(ended(n) for n in range(50))])
        await until(lambda: getattr(server._state.latest, "number", 0) == number)  # noqa: B023
        server._state.tell()
        while True:
            kind, value = await anext(coming)
            if kind == "stats":
                seen += [int(row[0][17:19]) + 60 * int(row[0][14:16]) for row in value["rows"]]
                break
    return seen


def test_a_queue_is_bounded_and_tells_what_is_missing() -> None:
    async def run() -> None:
        viewers = Viewers(2)
        slow, fast = viewers.join(), viewers.join()
        assert viewers.is_full
        for number in range(MAX_QUEUED + 10):
            viewers.send("n", number)
            assert await fast.next() == f"event: n\ndata: {number}\n\n".encode()
        assert (slow.missed, fast.missed, viewers.missed) == (10, 0, 10)
        assert await slow.next() == b'event: missed\ndata: {"count":10}\n\n'
        assert await slow.next() == b"event: n\ndata: 10\n\n"
        viewers.leave(slow)
        assert (viewers.missed, len(viewers)) == (10, 1)
        viewers.close()
        assert await fast.next() is None

    asyncio.run(run())


def test_a_message_is_one_event_whatever_is_in_it() -> None:
    async def run() -> None:
        viewers = Viewers(1)
        viewer = viewers.join()
        viewers.send("n", "a\r\nevent: evil\n\n\u2028\x85\ud800")
        sent = await viewer.next()
        assert sent is not None
        assert sent.count(b"\n") == 3
        assert b"\r" not in sent

    asyncio.run(run())


@pytest.mark.parametrize("count", [40])
def test_connections_beyond_the_bound_are_ended(count: int, tmp_path: Path) -> None:
    async def run() -> None:
        async with piped(tmp_path, max_viewers=1) as (_, server):
            server._most = 20
            port = urlsplit(server.url).port
            pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            refused = 0
            for reader, _ in pairs[20:]:
                try:
                    refused += await reader.read(1) == b""
                except ConnectionResetError:
                    refused += 1
            assert refused == count - 20
            for _, writer in pairs:
                writer.close()
            await until(lambda: not server._runner.server.connections)  # type: ignore[union-attr]
            async with (
                aiohttp.ClientSession(server.url) as client,
                client.get("/healthz") as answer,
            ):
                assert answer.status == 200

    asyncio.run(run())


def test_closing_ends_the_streams(tmp_path: Path) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as client:
            async with piped(tmp_path) as (_, server):
                answer = await client.get(f"{server.url}api/events")
                assert server.viewers == 1
            assert (await answer.content.read()).startswith(b"retry: 2000")

    asyncio.run(run())
