"""One table of names for the record of an event, whichever way it leaves the program."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netring_bpf import EventBatch, FlowEnded, FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.events.fields import DERIVED, FLAT, MEASURED, RECORD, SECONDS, TIMES
from netring_bpf.events.layout import Layout
from netring_bpf.events.plain import count, time_text
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.csv import cell
from netring_bpf.formats.json import encode_event
from tests.support.apps import EXAMPLES, app_batch
from tests.support.frames import tcp, udp
from tests.support.replay import START, Frame, one_batch
from tests.unit.events.test_columns import FULL, frames

EVENTS_PAGE = Path(__file__).resolve().parents[3] / "docs" / "events.md"
PLAIN = FlowOptions(update_interval=None, one_sided=True, verify_checksums=True)
MOST = 2**53 - 1
A, B = "10.7.0.1", "10.7.0.2"


def spoilt(frame: bytes) -> bytes:
    """The frame with its last byte changed, so that its checksum is wrong."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def cut(frame: bytes) -> bytes:
    """The frame with its packet marked as a first fragment, under the checksum of before."""
    return frame[:20] + b"\x20\0" + frame[22:]


def trouble() -> list[bytes]:
    """A connection with each kind of trouble that a side's counters count, on both sides."""
    made = [tcp(A, B, 1, 2, flags="S", seq=9), tcp(B, A, 2, 1, flags="SA", seq=9, ack=10)]
    for src, dst, sport, dport in ((A, B, 1, 2), (B, A, 2, 1)):
        part = {"flags": "PA", "ack": 10}
        made += [
            tcp(src, dst, sport, dport, b"x" * 50, seq=10, **part),  # type: ignore[arg-type]
            tcp(src, dst, sport, dport, b"x" * 50, seq=10, **part),  # type: ignore[arg-type]
            tcp(src, dst, sport, dport, b"x" * 50, seq=110, **part),  # type: ignore[arg-type]
            tcp(src, dst, sport, dport, b"x" * 50, seq=60, **part),  # type: ignore[arg-type]
            tcp(src, dst, sport, dport, flags="A", seq=160, ack=10, window=0),
            tcp(src, dst, sport, dport, b"x" * 50, seq=260, **part),  # type: ignore[arg-type]
            spoilt(tcp(src, dst, sport, dport, b"x" * 50, seq=310, **part)),  # type: ignore[arg-type]
            tcp(src, dst, sport, dport, b"x" * 50, seq=10**9, **part),  # type: ignore[arg-type]
        ]
    return [
        *made,
        tcp(A, B, 1, 2, flags="A", seq=310, ack=310),
        tcp(B, A, 2, 1, flags="A", seq=310, ack=310),
        tcp(A, B, 1, 2, flags="FA", seq=310, ack=310),
        tcp(B, A, 2, 1, flags="FA", seq=310, ack=311),
        tcp(A, B, 1, 2, flags="A", seq=311, ack=311),
        cut(udp(A, B, 1, 2, bytes(8))),
        cut(udp(B, A, 2, 1, bytes(8))),
    ]


def batch_of(options: FlowOptions) -> EventBatch:
    every = [*frames(), *trouble()]
    return one_batch((Frame(f, START + n * 1_234_567) for n, f in enumerate(every)), options)


def native(**fields: object) -> EventBatch:
    event = ffi.new("nr_event *", fields)
    return EventBatch(bytes(ffi.buffer(event)), Layout(ffi.sizeof("nr_event"), False, 0), 1)


def _named() -> tuple[dict[str, object], bytes]:
    fields, record = EXAMPLES["tls"]
    return fields | {"kind": lib.NR_EVENT_ENDED}, record


@pytest.mark.parametrize(("options", "names"), [(PLAIN, RECORD), (FULL, (*RECORD, *MEASURED))])
def test_a_record_has_the_names_of_the_table_in_its_order(
    options: FlowOptions, names: tuple[str, ...]
) -> None:
    records = [event.to_dict() for event in batch_of(options)]
    for record in records:
        assert list(record) == [name for name in names if name in record]
    if options is PLAIN:  # the ICMP error has no checksum
        records += [event.to_dict() for event in batch_of(FlowOptions(update_interval=None))]
        records += [event.to_dict() for event in app_batch([_named()])]
        assert set().union(*records) == set(names)


@pytest.mark.parametrize("options", [PLAIN, FULL])
def test_the_json_of_c_and_of_an_event_is_its_dictionary(options: FlowOptions) -> None:
    batch = batch_of(options)
    for encoder in (TextEncoder("json"), TextEncoder("json", terminator=b"")):
        made = [record.decode() for record in encoder.encode_records(batch).records()]
        assert [json.loads(text) for text in made] == [event.to_dict() for event in batch]
        assert [text.rstrip("\n") for text in made] == [event.to_json() for event in batch]
        assert encoder.encode(batch).decode() == "".join(made)


@pytest.mark.parametrize("options", [PLAIN, FULL])
def test_records_of_a_sink_have_three_more_names(options: FlowOptions) -> None:
    batch = batch_of(options).of_kinds(FlowEnded)
    names = {"interface": "eth0", "capture": "c"}
    encoder = TextEncoder("json", seq=7, interface="eth0", capture="c")
    made = encoder.encode_records(batch).records()
    for seq, (text, event) in enumerate(zip(made, batch, strict=True), 7):
        assert json.loads(text) == event.to_dict() | names | {"seq": seq}
        assert text == encode_event(event, seq=seq, **names) + b"\n"


