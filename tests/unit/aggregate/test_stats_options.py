"""The options of aggregates, and how a Netring takes them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    FlowEnded,
    FlowSubscriber,
    Netring,
    SinkStatistics,
    StatsOptions,
    StatsUpdated,
    Top,
)
from netring_bpf.errors import OptionError
from netring_bpf.events.event import Event
from tests.support.frames import udp
from tests.support.replay import Frame
from tests.support.savefiles import pcap


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("interval", 0.09),
        ("interval", 86_401),
        ("top", 0),
        ("top", 1001),
        ("capacity", 9),
        ("capacity", 65_537),
        ("local", "10.0.0.0/8"),
        ("local", ["10.0.0.0/33"]),
        ("local", ["10.0.0.0/8"] * 65),
    ],
)
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        StatsOptions(**{option: value})
    assert caught.value.option == option


@pytest.mark.parametrize("stats", [1, "yes", 10.0, object()])
def test_stats_is_on_off_or_options(tmp_path: Path, stats: Any) -> None:
    with pytest.raises(OptionError, match="must be True, False, None or StatsOptions") as caught:
        Netring.replay(tmp_path / "any", stats=stats)
    assert caught.value.option == "stats"


class Sink:
    name = "test://sink"

    def __init__(self, *kinds: type[Event]) -> None:
        self.kinds = kinds or None
        self.taken: list[Event] = []

    async def run(self, events: FlowSubscriber) -> None:
        async for event in events:
            self.taken.append(event)

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(self.name, len(self.taken), len(self.taken))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap([Frame(udp("10.0.0.1", "10.0.0.2", 1, 2))]))
    return path


async def read(ring: Netring) -> list[Event]:
    async with ring:
        return [event async for event in ring.subscribe()]


def is_on(ring: Netring) -> bool:
    return any(isinstance(event, StatsUpdated) for event in asyncio.run(read(ring)))


def test_a_sink_that_asks_by_name_switches_aggregates_on(file: Path) -> None:
    asks = Sink(FlowEnded, StatsUpdated)
    assert is_on(Netring.replay(file, sinks=[Sink(FlowEnded), asks]))
    assert [type(event) for event in asks.taken] == [FlowEnded, StatsUpdated]
    assert not is_on(Netring.replay(file, sinks=[Sink(FlowEnded), Sink()]))
    assert not is_on(Netring.replay(file, sinks=[Sink(StatsUpdated)], stats=False))
    assert is_on(Netring.replay(file, stats=True))
    assert is_on(Netring.replay(file, stats=StatsOptions(interval=1)))


def test_without_aggregates_nobody_waits_for_them_in_vain(file: Path) -> None:
    ring = Netring.replay(file)
    for ask in (ring.subscribe, ring.subscribe_batches):
        with pytest.raises(OptionError, match="pass stats=True") as caught:
            ask(kinds=(FlowEnded, StatsUpdated))
        assert caught.value.option == "kinds"
    for name in ("stats", "top"):
        with pytest.raises(OptionError, match="pass stats=True"):
            getattr(ring, name)


def test_before_the_first_interval_there_is_nothing_on_top(file: Path) -> None:
    ring = Netring.replay(file, stats=True)
    assert ring.stats is None
    assert ring.top == Top()
