"""Every class of events has one record, whichever way it leaves the program."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from netring_bpf import (
    App,
    AppEvent,
    BackendChanged,
    CaptureError,
    Device,
    DeviceAddress,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Event,
    FlowEstablished,
    FlowUpdated,
    Health,
    Lagged,
    LinkDown,
    LinkUp,
    NeighbourBy,
    NeighbourSeen,
    NetringError,
    SinkError,
    SinkFailed,
    StatsUpdated,
    Sums,
    TlsDetails,
    Top,
    TopRow,
    Traffic,
)
from netring_bpf.formats.json import encode_event
from tests.support.events import ended, flow, started
from tests.support.paths import ROOT

TS = 1_700_000_000_000_000_001
HOSTILE = 'x\x1b[2J"\x9b\n\udcff'
TOP = Top(hosts=(TopRow("192.0.2.1", HOSTILE, 1, 2, 3, 2**63, 4),))
DEVICE = Device(
    mac="02:00:00:00:00:0a",
    first=TS,
    last=TS,
    addresses=(DeviceAddress(ipaddress.ip_address("192.0.2.1"), TS, TS),),
)
EVENTS: list[Event] = [
    started(1),
    FlowEstablished(TS, flow(2)),
    FlowUpdated(TS, flow(3)),
    ended(4),
    AppEvent(TS, flow(5), App("tls", name="www.example.org", details=TlsDetails())),
    NeighbourSeen(TS, ipaddress.ip_address("fe80::1"), DEVICE.mac, NeighbourBy.ROUTER, (7,)),
    DeviceSeen(TS, DEVICE),
    DeviceChanged(TS, DEVICE, ("name",)),
    DeviceGone(TS, DEVICE, "silent"),
    StatsUpdated(TS, HOSTILE, 1, TS - 1, Traffic(Sums(1, 2**63, 3)), TOP, Traffic(), TOP, Health()),
    LinkDown(TS, HOSTILE),
    LinkUp(TS, HOSTILE),
    BackendChanged(TS, HOSTILE, "tpacket_v3", HOSTILE),
    CaptureError(TS, NetringError(HOSTILE)),
    SinkFailed(TS, HOSTILE, SinkError(HOSTILE)),
    Lagged(TS, 2**63),
]


def test_no_class_is_left_out() -> None:
    assert [type(event) for event in EVENTS] == list(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_record_is_the_same_by_each_way(event: Event) -> None:
    record = event.to_dict()
    assert list(record)[:2] == ["event", "ts"]
    assert json.loads(event.to_json()) == record
    assert encode_event(event) == event.to_json().encode()
    assert json.loads(encode_event(event, interface="e", capture="c", seq=1)) == (
        {"interface": "e"} | record | {"capture": "c", "seq": 1}
    )


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_text_is_one_line_that_no_terminal_obeys_and_every_reader_keeps(event: Event) -> None:
    text = event.to_json()
    assert text.isprintable()
    assert text.encode()  # it is UTF-8
    assert max(map(int, re.findall(r"(?<![\d.\"])\d{15,}(?![\d.\"])", text)), default=0) < 2**53


def test_the_page_names_the_record_of_each_class() -> None:
    page = Path(ROOT / "docs" / "events.md").read_text()
    sentence = re.search(r"^`event` is (.*?)\. Every object", page, re.DOTALL | re.MULTILINE)
    assert sentence is not None
    assert re.findall(r"`(\w+)`", sentence[1]) == [str(e.to_dict()["event"]) for e in EVENTS]
