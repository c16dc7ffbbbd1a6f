"""Text made in C is, byte for byte, what formatters in Python make of the decoded events."""

from __future__ import annotations

import ipaddress
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netring_bpf import FlowEnded, FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.events.batch import EventBatch
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.json import encode_event
from netring_bpf.ring.reader import Reader
from tests.support.formatters import IN_PYTHON, text_in_python
from tests.support.paths import ORACLES
from tests.support.replay import replay_file
from tests.support.sizes import size

SALT = "the salt \udcff"
NUMBERS = st.integers(0, 2**62)  # sums of two still fit
SMALL = st.integers(0, 2**32 - 1)
PORTS = st.integers(0, 65535)
ADDRESSES = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from([0, 0, 1, 0xFF, 0x100, 0xFFFF]), min_size=8, max_size=8).map(
        lambda groups: b"".join(group.to_bytes(2) for group in groups)
    ),
    st.binary(min_size=4, max_size=4).map(lambda end: bytes(10) + b"\xff\xff" + end),
    st.binary(min_size=4, max_size=4).map(lambda end: bytes(12) + end),
)
TIMES = st.one_of(
    NUMBERS,
    st.integers(0, 10**6),
    st.integers(10**14, 10**17),
    st.integers(0, 10**10).map(lambda n: n * 10**8),
    st.integers(10**18, 2 * 10**18),
)
SIDES = st.fixed_dictionaries(
    {
        **dict.fromkeys(
            ("packets", "bytes", "ip_bytes", "payload", "first_ts", "rtt_ns", "missing_bytes"),
            st.one_of(st.just(0), NUMBERS),
        ),
        **dict.fromkeys(
            (
                "retransmitted",
                "out_of_order",
                "gaps",
                "zero_windows",
                "bad_checksums",
                "implausible",
                "fragments",
            ),
            st.one_of(st.just(0), SMALL),
        ),
        "last_ts": TIMES,
        "tcp_state": st.integers(0, lib.NR_STATE_RESET),
        "tcp_flags": st.integers(0, 255),
        "fin_acked": st.integers(0, 1),
    }
)
NATIVE_EVENTS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("ts", "flow_id"), NUMBERS),
        "start_ts": TIMES,
        "parent_id": st.sampled_from([0, 1, 2**62]),
        "orig": SIDES,
        "resp": SIDES,
        **dict.fromkeys(("orig_h", "resp_h", "tunnel_orig_h", "tunnel_resp_h"), ADDRESSES),
        "tunnel_id": SMALL,
        **dict.fromkeys(("tunnel_orig_p", "tunnel_resp_p", "icmp_id"), PORTS),
        "orig_p": st.one_of(PORTS, st.integers(0, 150)),
        "resp_p": PORTS,
        "vlan": st.lists(st.sampled_from([lib.NR_NO_VLAN, 0, 1, 4094]), min_size=2, max_size=2),
        "family": st.sampled_from([4, 6, 0]),
        "proto": st.one_of(st.integers(0, 255), st.sampled_from([1, 6, 17, 58, 132])),
        "kind": st.integers(lib.NR_EVENT_STARTED, lib.NR_EVENT_ENDED),
        "end_reason": st.integers(lib.NR_END_FIN, lib.NR_END_REUSED),
        "tunnel_kind": st.integers(0, lib.NR_TUNNEL_AYIYA),
        "tunnel_family": st.sampled_from([4, 6]),
        "network": st.one_of(st.just(0), SMALL),
        "icmp_errors": st.one_of(st.just(0), SMALL),
        **dict.fromkeys(("icmp_error_type", "icmp_error_code"), st.integers(0, 255)),
        "one_sided": st.integers(0, 1),
        "history": st.text("^SHADFRGICTQWsahdfrgictqw", max_size=40).map(str.encode),
    }
)


@pytest.fixture(scope="module")
def layout() -> object:
    """The layout of a reader whose events have nothing behind them."""
    with Reader(FlowOptions()) as reader:
        return reader.take(1)._layout


def batch_of(natives: Iterable[dict[str, object]], layout: object) -> EventBatch:
    events = ffi.new("nr_event[]", list(natives))
    return EventBatch(bytes(ffi.buffer(events)), layout, len(events))  # type: ignore[arg-type]


