"""Options are checked where they are made; the error names the option and the rule."""

from __future__ import annotations

import dataclasses

import pytest

from netring_bpf import Capture, FlowOptions, Netring, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.errors import OptionError
from netring_bpf.sinks.mqtt_options import MqttOptions

WRONG = [
    (XdpOptions, "queues", ()),
    (XdpOptions, "queues", (0, 0)),
    (XdpOptions, "queues", (64,)),
    (XdpOptions, "queues", (-1,)),
    (XdpOptions, "ring_size", 1000),
    (XdpOptions, "ring_size", 32),
    (XdpOptions, "chunk_size", 1024),
    (XdpOptions, "chunk_size", 8192),
    (XdpOptions, "chunks", 8192),  # fewer than the ring's descriptors
    (XdpOptions, "chunks", 40_000),
    (TpacketOptions, "block_size", 4096),
    (TpacketOptions, "block_size", 100_000),
    (TpacketOptions, "block_count", 1),
    (TpacketOptions, "retire_timeout", 0.0),
    (TpacketOptions, "retire_timeout", float("nan")),
    (FlowOptions, "idle_tcp", 0.0),
    (FlowOptions, "idle_udp", -1.0),
    (FlowOptions, "idle_other", float("inf")),
    (FlowOptions, "close_delay", -0.1),
    (FlowOptions, "update_interval", 0.0),
    (FlowOptions, "max_flows", 0),
    (MqttOptions, "qos", 2),
    (MqttOptions, "node", ""),
    (MqttOptions, "node", "a\0b"),
    (MqttOptions, "prefix", ""),
    (MqttOptions, "prefix", "a/+/b"),
    (MqttOptions, "prefix", "#"),
    (MqttOptions, "batch_flows", 0),
    (MqttOptions, "batch_bytes", 10),
    (MqttOptions, "flush_interval", -1.0),
    (MqttOptions, "outbox", 0),
    (MqttOptions, "keepalive", 0),
    (MqttOptions, "reconnect_max", 0.0),
    (MqttOptions, "drain_timeout", -1.0),
]


@pytest.mark.parametrize(("options", "name", "value"), WRONG)
def test_a_wrong_value_is_named(options: type, name: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        options(**{name: value})
    assert caught.value.option == name
    assert str(caught.value).startswith(f"{name}={value!r}: must be ")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("options", [XdpOptions, TpacketOptions, FlowOptions, MqttOptions])
def test_options_are_frozen_and_compare_by_value(options: type) -> None:
    one, other = options(), options()
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(one, dataclasses.fields(one)[0].name, None)


def test_the_defaults_are_those_of_the_documentation() -> None:
    flow = FlowOptions()
    assert (flow.idle_tcp, flow.idle_udp, flow.idle_other) == (300.0, 60.0, 60.0)
    assert (flow.half_open, flow.close_delay) == (5.0, 5.0)
    assert flow.max_flows == 100_000
    xdp = XdpOptions()
    assert (xdp.ring_size, xdp.chunks, xdp.chunk_size) == (16_384, 32_768, 2048)
    assert (xdp.queues, xdp.mode) == (None, None)
    assert {mode.value for mode in XdpMode} == {"native", "generic"}


@pytest.mark.parametrize("make", [Capture, Netring])
def test_an_unknown_backend_is_refused_with_the_known_ones(make: type) -> None:
    with pytest.raises(OptionError, match="auto, af_xdp, tpacket_v3") as caught:
        make("eth0", backend="pcap")
    assert caught.value.option == "backend"
