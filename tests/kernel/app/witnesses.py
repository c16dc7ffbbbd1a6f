"""Captures of one wire at once, by each backend and into a file, and what each of them tells."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from netring_bpf import (
    App,
    AppEvent,
    Capture,
    Event,
    FiveTuple,
    FlowEnded,
    FlowOptions,
    Netring,
    Recorder,
)
from tests.support.hub import Hub, on_one_cpu
from tests.support.replay import replay_file
from tests.support.rig import WAYS, assert_balanced

LIVE = ("native", "tpacket_v3")
WITNESSES = (*LIVE, "file")
# Nothing ends while the clients talk, whatever they wait for.
FLOWS = FlowOptions(update_interval=None, port_timeouts=())


@dataclass(frozen=True)
class Told:
    """The protocols inside of flows: of each that has ended, and each exchange, by its key.

    ``servers``: the names of the responders.
    """

    ended: Mapping[FiveTuple, list[App | None]]
    exchanges: Mapping[FiveTuple, list[App]]
    servers: Mapping[FiveTuple, str | None]

    def all(self, protocol: str, name: str | None = None) -> list[App]:
        """Every exchange of the protocol, and of this name, in the order of their flows."""
        return [
            app
            for apps in self.exchanges.values()
            for app in apps
            if app.protocol == protocol and name in {None, app.name}
        ]

    def one(self, protocol: str, name: str | None = None) -> App:
        """The only one of these."""
        [app] = self.all(protocol, name)
        return app

    def flow(self, protocol: str, name: str | None = None) -> FiveTuple:
        """The key of the one flow that has this exchange as its first."""
        [key] = [
            key
            for key, apps in self.ended.items()
            for app in apps
            if app is not None and app.protocol == protocol and name in {None, app.name}
        ]
        return key


def tell(events: Iterable[Event]) -> Told:
    """Sort events by their flows."""
    ended: dict[FiveTuple, list[App | None]] = defaultdict(list)
    exchanges: dict[FiveTuple, list[App]] = defaultdict(list)
    servers: dict[FiveTuple, str | None] = {}
    for event in events:
        if isinstance(event, FlowEnded):
            ended[event.flow.key].append(event.flow.app)
            servers[event.flow.key] = event.flow.resp.name
        elif isinstance(event, AppEvent):
            exchanges[event.flow.key].append(event.app)
    return Told(dict(ended), dict(exchanges), servers)


def watch(hub: Hub, file: Path, talk: Callable[[], None]) -> dict[str, Told]:
    """Return what each witness tells of a conversation; the file is recorded to ``file``."""
    taps = {name: hub.tap(name) for name in WITNESSES}

    async def run() -> dict[str, Told]:
        heard: dict[str, list[Event]] = {name: [] for name in LIVE}
        collecting = []
        async with contextlib.AsyncExitStack() as stack:
            rings = {}
            for name in LIVE:
                options = WAYS[name].options()
                ring = Netring(name, netns=taps[name].path, buffer=1 << 18, flow=FLOWS, **options)
                rings[name] = await stack.enter_async_context(ring)
                assert (ring.backend, ring.attach) == (WAYS[name].backend, WAYS[name].attach)
                collecting.append(asyncio.create_task(_collect(ring.subscribe(), heard[name])))
            capture = Capture("file", netns=taps["file"].path, backend="tpacket_v3")
            stack.enter_context(_recording(capture, file))
            await asyncio.to_thread(_talk, hub, talk)
        await asyncio.gather(*collecting)
        for ring in rings.values():
            assert_balanced(ring.statistics())
            assert ring.statistics().capture.lost == 0
        return {name: tell(events) for name, events in heard.items()}

    stories = asyncio.run(run())
    return {**stories, "file": tell(replay_file(file, FLOWS).events)}


def _talk(hub: Hub, talk: Callable[[], None]) -> None:
    with on_one_cpu(), hub.working():
        talk()


async def _collect(events: AsyncIterable[Event], heard: list[Event]) -> None:
    async for event in events:
        heard.append(event)


@contextlib.contextmanager
def _recording(capture: Capture, file: Path) -> Iterator[None]:
    with Recorder(capture, file) as recorder:
        thread = threading.Thread(target=recorder.run)
        thread.start()
        try:
            yield
        finally:
            recorder.stop()
            thread.join()
