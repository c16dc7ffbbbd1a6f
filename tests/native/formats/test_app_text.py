"""What application records hold: the same in C's text and in Python's values."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netring_bpf import AppEvent, EventBatch, FlowEnded
from netring_bpf._core import ffi, lib
from netring_bpf.events.app import (
    App,
    DhcpDetails,
    DnsAnswer,
    DnsDetails,
    HttpDetails,
    MqttDetails,
    SshDetails,
    TlsDetails,
    network_text,
)
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.apps import EXAMPLES, answer, app_batch, record_of
from tests.support.formatters import IN_PYTHON, text_in_python

ENDED, APP = lib.NR_EVENT_ENDED, lib.NR_EVENT_APP
FIELD_NUMBERS = sorted(getattr(lib, n) for n in dir(lib) if n.startswith("NR_FIELD_"))
TEXTS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=12).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from([b"", b"=1+1", b'"', b",", b"\\", b"\x1b[2J", "\u202egpj".encode(), b"\xc2"]),
)
ANSWERS = st.builds(
    answer, TEXTS, st.sampled_from([1, 5, 28, 65280]), st.integers(0, 2**32 - 1),
    st.one_of(TEXTS, st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    chained=st.booleans(),
)  # fmt: skip
VALUES = st.one_of(
    TEXTS, ANSWERS, st.integers(0, 2**32 - 1), st.integers(0, 300),
    st.sampled_from([0x0303, 0x0304, 0xFEFD, 0x1301, 0xC02F]),
    *(st.binary(min_size=n, max_size=n) for n in (4, 6, 16)),
)  # fmt: skip
RECORDS = st.lists(st.tuples(st.sampled_from(FIELD_NUMBERS), VALUES), max_size=12).map(
    lambda fields: record_of(*fields)
)
HOSTILE = st.one_of(RECORDS, st.binary(max_size=80), RECORDS.flatmap(
    lambda record: st.integers(0, len(record)).map(lambda size: record[:size])
))  # fmt: skip


def one(name: str, **changed: Any) -> tuple[dict[str, Any], bytes]:
    native, record = EXAMPLES[name]
    return native | {"kind": ENDED} | changed, record


def app_of(name: str, **changed: Any) -> App:
    app = app_batch([one(name, **changed)])[0].flow.app
    assert app is not None
    return app


def flat(name: str) -> tuple[object, ...]:
    app = app_of(name)
    return (app.protocol, app.name, app.name_from, app.alpn, app.version)


def in_c(text: bytes) -> str:
    room = ffi.new("char[]", max(1, 4 * len(text)))
    return bytes(ffi.buffer(room, lib.nr_network_text(text, len(text), room))).decode()


@given(TEXTS | st.binary(max_size=300))
@example(b"\xe2\x80\xae")
@example(b"\xed\xa0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\xe2\x80A")
@example(bytes(range(256)))
def test_text_of_the_network_is_harmless_and_the_same_in_c_and_python(sent: bytes) -> None:
    shown = network_text(sent)
    assert shown == in_c(sent)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e]", shown)
    if sent.isascii() and sent.decode().isprintable():
        assert shown == sent.decode()


def test_a_handshake_of_tls_is_a_value() -> None:
    event = app_batch([one("tls")])[0]
    assert event.flow.app == App(
        "tls", "www.example.org", "sni", "h2", "TLSv1.3", "t13d1516h2_8daaf6152771_02713d6af862",
        "smtp", 1, True,
        TlsDetails(
            "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", True, True, None,
            "773906b0efdefa24a7f2b8eb6985bf37", ("h2", "http/1.1"),
        ),
    )  # fmt: skip
    assert event.flow.resp.name == "web.example.org"
    assert event.flow.orig.name is None
    assert event.flow.macs == (bytes.fromhex("0200000000a1"), bytes.fromhex("0200000000b2"))
    assert event.flow.mac_changes == 2


def test_each_protocol_has_a_class_of_its_own() -> None:
    assert flat("http") == ("http", "example.org", "http", None, "HTTP/1.1")
    assert app_of("http").details == HttpDetails(
        "GET", "example.org", '/a?b="c"\\d\\x1b[2J', 404, "Not Found", "curl/8.1, \\xffé",
        "text/html",
    )  # fmt: skip
    assert app_of("dns").details == DnsDetails(
        "www.example.org", "A", 1, "NOERROR", 0xBEEF, 0x8180, None,
        (
            DnsAnswer("www.example.org", "CNAME", 300, "web.example.org", True),
            DnsAnswer("web.example.org", "A", 60, "192.0.2.1", True),
            DnsAnswer("", "AAAA", 0, "::1", False),
        ),
    )  # fmt: skip
    assert app_of("dhcp").details == DhcpDetails(
        "02:00:00:00:00:a1", "television", "television.example.org", "android-dhcp-13",
        "example.org", ("REQUEST", "ACK"), ("10.0.0.9",), "10.0.0.9", "10.0.0.1", ("10.0.0.1",),
        24, 3600, 0x12345678,
    )  # fmt: skip
    assert app_of("ssh").version == "2.0"
    assert app_of("ssh").details == SshDetails("SSH-2.0-OpenSSH_9.2p1 Debian-2", "SSH-2.0-dropbear")
    assert flat("mqtt") == ("mqtt", None, None, None, "3.1.1")
    assert app_of("mqtt").details == MqttDetails("meter-1")
    assert flat("quic") == ("quic", "quic.example.org", "quic", "h3", "QUICv1")


@pytest.mark.parametrize(
    ("protocol", "number", "shown"),
    [
        (lib.NR_APP_TLS, 0x0300, "SSLv3"), (lib.NR_APP_DTLS, 0xFEFD, "DTLSv1.2"),
        (lib.NR_APP_TLS, 0x7F1C, "unknown-0x7f1c"), (lib.NR_APP_QUIC, 0x6B3343CF, "QUICv2"),
        (lib.NR_APP_QUIC, 0xFF00001D, "QUIC-draft-29"), (lib.NR_APP_QUIC, 0xBABABABA,
        "unknown-0xbabababa"), (lib.NR_APP_HTTP, 0x0100, "HTTP/1.0"), (lib.NR_APP_MQTT, 5, "5.0"),
        (lib.NR_APP_SSH, 0x0163, "1.99"),
    ],
)  # fmt: skip
def test_a_version_is_written_as_people_do(protocol: int, number: int, shown: str) -> None:
    record = record_of((lib.NR_FIELD_VERSION, number))
    event = app_batch([({"kind": ENDED, "end_reason": 1, "app_protocol": protocol}, record)])[0]
    assert event.flow.app is not None
    assert event.flow.app.version == shown


def test_a_flow_without_a_record_has_its_protocol_alone() -> None:
    native = {"kind": ENDED, "end_reason": 1, "app_protocol": lib.NR_APP_BITTORRENT}
    event = app_batch([(native, b"")])[0]
    assert event.flow.app == App("bittorrent")
    assert event.to_dict()["app_protocol"] == "bittorrent"
    assert app_batch([({"kind": 1}, b"")])[0].flow.app is None


def test_a_name_may_be_learned_where_nothing_is_recognised() -> None:
    record = record_of((lib.NR_FIELD_RESP_NAME, b"example.org"))
    event = app_batch([({"kind": 1}, record)])[0]
    assert (event.flow.app, event.flow.resp.name) == (None, "example.org")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"), ("example.org:8080", "example.org"), ("a:1:2", "a:1"),
        ("[2001:db8::1]:80", "[2001:db8::1]"), ("[2001:db8::1]", "[2001:db8::1]"), ("a:", "a"),
        ("80", "80"), (":80", ":80"), ("", ""),
    ],
)  # fmt: skip
def test_a_name_of_http_is_the_host_without_its_port(host: str, name: str) -> None:
    record = record_of((lib.NR_FIELD_HOST, host.encode()))
    batch = app_batch([({"kind": APP, "app_protocol": lib.NR_APP_HTTP}, record)])
    app = batch[0].flow.app
    assert app is not None
    assert (app.name, app.details) == (name, HttpDetails(host=host))
    made = json.loads(TextEncoder("json").encode(batch))
    assert (made["app_name"], made["app_details"]) == (name, {"host": host})


def test_an_app_is_a_value_whether_read_or_made() -> None:
    read = app_of("dns")
    made = App(*(getattr(app_of("dns"), name) for name in App.FIELDS))
    assert (read, hash(read), repr(read)) == (made, hash(made), repr(made))
    assert pickle.loads(pickle.dumps(read)) == read
    assert read != app_of("dns", app_count=2)
    assert read != "dns"


def test_an_exchange_is_an_event_with_its_own_values() -> None:
    event = app_batch([one("http", kind=APP)])[0]
    assert isinstance(event, AppEvent)
    assert event.app == event.flow.app == app_of("http")
    assert event.to_dict()["event"] == "app"
    other = App("http", "other.example.org")
    assert event._replace(app=other).to_dict()["app_name"] == "other.example.org"


def test_words_of_every_number_fit() -> None:
    room = ffi.new("char[]", lib.NR_WORD_SIZE)
    for of in range(lib.NR_WORD_COUNT):
        longest = max(lib.nr_app_word(of, number, room) for number in range(65536))
        assert longest <= lib.NR_WORD_SIZE
    for protocol in range(lib.NR_APP_COUNT):
        assert lib.nr_app_version(protocol, 2**32 - 1, room) <= lib.NR_WORD_SIZE


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries(
                {
                    "kind": st.sampled_from([1, 2, 3, 4, APP]),
                    "end_reason": st.integers(1, 7),
                    "family": st.sampled_from([4, 6, 0]),
                    "proto": st.sampled_from([6, 17, 1]),
                    "app_protocol": st.integers(0, lib.NR_APP_COUNT + 1),
                    "app_count": st.integers(0, 2**32 - 1),
                    "mac_changes": st.integers(0, 3),
                    "has_macs": st.integers(0, 1),
                    "orig_mac": st.binary(min_size=6, max_size=6),
                    "resp_mac": st.binary(min_size=6, max_size=6),
                }
            ),
            HOSTILE,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_record_is_the_same_text(events: list[tuple[dict[str, Any], bytes]]) -> None:
    batch = app_batch(events)
    for name in IN_PYTHON:
        kinds = (FlowEnded,) if name == "eve" else None  # test_eve.py has its exchanges
        made = TextEncoder(name, salt="s", kinds=kinds).encode(batch)
        assert made == text_in_python(name, batch, salt="s"), name
    records = [json.loads(line) for line in TextEncoder("json").encode_records(batch).records()]
    assert records == [json.loads(event.to_json()) for event in batch]
    assert_arrow_says_what_the_events_say(batch)


def assert_arrow_says_what_the_events_say(batch: EventBatch) -> None:
    arrow = batch.to_arrow()
    arrow.validate(full=True)
    for row, event in zip(arrow.to_pylist(), batch, strict=True):
        app = event.flow.app
        for field in App.FIELDS[:7]:
            assert row[f"app_{field}"] == getattr(app, field, None), field
        assert row["app_cut"] == (app is not None and app.is_cut)
        assert row["resp_name"] == event.flow.resp.name


@pytest.mark.parametrize("at", [0, 1, 2**32 - 1])
def test_a_record_beyond_the_batch_is_none(at: int) -> None:
    native, record = one("tls")
    batch = app_batch([(native | {"app_at": at, "app_size": 2**31}, record)])
    assert b"app_name" not in TextEncoder("json").encode(batch)
    assert batch.to_arrow()["app_name"].to_pylist() == [None]


LONGEST = {
    "answers": [answer(b"", 65280, 2**32 - 1, b"")] * 200,
    "addresses": [answer(b"", 28, 2**32 - 1, b"\xff" * 16)] * 200,
    "text": [b"\xff" * 1000] * 2,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_room_for_a_record_is_enough_for_hostile_ones(name: str, example: str) -> None:
    encoder = TextEncoder(name, seq=2**63)
    protocol = EXAMPLES[example][0]["app_protocol"]
    native = {
        "end_reason": 1, "family": 6, "proto": 6, "app_protocol": protocol,
        "app_count": 2**32 - 1, "has_macs": 1, "mac_changes": 2**32 - 1,
        "orig_h": b"\xff" * 16, "resp_h": b"\xff" * 16,
    }  # fmt: skip
    cases = [(lib.NR_FIELD_ANSWER, values) for values in LONGEST.values()]
    cases += [(number, LONGEST["text"]) for number in FIELD_NUMBERS]
    for first, values in cases:
        fields: list[tuple[int, bytes | int]] = [(first, value) for value in values]
        fields += [(number, b"\xff" * 300) for number in FIELD_NUMBERS if number != first]
        record = record_of(*fields)[:4096]
        made = encoder.encode(
            app_batch([(native | {"kind": kind}, record) for kind in (ENDED, APP)])
        )
        for line in made.splitlines():
            assert len(line) < lib.nr_text_room(encoder._options) / 1.2


def test_a_sink_s_records_have_the_exchanges_too() -> None:
    batch = app_batch([one("tls"), one("dns", kind=APP)])
    encoder = TextEncoder("json", kinds=(FlowEnded, AppEvent), terminator=b"", seq=1)
    first, second = (json.loads(text) for text in encoder.encode_records(batch).records())
    assert (first["event"], first["app_name"], first["seq"]) == ("ended", "www.example.org", 1)
    assert (second["event"], second["app_details"]["rcode"]) == ("app", "NOERROR")
