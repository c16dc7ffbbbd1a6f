"""A capture of ``netring-bpf run``, with its sinks, and the changes that it takes while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from netring_bpf.cli.flags import expression
from netring_bpf.cli.printer import opening
from netring_bpf.cli.runner import Runner
from netring_bpf.cli.say import say, tell
from netring_bpf.cli.summary import summary
from netring_bpf.config import CaptureConfig, MetricsConfig, MqttConfig
from netring_bpf.config.contradictions import filter_of
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.errors import ClosedError, NetringError
from netring_bpf.events.event import BackendChanged, LinkDown, LinkUp
from netring_bpf.netring import Netring
from netring_bpf.sinks.metrics import MetricsSink
from netring_bpf.sinks.mqtt import MqttSink
from netring_bpf.sinks.mqtt_options import MqttOptions

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.sinks.base import Sink

__all__ = ["CaptureRunner", "SinkConfig"]

SinkConfig: TypeAlias = MqttConfig | MetricsConfig


class CaptureRunner(Runner):
    """Runs the capture of one table. ``sinks``: by the names of their tables."""

    def __init__(
        self,
        name: str,
        config: CaptureConfig,
        sinks: Mapping[str, SinkConfig],
        changed: Callable[[], None],
    ) -> None:
        super().__init__(f"captures.{name}", config.restart, changed)
        self._config = config
        self._wanted = dict(sinks)
        self._filter: Filter | None = None
        self._ring: Netring | None = None
        self._sinks: dict[str, tuple[SinkConfig, Sink]] = {}
        self._lacking: set[str] = set()  # sinks that could not be made

    @property
    def sinks_failed(self) -> bool:
        """Whether a sink could not begin, or has ended by an error."""
        return bool(self._lacking)

    def report(self) -> Sequence[str]:
        """Return the counters so far."""
        if self._ring is None:
            return ()
        try:
            return self._lines(self._ring, laws=False)
        except NetringError as error:
            return (f"{self.name}: {error}",)

    def _lines(self, ring: Netring, *, laws: bool) -> list[str]:
        return [f"{self.name} on {ring.interface}:", summary(ring.statistics(), laws=laws)]

    # -- one run --

    async def _once(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with self._changing:
                ring = await self._make()
                stack.push_async_callback(self._end, ring)
                await ring.__aenter__()
                self._ring = ring
                self._opened(opening(ring, expression(self._filter)))
            watching = asyncio.create_task(self._tell(ring))
            ended = asyncio.create_task(ring.wait_end())
            try:
                await self._wait(ended)
            finally:
                watching.cancel()
                ended.cancel()
        if not self._is_told and ring.error is not None:
            raise ring.error

    async def _make(self) -> Netring:
        config = self._config
        self._filter = await asyncio.to_thread(filter_of, config)
        self._sinks, self._lacking = {}, set()
        for name, wanted in self._wanted.items():
            if (sink := self._sink(name, wanted)) is not None:
                self._sinks[name] = wanted, sink
        return Netring(
            config.interface,
            filter=self._filter,
            backend=config.backend,
            steal=config.steal,
            buffer=config.buffer,
            sinks=[sink for _, sink in self._sinks.values()],
            xdp=config.xdp,
            tpacket=config.tpacket,
            flow=config.flow,
            netns=config.netns,
            devices=_devices(config, self._wanted),
            stats=config.stats,  # always: a sink that asks for them may come later
        )

    async def _end(self, ring: Netring) -> None:
        try:
            await ring.close()
        finally:
            was_open, self._ring = self._ring is not None, None
            if was_open:
                failed = ring.statistics().failed_sinks
                self._lacking |= {n for n, (_, sink) in self._sinks.items() if sink.name in failed}
                for line in self._lines(ring, laws=True):
                    tell(line, prefix="")

    def _sink(self, name: str, config: SinkConfig) -> Sink | None:
        """Return a new sink; None, with a message, if it cannot be made."""
        try:
            if isinstance(config, MetricsConfig):
                return MetricsSink(config.address)
            options = config.options
            if options.kinds == MqttOptions().kinds:  # those of them that there are
                made = tuple(kind for kind in options.kinds if kind in self._config.flow.events)
                options = dataclasses.replace(options, kinds=made)
            return MqttSink(config.url, options)
        except NetringError as error:
            say(f"{self.name}: {name}: {error}; the capture goes on without it")
            self._lacking.add(name)
            return None

    async def _tell(self, ring: Netring) -> None:
        """Say what happens to the interface."""
        events = ring.subscribe(
            kinds=(LinkDown, LinkUp, BackendChanged), errors="event", name="log"
        )
        async with events:
            async for event in events:
                match event:
                    case LinkDown():
                        say(f"{self.name}: {event.interface} is down")
                    case LinkUp():
                        tell(f"{self.name}: {event.interface} is up")
                    case BackendChanged():
                        say(f"{self.name}: {opening(ring, expression(self._filter))} from now on")

    # -- changes --

    async def apply(self, config: CaptureConfig, sinks: Mapping[str, SinkConfig]) -> list[str]:
        """Take another configuration; return what has changed, in words.

        A running capture goes on if only its filter, the interval of its statistics, its sinks or
        its restarting change; else it begins again.
        """
        async with self._changing:
            before, had = self._config, self._wanted
            self._config, self._wanted, self._restart = config, dict(sinks), config.restart
            if not self.is_alive:
                self._stop.clear()
                self.start()
                return ["begins again"]
            parts = _changed_parts(before, config)
            if _devices(before, had) != _devices(config, sinks) and "devices" not in parts:
                parts.append("devices")
            if self._ring is None:
                if parts or had != self._wanted or before != config:
                    self._again.set()  # no need to wait out the pause
                    return ["changed; trying again"]
                return []
            if parts:
                self._again.set()
                return [f"begins again, for {', '.join(parts)} changed"]
            return await self._change(self._ring, before, config)

    async def _change(
        self, ring: Netring, before: CaptureConfig, config: CaptureConfig
    ) -> list[str]:
        told: list[str] = []
        if config.restart != before.restart:
            told.append("restart changed")
        try:
            if config.stats.interval != before.stats.interval:
                ring.set_stats_interval(config.stats.interval)
                told.append("stats.interval changed")
            told += await self._change_filter(ring)
            told += await self._change_sinks(ring)
        except ClosedError:  # it ends just now, and begins again with all of it
            pass
        return told

    async def _change_filter(self, ring: Netring) -> list[str]:
        """Swap the filter if it is another one, as when a file of addresses has changed."""
        try:
            wanted = await asyncio.to_thread(filter_of, self._config)
            if wanted == self._filter:
                return []
            await ring.set_filter(wanted)
        except ClosedError:
            raise
        except NetringError as error:
            return [f"the filter of before stays: {error}"]
        self._filter = wanted
        return ["filter changed"]

    async def _change_sinks(self, ring: Netring) -> list[str]:
        told: list[str] = []
        failed = ring.statistics().failed_sinks
        for name, (config, sink) in list(self._sinks.items()):
            if self._wanted.get(name) == config and sink.name not in failed:
                continue
            del self._sinks[name]
            books = await ring.remove_sink(sink)
            if name not in self._wanted:
                told.append(f"{name} removed")
            if books.takes_flows:
                told.append(
                    f"{name} had {books.accepted} flows, {books.acknowledged} acknowledged, "
                    f"{sum(books.dropped.values())} dropped, {books.pending} pending"
                )
        self._lacking.clear()
        for name, wanted in self._wanted.items():
            if name in self._sinks or (made := self._sink(name, wanted)) is None:
                continue
            ring.add_sink(made)
            self._sinks[name] = wanted, made
            told.append(f"{name} added")
        return told


def _devices(config: CaptureConfig, sinks: Mapping[str, SinkConfig]) -> DeviceOptions | bool:
    """Return the options of the table of devices, which Home Assistant asks for too."""
    if config.devices is not None:
        return config.devices
    return any(
        isinstance(sink, MqttConfig) and sink.options.home_assistant is not None
        for sink in sinks.values()
    )


def _changed_parts(before: CaptureConfig, after: CaptureConfig) -> list[str]:
    """Return the keys and tables that a running capture cannot change."""
    live = {"filter", "hosts", "nets", "restart"}
    parts = [
        field.name
        for field in dataclasses.fields(CaptureConfig)
        if field.name not in live | {"stats"}
        and getattr(before, field.name) != getattr(after, field.name)
    ]
    same_pace = dataclasses.replace(after.stats, interval=before.stats.interval)
    return parts if same_pace == before.stats else [*parts, "stats"]
