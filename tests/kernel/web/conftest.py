"""A capture on a wire, its page, and a browser that looks at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from netring_bpf import FlowOptions, Netring, StatsOptions
from netring_bpf.devices.vendors import load_vendors
from netring_bpf.web import WebServer, serve
from tests.support.browser import Browser, Page
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames


@dataclass
class Watched:
    """The capture, its server, and the browser."""

    wire: Namespace
    ring: Netring
    server: WebServer
    browser: Browser

    def send(self, frames: Iterable[bytes]) -> int:
        """Put frames on the wire."""
        return send_frames(self.wire, SENDER, frames)

    async def page(self, width: int = 1280, **options: Any) -> Page:
        """A page that is live."""
        page = await self.browser.open(width, **options)
        await page.go(self.server.url)
        await page.until("document.getElementById('live-text').textContent === 'Live'")
        return page


@pytest.fixture(scope="session", autouse=True)
def vendors() -> bool:
    """The registry of vendors stays mapped once it is loaded, so it is loaded before the tests."""
    return asyncio.run(load_vendors())


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as made:
        yield made


@contextlib.asynccontextmanager
async def watched(namespace: Namespace, **options: Any) -> AsyncIterator[Watched]:
    """A capture that runs, with a page and a browser."""
    ring = Netring(
        PORT,
        netns=namespace.path,
        backend="tpacket_v3",
        flow=FlowOptions(idle_udp=1.0),
        devices=True,
        stats=StatsOptions(interval=1.0, top=50),
    )
    async with Browser() as browser, ring, serve(ring, "127.0.0.1:0", **options) as server:
        yield Watched(namespace, ring, server, browser)
