"""The JSON that leaves the process: its fields are a promise to those who read it."""

from __future__ import annotations

import ipaddress
import json
from urllib.parse import unquote

import pytest

from netring_bpf import (
    BackendChanged,
    CaptureError,
    Counters,
    Endpoint,
    Event,
    FiveTuple,
    Flow,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    FlowUpdated,
    Lagged,
    LinkDown,
    LinkUp,
    NetringError,
    SinkFailed,
)
from netring_bpf.errors import SinkError
from netring_bpf.formats.json import encode_event
from netring_bpf.sinks.topic import topic_level
from tests.support.events import ended, flow, started

_PING = Flow(
    id=7,
    key=FiveTuple(
        proto=58,
        orig=Endpoint(ipaddress.ip_address("2001:db8::1").packed, 128),
        resp=Endpoint(ipaddress.ip_address("2001:db8::2").packed, 0),
        vlans=(100, 4094),
        icmp_id=0x1234,
    ),
    start=1_700_000_000_000_000_001,
    last=1_700_000_000_000_000_002,
    orig=Counters(1, 70),
    resp=Counters(2**40, 2**63),
    history="",
)


def test_an_end_has_every_field_in_order() -> None:
    assert (
        encode_event(ended(7), interface="eth1", capture="c0ffee", seq=9)
        == (
            b'{"event":"ended","ts":"1970-01-01T00:00:00.000000017Z","id":7,"proto":"tcp",'
            b'"orig_addr":"10.0.0.1","orig_port":7,"resp_addr":"10.0.0.2","resp_port":80,'
            b'"vlans":[],"start":"1970-01-01T00:00:00.000000007Z",'
            b'"last":"1970-01-01T00:00:00.000000012Z","duration":5e-09,'
            b'"orig_packets":3,"orig_bytes":307,"orig_ip_bytes":0,"orig_payload":0,'
            b'"orig_state":"inactive","orig_tcp_flags":0,'
            b'"resp_packets":2,"resp_bytes":200,"resp_ip_bytes":0,"resp_payload":0,'
            b'"resp_state":"inactive","resp_tcp_flags":0,'
            b'"history":"ShADd","conn_state":"OTH",'
            b'"community_id":"1:%b","reason":"fin",'
            b'"interface":"eth1","capture":"c0ffee","seq":9}'
        )
        % ended(7).flow.key.community_id().removeprefix("1:").encode()
    )


def test_icmp_has_its_identifier_and_no_number_is_above_what_readers_of_json_keep() -> None:
    assert json.loads(encode_event(FlowUpdated(5, _PING))) == {
        "event": "updated", "ts": "1970-01-01T00:00:00.000000005Z", "id": 7, "proto": "icmp6",
        "orig_addr": "2001:db8::1", "orig_port": 128, "resp_addr": "2001:db8::2", "resp_port": 0,
        "vlans": [100, 4094], "icmp_id": 0x1234,
        "start": "2023-11-14T22:13:20.000000001Z", "last": "2023-11-14T22:13:20.000000002Z",
        "duration": 1e-9,
        "orig_packets": 1, "orig_bytes": 70, "orig_ip_bytes": 0, "orig_payload": 0,
        "resp_packets": 2**40, "resp_bytes": 2**53 - 1, "resp_ip_bytes": 0, "resp_payload": 0,
        "history": "", "conn_state": "OTH", "community_id": "1:u2vMS3HiWth2lIMKHB1fjELshpQ=",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (FlowStarted(1, _PING), "started"),
        (FlowEstablished(1, _PING), "established"),
        (FlowUpdated(1, _PING), "updated"),
        (FlowEnded(1, _PING, FlowEnd.IDLE), "ended"),
    ],
)
def test_each_flow_event_has_its_name(event: Event, name: str) -> None:
    assert json.loads(encode_event(event))["event"] == name


@pytest.mark.parametrize("reason", list(FlowEnd))
def test_each_reason_is_said_in_its_word(reason: FlowEnd) -> None:
    assert json.loads(encode_event(FlowEnded(1, _PING, reason)))["reason"] == reason.value


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            LinkDown(1, "eth0"),
            {"event": "link_down", "interface": "eth0"},
        ),
        (
            BackendChanged(1, "eth0", "tpacket_v3", "why"),
            {
                "event": "backend_changed",
                "interface": "eth0",
                "backend": "tpacket_v3",
                "reason": "why",
            },
        ),
        (
            LinkUp(2, "eth0"),
            {"event": "link_up", "interface": "eth0"},
        ),
        (Lagged(3, 42), {"event": "lagged", "missed": 42}),
        (
            CaptureError(4, NetringError('it broke: "x"\n')),
            {
                "event": "error",
                "message": 'it broke: "x"\\x0a',
            },
        ),
        (
            SinkFailed(5, "mqtt://b:1883", SinkError("sink: no")),
            {
                "event": "sink_failed",
                "sink": "mqtt://b:1883",
                "message": "sink: no",
            },
        ),
        (
            LinkUp(6, "e\x1b[2J\x9b\x7f"),
            {
                "event": "link_up",
                "interface": "e\x1b[2J\x9b\x7f",
            },
        ),
        (
            LinkDown(1, "\udcff"),
            {"event": "link_down", "interface": "\\udcff"},
        ),
    ],
)
def test_what_is_no_flow(event: Event, expected: dict[str, object]) -> None:
    assert event.to_dict() == expected | {"ts": f"1970-01-01T00:00:00.00000000{event.ts}Z"}
    assert json.loads(encode_event(event)) == event.to_dict()
    assert encode_event(event) == event.to_json().encode()


def test_a_protocol_without_a_name_is_its_number() -> None:
    assert json.loads(encode_event(FlowStarted(1, flow(1, proto=253))))["proto"] == "253"


def test_no_character_of_a_name_that_a_terminal_obeys_is_in_the_text() -> None:
    assert encode_event(LinkUp(6, "e\x1b[2J\x9b\x7f")) == (
        b'{"event":"link_up","ts":"1970-01-01T00:00:00.000000006Z",'
        b'"interface":"e\\u001b[2J\\u009b\\u007f"}'
    )


def test_a_record_is_one_line() -> None:
    for event in (ended(1), started(1), CaptureError(1, NetringError("a\nb"))):
        assert b"\n" not in encode_event(event)


@pytest.mark.parametrize("name", ["eth0", "a+b", "a#b", "a/b", "$SYS", "ü", "a b", "%41", "\udcff"])
def test_any_name_is_one_topic_level_and_comes_back(name: str) -> None:
    level = topic_level(name)
    assert not set(level) & set("+#/$\0 ")
    assert unquote(level, errors="surrogateescape") == name


def test_an_empty_topic_level_is_refused() -> None:
    with pytest.raises(SinkError):
        topic_level("")
