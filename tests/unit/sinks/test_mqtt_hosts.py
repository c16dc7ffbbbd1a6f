"""A host that cannot be looked up is refused when the sink is made, not when it connects."""

from __future__ import annotations

import asyncio

import pytest

from netring_bpf import (
    CaptureError,
    FlowBroadcast,
    FlowEnded,
    FlowOptions,
    MqttOptions,
    MqttSink,
    SinkFailed,
)
from netring_bpf.errors import OptionError, SinkError
from tests.support.events import ended


@pytest.mark.parametrize(
    "host", ["a" * 64, "a" * 64 + ".example", "a..example", ".example", "ü" * 60 + ".example"]
)
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_label_that_is_empty_or_too_long(host: str, scheme: str) -> None:
    with pytest.raises(SinkError, match="a label of it is empty or over 63 characters"):
        MqttSink(f"{scheme}://{host}:1883")


@pytest.mark.parametrize(
    "host", ["a" * 63, "broker.example.", "bücher.example", "under_score", "127.0.0.1", "[::1]"]
)
def test_a_name_that_can_be_looked_up(host: str) -> None:
    assert MqttSink(f"mqtt://{host}").name == f"mqtt://{host}:1883"


def test_a_host_with_an_order_to_the_terminal() -> None:
    with pytest.raises(SinkError) as caught:
        MqttSink("mqtt://broker\x1b[2J.example")
    assert str(caught.value).isprintable()


def test_an_error_that_no_kinds_hide_is_no_flow_to_publish() -> None:
    async def run() -> int:
        broadcast = FlowBroadcast()
        sink = MqttSink("mqtt://127.0.0.1:1", MqttOptions(drain_timeout=0.0))
        events = broadcast.subscribe(kinds=sink.kinds, errors="event")
        broadcast.publish([CaptureError(1, SinkError("x")), SinkFailed(2, "s", SinkError("y"))])
        broadcast.publish([ended(1)])
        broadcast.close()
        await sink.run(events)
        return sink.statistics().accepted

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("kinds", ["ended", ("ended",), int])
def test_kinds_that_are_no_events(kinds: object) -> None:
    with pytest.raises(OptionError, match="the classes are FlowStarted, FlowEstablished"):
        MqttOptions(kinds=kinds)  # type: ignore[arg-type]


@pytest.mark.parametrize("events", ["ended", FlowEnded, ("ended",), (), 3])
def test_events_that_are_none(events: object) -> None:
    with pytest.raises(OptionError, match="one or more of FlowStarted, FlowEstablished"):
        FlowOptions(events=events)  # type: ignore[arg-type]