def side_names(size: int) -> list[str]:
    """The fields of a side that are integers of so many bytes."""
    return [
        name for name, field in ffi.typeof("nr_event_side").fields if ffi.sizeof(field.type) == size
    ]


def captures() -> list[Path]:
    return sorted(
        path for path in ORACLES.rglob("*") if path.name.endswith((".pcap", ".pcapng", ".cap"))
    )


def test_the_table_has_the_formats_of_c() -> None:
    numbers = [TextEncoder(name)._options.format for name in FORMATS]
    in_c = [getattr(lib, name) for name in dir(lib) if name.startswith("NR_FORMAT_")]
    assert sorted(numbers) == sorted(in_c)


def test_headers_name_the_fields_of_the_lines(layout: object) -> None:
    batch = batch_of([{"kind": lib.NR_EVENT_ENDED, "end_reason": lib.NR_END_FIN}], layout)
    for name, separator in (("zeek", b"\t"), ("csv", b",")):
        *_, header = (
            line for line in FORMATS[name].header.splitlines() if not line.startswith(b"#types")
        )
        fields = header.removeprefix(b"#fields\t").split(separator)
        assert len(fields) == len(TextEncoder(name).encode(batch).split(separator)), name


@pytest.mark.requires("oracles")
@pytest.mark.parametrize(
    "options",
    [
        FlowOptions(update_interval=0.5),
        FlowOptions(packet_statistics=True, first_packets=3, verify_checksums=True),
    ],
    ids=["updates", "details"],
)
def test_the_events_of_every_capture_are_the_same_text(options: FlowOptions) -> None:
    events = 0
    for path in size(captures()[::2], captures()):
        for batch in replay_file(path, options).batches:
            assert isinstance(batch, EventBatch)
            events += len(batch)
            for name in IN_PYTHON:
                # test_eve.py has Suricata's events of exchanges.
                kinds = (FlowEnded,) if name == "eve" else None
                made = TextEncoder(name, salt=SALT, kinds=kinds).encode(batch)
                assert made == text_in_python(name, batch, salt=SALT), (path, name)
    assert events > 500


@given(natives=st.lists(NATIVE_EVENTS, min_size=1, max_size=3), seq=st.none() | NUMBERS)
def test_any_events_are_the_same_text(
    layout: object, natives: list[dict[str, object]], seq: int | None
) -> None:
    batch = batch_of(natives, layout)
    for name in IN_PYTHON:
        for short in (False, True):
            made = TextEncoder(name, salt=SALT, seq=seq, compress_ipv6=short).encode(batch)
            assert made == text_in_python(name, batch, salt=SALT, seq=seq, compress_ipv6=short)


@given(TIMES)
@example(10**15 - 1)
@example(10**15)
@example(99_999)
@example(100_000)
@example(2**63)
def test_seconds_are_python_s(layout: object, ns: int) -> None:
    side = {"last_ts": ns}
    native = {"start_ts": 0, "orig": side, "kind": lib.NR_EVENT_ENDED, "end_reason": 1}
    batch = batch_of([native, native | {"start_ts": ns}], layout)
    for name in ("zeek", "zeek-json"):
        made = TextEncoder(name, salt=SALT).encode(batch)
        assert made == text_in_python(name, batch, salt=SALT)


@given(ADDRESSES)
def test_an_address_is_the_shortest_there_is(layout: object, packed: bytes) -> None:
    native = {"family": 6, "orig_h": packed, "kind": lib.NR_EVENT_STARTED}
    text = json.loads(TextEncoder("json").encode(batch_of([native], layout)))["orig_addr"]
    assert ipaddress.ip_address(text).packed == packed
    mapped = ipaddress.IPv6Address(packed).ipv4_mapped
    assert text == (f"::ffff:{mapped}" if mapped else str(ipaddress.IPv6Address(packed)))


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_the_names_of_a_capture_and_of_its_interface_may_be_any_text(
    layout: object, name: str
) -> None:
    native = {"kind": lib.NR_EVENT_STARTED}
    batch = batch_of([native], layout)
    for names in ({"capture": name}, {"interface": name}, {"capture": "c", "interface": name}):
        made = TextEncoder("json", seq=7, **names).encode(batch)
        assert made == text_in_python("json", batch, seq=7, **names)
        record = json.loads(made)
        assert {key: record.get(key) for key in names} == names


