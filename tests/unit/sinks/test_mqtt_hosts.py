"""A host that cannot be looked up is refused when the sink is made, not when it connects."""

from __future__ import annotations

import pytest

from netring_bpf import FlowEnded, FlowOptions, MqttOptions, MqttSink
from netring_bpf.errors import OptionError, SinkError


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


@pytest.mark.parametrize("kinds", ["ended", ("ended",), int])
def test_kinds_that_are_no_events(kinds: object) -> None:
    with pytest.raises(OptionError, match="the classes are FlowStarted, FlowEstablished"):
        MqttOptions(kinds=kinds)  # type: ignore[arg-type]


@pytest.mark.parametrize("events", ["ended", FlowEnded, ("ended",), (), 3])
def test_events_that_are_none(events: object) -> None:
    with pytest.raises(OptionError, match="one or more of FlowStarted, FlowEstablished"):
        FlowOptions(events=events)  # type: ignore[arg-type]
