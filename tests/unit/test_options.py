"""Options are checked where they are made; the error names the option and the rule."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

from netring_bpf import (
    BusyPoll,
    Capture,
    FlowOptions,
    Netring,
    TpacketOptions,
    XdpMode,
    XdpOptions,
)
from netring_bpf.errors import OptionError
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.ring.options import PRESETS as PRESETS_BY_NAME
from netring_bpf.ring.options import Preset, TpacketChanges, XdpChanges
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
    (XdpOptions, "chunks", 32),
    (XdpOptions, "threads", 0),
    (XdpOptions, "cpus", (0, 1)),  # of one thread
    (XdpOptions, "cpus", (-1,)),
    (BusyPoll, "microseconds", 0),
    (BusyPoll, "budget", 513),
    (XdpOptions, "chunks", 40_000),
    (TpacketOptions, "block_size", 4096),
    (TpacketOptions, "block_size", 100_000),
    (TpacketOptions, "block_count", 1),
    (TpacketOptions, "threads", 65),
    (TpacketOptions, "cpus", ()),
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


@pytest.mark.parametrize(
    "options", [XdpOptions, TpacketOptions, BusyPoll, FlowOptions, MqttOptions]
)
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
    assert flow.max_flows is None  # 100,000 in a live capture, and what a file needs
    xdp = XdpOptions()
    assert (xdp.ring_size, xdp.chunks, xdp.chunk_size) == (None, None, None)
    assert (xdp.threads, xdp.symmetric_rss, xdp.cpus) == (1, False, None)
    assert (xdp.huge_pages, xdp.busy_poll) == (False, None)
    assert (xdp.queues, xdp.mode) == (None, None)
    assert {mode.value for mode in XdpMode} == {"native", "generic"}


@pytest.mark.parametrize("make", [Capture, Netring])
def test_an_unknown_backend_is_refused_with_the_known_ones(make: type) -> None:
    with pytest.raises(OptionError, match="auto, af_xdp, tpacket_v3") as caught:
        make("eth0", backend="pcap")
    assert caught.value.option == "backend"


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError) as caught:
        TextEncoder("xml")
    assert str(caught.value) == (
        "format='xml': must be one of json, zeek, zeek-json, eve, csv, zeek-ssl, zeek-http, "
        "zeek-dns, zeek-quic, zeek-dhcp, zeek-ssh"
    )
    assert caught.value.option == "format"


def test_fewer_chunks_than_descriptors_are_refused() -> None:
    with pytest.raises(OptionError, match="a power of two from ring_size") as caught:
        XdpOptions(ring_size=16_384, chunks=8192)
    assert caught.value.option == "chunks"


def test_several_threads_of_af_xdp_need_the_user_s_word_that_rss_is_symmetric() -> None:
    with pytest.raises(OptionError, match="ethtool -X DEV xfrm symmetric-xor") as caught:
        XdpOptions(threads=2)
    assert caught.value.option == "threads"
    assert "two halves of a flow" in str(caught.value)
    assert XdpOptions(threads=2, symmetric_rss=True, cpus=(0, 1)).threads == 2


def changed(options: object, default: object) -> dict[str, object]:
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
        if getattr(options, field.name) != getattr(default, field.name)
    }


PRESETS = {
    XdpOptions.throughput: {"ring_size": 32_768, "huge_pages": True},
    XdpOptions.latency: {"busy_poll": BusyPoll(microseconds=200, budget=64)},
    XdpOptions.small_memory: {"ring_size": 1024, "chunks": 2048, "chunk_size": 2048},
    TpacketOptions.throughput: {"block_count": 128, "retire_timeout": 0.05},
    TpacketOptions.latency: {"block_size": 65_536, "block_count": 256, "retire_timeout": 0.001},
    TpacketOptions.small_memory: {"block_size": 1 << 18, "block_count": 16},
}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__qualname__)
def test_a_preset_sets_what_the_documentation_says_and_nothing_else(preset: Any) -> None:
    assert changed(preset(), type(preset())()) == PRESETS[preset]


def test_a_preset_can_be_told_otherwise() -> None:
    options = XdpOptions.throughput(huge_pages=False, queues=(1,))
    assert changed(options, XdpOptions.throughput()) == {"huge_pages": False, "queues": (1,)}
    assert TpacketOptions.latency(threads=2, retire_timeout=0.002).retire_timeout == 0.002
    with pytest.raises(OptionError):
        XdpOptions.small_memory(ring_size=4096)  # more than its chunks


@pytest.mark.parametrize("options", [XdpOptions, TpacketOptions])
@pytest.mark.parametrize("name", PRESETS_BY_NAME)
def test_a_preset_can_be_had_by_its_name(options: Any, name: Preset) -> None:
    method = name.replace("-", "_")
    expected = options() if name == "default" else getattr(options, method)()
    assert options.preset(name) == expected
    assert options.preset(name, threads=1, cpus=(3,)).cpus == (3,)


@pytest.mark.parametrize("options", [XdpOptions, TpacketOptions])
def test_an_unknown_preset_is_refused_with_the_known_ones(options: Any) -> None:
    with pytest.raises(OptionError) as caught:
        options.preset("fast")
    rule = "must be one of default, throughput, latency, small-memory"
    assert str(caught.value) == f"preset='fast': {rule}"
    assert caught.value.option == "preset"


@pytest.mark.parametrize(
    ("options", "changes"), [(XdpOptions, XdpChanges), (TpacketOptions, TpacketChanges)]
)
def test_the_keywords_of_a_preset_are_the_fields_of_the_options(
    options: type, changes: type
) -> None:
    fields = {field.name for field in dataclasses.fields(options)}
    types = get_type_hints(options)
    assert get_type_hints(changes) == {name: types[name] for name in fields}