def test_arrow_has_the_table_s_columns() -> None:
    assert batch_of(PLAIN).to_arrow().schema.names == list(FLAT)
    assert batch_of(FULL).to_arrow().schema.names == [*FLAT, *MEASURED]


def test_columns_are_those_of_the_table_that_an_event_in_memory_has() -> None:
    names = set(batch_of(PLAIN).columns().dtype.names or ())
    assert names == set(RECORD) - DERIVED | {
        "family", "tunnel_family", "first_packet_count", "has_macs", "app_at", "app_size",
    }  # fmt: skip


def test_comma_separated_values_have_the_table_s_columns() -> None:
    header = FORMATS["csv"].header.decode().strip().split(",")
    assert header == [*FLAT, "interface"]
    batch = batch_of(PLAIN).of_kinds(FlowEnded)
    text = TextEncoder("csv").encode(batch).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline=""), header))
    for row, event in zip(rows, batch, strict=True):
        shown = {
            name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in event.to_dict().items()
        }
        shown = {name: "true" if value == "True" else value for name, value in shown.items()}
        assert {name: row[name] for name in shown} == shown
        assert {row[name] for name in FLAT if name not in shown} <= {"", "0"}


def test_the_page_explains_each_name() -> None:
    page = EVENTS_PAGE.read_text()
    table = page.partition("## The record")[2].partition("\n##")[0]
    named = [
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`([a-z0-9_…]+)`", row)
    ]
    sides = ("orig", "resp")
    told = [
        full
        for name in named
        for full in ([name.replace("…", side) for side in sides] if "…" in name else [name])
    ]
    assert sorted(told) == sorted((*RECORD, *MEASURED))


def test_times_are_text_and_durations_seconds() -> None:
    for event in batch_of(FULL):
        for name, value in event.to_dict().items():
            if name in TIMES:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", str(value)), name
            elif name in SECONDS and name != "first_packet_gaps":
                assert isinstance(value, float)
                assert 0 <= value < 1
            elif isinstance(value, int):
                assert value <= MOST


@given(st.integers(0, 2**64 - 1))
def test_a_time_is_written_to_its_nanosecond(ns: int) -> None:
    second, rest = divmod(ns, 10**9)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)
    expected = f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    assert time_text(ns) == expected
    batch = native(ts=ns, start_ts=ns, kind=lib.NR_EVENT_STARTED, family=4)
    record = json.loads(TextEncoder("json").encode(batch))
    assert record["ts"] == record["start"] == record["last"] == expected


def test_times_of_one_batch_do_not_mix() -> None:
    seconds = [0, 64, 128, 64, 0, 86_399, 86_400, 951_782_400, 4_107_542_400, 64]
    events = ffi.new("nr_event[]", [{"ts": s * 10**9 + 1, "kind": 1, "family": 4} for s in seconds])
    layout = Layout(ffi.sizeof("nr_event"), False, 0)
    batch = EventBatch(bytes(ffi.buffer(events)), layout, len(seconds))
    made = TextEncoder("json").encode_records(batch).records()
    assert [json.loads(text)["ts"] for text in made] == [time_text(s * 10**9 + 1) for s in seconds]


def integers(value: object) -> list[int]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in integers(item)]
    if isinstance(value, list):
        return [number for item in value for number in integers(item)]
    return [value] if type(value) is int else []


@pytest.mark.parametrize("name", ["json", "eve"])
@pytest.mark.parametrize("proto", [1, 6, 17])
def test_no_integer_is_above_those_that_every_reader_of_json_keeps(name: str, proto: int) -> None:
    side = {
        name: 2 ** (8 * ffi.sizeof(field.type)) - 1
        for name, field in ffi.typeof("nr_event_side").fields
        if name not in {"tcp_state", "fin_acked", "reserved"}
    }
    batch = native(
        ts=2**64 - 1, flow_id=2**64 - 1, parent_id=2**64 - 1, tunnel_kind=lib.NR_TUNNEL_GRE,
        tunnel_family=4, family=4, kind=lib.NR_EVENT_ENDED, end_reason=1, orig=side, resp=side,
        proto=proto, network=2**32 - 1, icmp_errors=2**32 - 1,
    )  # fmt: skip
    record = json.loads(TextEncoder(name, seq=2**64 - 2, salt="s").encode(batch))
    assert max(integers(record)) <= MOST
    if name == "json":
        assert record["orig_packets"] == record["seq"] == count(2**64) == MOST
        assert record == {**batch[0].to_dict(), "seq": MOST}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_of_text_is_no_formula(first: str) -> None:
    made = cell(f'{first}1+1,"x"')
    [[read]] = csv.reader(io.StringIO(made, newline=""))
    assert read == f'\'{first}1+1,"x"'
    assert cell(f"{first}x").lstrip('"').startswith("'")


def test_an_interface_s_name_is_guarded_and_quoted() -> None:
    batch = one_batch([udp(A, B, 1, 2)]).of_kinds(FlowEnded)
    for name, shown in (
        ("eth0", "eth0"), ("=1+1", "'=1+1"), ("a,b", "a,b"), ('-"x"', "'-\"x\""),
        ("\udcff", "\\udcff"), ("e=1", "e=1"),
    ):  # fmt: skip
        text = TextEncoder("csv", interface=name).encode(batch).decode()
        [row] = csv.reader(io.StringIO(text, newline=""))
        assert (len(row), row[-1]) == (len(FLAT) + 1, shown)


def test_no_other_cell_begins_a_formula() -> None:
    text = TextEncoder("csv").encode(batch_of(PLAIN)).decode()
    cells = [each for row in csv.reader(io.StringIO(text, newline="")) for each in row]
    assert len(cells) > 500
    assert [each for each in cells if each.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