def test_an_interface_whose_name_is_no_text_is_named_in_ascii(layout: object) -> None:
    batch = batch_of([{"kind": lib.NR_EVENT_STARTED}], layout)
    made = TextEncoder("json", interface="eth\udcff").encode(batch)
    assert made == text_in_python("json", batch, interface="eth\udcff")
    assert json.loads(made)["interface"] == "eth\\udcff"


def test_records_can_be_told_apart_and_are_numbered_over_batches(layout: object) -> None:
    started, ended = lib.NR_EVENT_STARTED, lib.NR_EVENT_ENDED
    natives = [{"flow_id": i, "kind": ended if i % 2 else started} for i in range(6000)]
    batch = batch_of(natives, layout)
    encoder = TextEncoder("json", kinds=(FlowEnded,), terminator=b"", capture="c", seq=100)
    text = encoder.encode_records(batch)
    records = text.records()
    assert b"".join(records) == text.data
    assert len(text.data) > 1 << 19  # more than is made at once
    assert [json.loads(record)["id"] for record in records] == list(range(1, 6000, 2))
    assert [json.loads(record)["seq"] for record in records] == list(range(100, 3100))
    assert encoder.seq == 3100
    assert encoder.encode_records(batch_of(natives[:1], layout)) == (b"", [])
    assert json.loads(encoder.encode(batch_of(natives[1:2], layout)))["seq"] == 3100


def test_text_of_several_parts_is_whole(layout: object) -> None:
    batch = batch_of(
        [{"flow_id": i, "kind": 1 + i % 4, "end_reason": 1} for i in range(6000)], layout
    )
    parts = [bytes(part) for part in TextEncoder("json").pieces(batch)]
    whole = b"".join(encode_event(event) + b"\n" for event in batch)
    assert len(parts) > 1
    assert b"".join(parts) == TextEncoder("json").encode(batch) == whole


def test_parts_of_a_batch_are_encoded_by_themselves(layout: object) -> None:
    natives = [{"flow_id": i, "kind": 1 + i % 4, "end_reason": 1} for i in range(1000)]
    batch = batch_of(natives, layout)
    for part in (batch[10:20], batch[::-3], batch[5:5], batch.of_kinds(FlowEnded), batch):
        records = TextEncoder("json").encode_records(part).records()
        assert records == [encode_event(event) + b"\n" for event in part]


def test_the_room_for_a_record_is_enough(layout: object) -> None:
    side = dict.fromkeys(side_names(8), 2**64 - 1)
    side |= dict.fromkeys(side_names(4), 2**32 - 1) | {"tcp_flags": 255, "fin_acked": 1}
    longest: dict[str, object] = {
        **dict.fromkeys(("ts", "flow_id", "parent_id"), 2**64 - 1), "start_ts": 0,
        "orig": side | {"tcp_state": 2}, "resp": side | {"tcp_state": 2},
        "tunnel_orig_h": b"\xff" * 16, "tunnel_resp_h": b"\xff" * 16, "tunnel_family": 6,
        "one_sided": 1, "icmp_error_type": 255, "icmp_error_code": 255,
        **dict.fromkeys(("orig_h", "resp_h"), b"\xff" * 16), "family": 6,
        **dict.fromkeys(("tunnel_id", "network", "icmp_errors"), 2**32 - 1), "orig_p": 65535,
        "resp_p": 65535, "vlan": [4094, 4094], "icmp_id": 65535, "kind": lib.NR_EVENT_ENDED,
        "end_reason": lib.NR_END_SHUTDOWN, "tunnel_kind": lib.NR_TUNNEL_GENEVE,
        "history": b"S" * 40,
    }  # fmt: skip
    for name, proto in itertools.product(FORMATS, (6, 58)):
        encoder = TextEncoder(name, seq=2**64 - 2)
        made = encoder.encode(batch_of([longest | {"proto": proto}], layout))
        assert len(made) < lib.nr_text_room(encoder._options) / 1.2
