"""DNS, multicast DNS and LLMNR: what is built is what is read."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dns as scapy_dns

from tests.native.app.dns_program import (
    ADDITIONAL,
    ALONE,
    ANSWERS,
    ASKS,
    DNS,
    FLAGS,
    ID,
    LLMNR,
    MDNS,
    MESSAGE,
    MORE,
    NOT_THIS,
    QUERY,
    QUERY_CLASS,
    QUERY_TYPE,
    RCODE,
    SILENT,
    Answer,
    parse,
    running,
)
from tests.support.sizes import size

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33
Name = tuple[bytes, ...]


@pytest.fixture(scope="module", autouse=True)
def _program() -> Iterator[None]:
    with running():
        yield


class Builder:
    """A message, with or without compression of its names."""

    def __init__(self, ident: int, flags: int, counts: tuple[int, int, int, int]) -> None:
        self.data = bytearray(struct.pack(">6H", ident, flags, *counts))
        self._places: dict[Name, int] = {}

    def name(self, labels: Name, *, compress: bool = True) -> None:
        """Write a name; its tail may point to an earlier one."""
        for i in range(len(labels)):
            tail = labels[i:]
            if compress and tail in self._places:
                self.data += struct.pack(">H", 0xC000 | self._places[tail])
                return
            if len(self.data) < 0x4000:
                self._places.setdefault(tail, len(self.data))
            self.data += bytes([len(labels[i])]) + labels[i]
        self.data += b"\0"

    def question(self, labels: Name, kind: int, kind_of: int = 1) -> None:
        """Write a question."""
        self.name(labels)
        self.data += struct.pack(">2H", kind, kind_of)

    def record(self, labels: Name, kind: int, ttl: int, *parts: bytes | Name) -> None:
        """Write a record whose data are bytes and names."""
        self.name(labels)
        self.data += struct.pack(">2HI2x", kind, 1, ttl)
        begin = len(self.data)
        for part in parts:
            if isinstance(part, bytes):
                self.data += part
            else:
                self.name(part)
        self.data[begin - 2 : begin] = struct.pack(">H", len(self.data) - begin)


def labels_of(text: str) -> Name:
    return tuple(part.encode() for part in text.split("."))


def query(text: str, kind: int = A, ident: int = 7) -> bytes:
    builder = Builder(ident, 0x0100, (1, 0, 0, 0))
    builder.question(labels_of(text), kind)
    return bytes(builder.data)


def text_of(labels: Name) -> bytes:
    return b".".join(x.replace(b"\\", b"\\\\").replace(b".", b"\\.") for x in labels)


def test_a_question_asks_and_its_answer_repeats_it() -> None:
    asked = parse("dns", query("www.example.org"), 40000, 53)
    assert (asked.verdict, asked.protocol, asked.role, asked.pair) == (MESSAGE, DNS, ASKS, 7)
    assert [(number, asked.one(number)) for number, _ in asked.fields] == [
        (QUERY, b"www.example.org"),
        (QUERY_TYPE, A),
        (QUERY_CLASS, 1),
        (ID, 7),
        (FLAGS, 0x0100),
    ]
    builder = Builder(7, 0x8180, (1, 1, 0, 0))
    builder.question(labels_of("www.example.org"), A)
    builder.record(labels_of("www.example.org"), A, 300, bytes([192, 0, 2, 1]))
    data = bytes(builder.data)
    said = parse("dns", data, 53, 40000)
    assert (said.role, said.pair, said.used) == (ANSWERS, 7, len(data))
    assert said.fields[:4] == asked.fields[:4]
    assert (said.one(FLAGS), said.one(RCODE)) == (0x8180, 0)
    assert said.answers == [Answer(b"www.example.org", A, 300, True, bytes([192, 0, 2, 1]))]


def test_aliases_are_followed_in_any_order_and_in_either_case() -> None:
    chain = [labels_of(f"alias{i}.Example") for i in range(8)]
    rows: list[tuple[Name, int, bytes | Name]] = [(a, CNAME, b) for a, b in pairwise(chain)]
    rows += [(labels_of("ALIAS7.example"), A, bytes(4)), (labels_of("other"), A, bytes(4))]
    for seed in range(20):
        random.Random(seed).shuffle(rows)
        builder = Builder(1, 0x8180, (1, len(rows), 0, 0))
        builder.question(labels_of("alias0.example"), A)
        for owner, kind, data in rows:
            builder.record(owner, kind, 60, data)
        said = parse("dns", bytes(builder.data), 53, 4000)
        assert [answer.chained for answer in said.answers] == [
            owner != (b"other",) for owner, _, _ in rows
        ]


TEXTS: dict[str, tuple[int, list[bytes | Name], bytes]] = {
    "ns": (NS, [labels_of("ns.Example")], b"ns.Example"),
    "soa": (SOA, [labels_of("m.x"), labels_of("r.x"), bytes(20)], b"m.x"),
    "mx": (MX, [b"\0\x0a", labels_of("mail.x")], b"mail.x"),
    "txt": (TXT, [b"\5hello\0"], b"TXT 5 hello TXT 0 "),
    "spf": (99, [b"\2hi"], b"SPF 2 hi"),
    "srv": (SRV, [bytes(6), labels_of("host.local")], b"host.local"),
    "hinfo": (HINFO, [b"\3ARM\5Linux"], b"ARM Linux"),
    "dname": (39, [labels_of("to.x")], b"to.x"),
    "naptr": (35, [b"\0\1\0\2\1s\3SIP\0", labels_of("a.x")], b"NAPTR 1 2 s SIP a.x"),
    "naptr-re": (35, [b"\0\1\0\2\1u\3E2U\2!x\0"], b"NAPTR 1 2 u E2U !x"),
    "loc": (29, [bytes([0, 18, 21, 19]) + bytes(12)], b"LOC:  18 21 19"),
    "sshfp": (44, [b"\1\1\xab\xcd"], b"SSHFP: abcd"),
    "ds": (43, [b"\0\1\5\2\xff"], b"DS 5 2"),
    "rrsig": (
        46,
        [struct.pack(">H16x", 5), labels_of("Example.org"), b"s"],
        b"RRSIG 5 example.org",
    ),
    "rrsig-root": (46, [struct.pack(">H16x", 6), b"\0s"], b"RRSIG 6 <Root>"),
    "nsec": (47, [labels_of("Z.x"), b"\0\1\x40"], b"NSEC owner.x z.x"),
    "dnskey": (48, [b"\1\1\3\x08key"], b"DNSKEY 8"),
    "nsec3": (50, [b"\1\0\0\1\0\0"], b"NSEC3"),
    "nsec3param": (51, [b"\1\0\0\1\0"], b"NSEC3PARAM"),
    "caa": (257, [b"\0\5issueca.x"], b"0 issue ca.x"),
    "https": (65, [b"\0\1\0\0\1\0\6\2h3\2h2\0\4\0\4\1\2\3\4"], b"1 . alpn=h3,h2"),
    "unknown": (60000, [b"data"], b"<unknown type=60000>"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_other_answers_are_text(name: str) -> None:
    kind, parts, text = TEXTS[name]
    builder = Builder(1, 0x8400, (1, 1, 0, 0))
    builder.question(labels_of("owner.x"), kind)
    builder.record(labels_of("Owner.X"), kind, 5, *parts)
    said = parse("dns", bytes(builder.data), 53, 4000)
    assert said.answers == [Answer(b"Owner.X", kind, 5, True, text)]
    assert not said.cut


def test_the_root_has_no_characters_and_a_dot_in_a_label_is_escaped() -> None:
    builder = Builder(1, 0, (1, 0, 0, 0))
    builder.question((), NS)
    assert parse("dns", bytes(builder.data), 4000, 53).one(QUERY) == b""
    builder = Builder(1, 0, (1, 0, 0, 0))
    builder.question((b"Living.Room\\2", b"_http", b"local"), PTR)
    assert (
        parse("dns", bytes(builder.data), 4000, 53).one(QUERY) == b"Living\\.Room\\\\2._http.local"
    )


def mdns() -> bytes:
    builder = Builder(0, 0x8400, (0, 1, 0, 3))
    builder.record(
        labels_of("_ipp._tcp.local"), PTR, 4500, (b"Printer", b"_ipp", b"_tcp", b"local")
    )
    builder.record(labels_of("printer.local"), TXT, 4500, b"\1x")
    builder.record(labels_of("printer.local"), A, 120, bytes([192, 0, 2, 9]))
    builder.record(labels_of("printer.local"), AAAA, 120, bytes(16))
    return bytes(builder.data)


def test_multicast_answers_stand_alone_with_the_addresses_behind_them() -> None:
    said = parse("dns", mdns(), 5353, 5353)
    assert (said.protocol, said.role) == (MDNS, ALONE)
    assert (said.one(QUERY), said.one(QUERY_TYPE)) == (b"_ipp._tcp.local", None)
    assert said.answers == [
        Answer(b"_ipp._tcp.local", PTR, 4500, True, b"Printer._ipp._tcp.local"),
        Answer(b"printer.local", A, 120, False, bytes([192, 0, 2, 9])),
        Answer(b"printer.local", AAAA, 120, False, bytes(16)),
    ]
    assert said.one(ADDITIONAL) == 2
    assert parse("dns", mdns(), 53, 4000).one(ADDITIONAL) is None


@pytest.mark.parametrize(
    ("ports", "flags", "protocol", "role"),
    [
        ((40000, 53), "d", DNS, ASKS),
        ((5353, 53), "d", DNS, ASKS),
        ((5353, 5353), "d", MDNS, ALONE),
        ((40000, 5353), "d", MDNS, ASKS),
        ((40000, 5355), "d", LLMNR, ALONE),
        ((40000, 40001), "d", DNS, ASKS),
    ],
)
def test_ports_tell_the_protocol_and_the_role(
    ports: tuple[int, int], flags: str, protocol: int, role: int
) -> None:
    said = parse("dns", query("printer"), *ports, flags)
    assert (said.verdict, said.protocol, said.role) == (MESSAGE, protocol, role)


def test_known_answers_of_an_asker_say_nothing() -> None:
    builder = Builder(0, 0, (0, 1, 0, 0))
    builder.record(labels_of("a.local"), A, 1, bytes(4))
    assert parse("dns", bytes(builder.data), 5353, 5353).role == SILENT


def test_messages_of_a_stream_come_one_after_another() -> None:
    first, second = query("a.example", ident=1), query("b.example", ident=2)
    stream = b"".join(struct.pack(">H", len(x)) + x for x in (first, second))
    for ports in ((4000, 53), (4000, 4001)):
        for end in range(1, len(first) + 2):
            said = parse("dns", stream[:end], *ports, "")
            assert said.verdict == MORE, end
            assert said.needs > end
            assert not said.fields
        said = parse("dns", stream, *ports, "")
        assert (said.verdict, said.used, said.one(ID)) == (MESSAGE, len(first) + 2, 1)
        said = parse("dns", stream[said.used :], *ports, "")
        assert (said.verdict, said.one(QUERY)) == (MESSAGE, b"b.example")


def test_the_rest_of_a_long_message_is_skipped() -> None:
    builder = Builder(1, 0x8180, (1, 200, 0, 0))
    builder.question(labels_of("a.example"), A)
    for i in range(200):
        builder.record(labels_of("a.example"), A, i, bytes(4))
    stream = struct.pack(">H", len(builder.data)) + bytes(builder.data)
    said = parse("dns", stream[:500], 53, 4000, "a")
    assert (said.verdict, said.used, said.cut) == (MESSAGE, len(stream), True)
    assert len(said.answers) == (500 - 2 - 12 - 15) // 16
    whole = parse("dns", stream, 53, 4000)
    assert whole.verdict == NOT_THIS
    whole = parse("dns", stream, 53, 4000, "a")
    assert whole.cut
    assert [answer.ttl for answer in whole.answers] == list(range(len(whole.answers)))


@pytest.mark.parametrize(
    "tail",
    [b"\xc0\x0c", b"\xc0\x20", b"\1a\xc0\x0c", b"\x40a", b"\x3fshort", b"\1a" * 130 + b"\0", b""],
    ids=["itself", "forward", "loop", "reserved", "overrun", "too long", "nothing"],
)
def test_a_malformed_name_is_no_message(tail: bytes) -> None:
    data = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + tail + struct.pack(">2H", A, 1)
    assert parse("dns", data, 4000, 53).verdict == NOT_THIS


def test_a_chain_of_pointers_ends() -> None:
    head = struct.pack(">6H", 1, 0x8180, 1, 1, 0, 0) + b"\1a\0" + struct.pack(">2H", A, 1)
    unknown = struct.pack(">H2HIH", 0xC00C, 10, 1, 0, 2 * 100)
    pointers = b"".join(
        struct.pack(">H", 0xC000 | (12 if i == 0 else len(head) + 12 + 2 * i - 2))
        for i in range(100)
    )
    data = bytearray(head + unknown + pointers)
    data[6:8] = struct.pack(">H", 2)
    last = len(data) - 2
    data += struct.pack(">H2HIH", 0xC000 | last, A, 1, 0, 4) + bytes(4)
    said = parse("dns", bytes(data), 53, 4000)
    assert (len(said.answers), said.cut) == (1, True)


@settings(max_examples=size(300, 20_000), deadline=None)
@given(st.binary(max_size=300))
def test_random_datagrams_are_no_dns(data: bytes) -> None:
    assert parse("dns", data, 40000, 40001).verdict == NOT_THIS


LABELS = st.lists(st.binary(min_size=1, max_size=20), max_size=5).map(tuple)
TTLS = st.integers(0, 2**32 - 1)
RECORDS = st.one_of(
    st.tuples(st.just(A), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(AAAA), st.binary(min_size=16, max_size=16)),
    st.tuples(st.sampled_from([NS, CNAME, PTR]), LABELS),
    st.tuples(st.just(TXT), st.lists(st.binary(max_size=30), min_size=1, max_size=3)),
)


def data_of(value: bytes | Name | list[bytes]) -> tuple[bytes | Name, bytes]:
    """What is written, and what is read."""
    if isinstance(value, list):
        said = b" ".join(b"TXT %d %s" % (len(x), x) for x in value)
        return b"".join(bytes([len(x)]) + x for x in value), said
    return value, text_of(value) if isinstance(value, tuple) else value


@settings(max_examples=size(200, 20_000), deadline=None)
@given(
    LABELS,
    st.lists(st.tuples(LABELS, TTLS, RECORDS), max_size=6),
    st.integers(0, 65535),
    st.integers(0, 15),
)
def test_a_message_is_read_as_it_was_built(
    asked: Name,
    rows: list[tuple[Name, int, tuple[int, bytes | Name | list[bytes]]]],
    ident: int,
    rcode: int,
) -> None:
    builder = Builder(ident, 0x8180 | rcode, (1, len(rows), 0, 0))
    builder.question(asked, AAAA)
    expected = []
    for owner, ttl, (kind, value) in rows:
        written, said_as = data_of(value)
        builder.record(owner, kind, ttl, written)
        expected.append((text_of(owner), kind, ttl, said_as))
    for ports in ((53, 4000), (4000, 4001)):
        said = parse("dns", bytes(builder.data), *ports)
        assert said.verdict == MESSAGE
        assert (said.one(ID), said.one(RCODE), said.one(QUERY)) == (ident, rcode, text_of(asked))
        assert [(x.owner, x.type, x.ttl, x.data) for x in said.answers] == expected
        assert not said.cut


@pytest.mark.parametrize(("address", "kind"), [("192.0.2.1", "A"), ("2001:db8::1", "AAAA")])
def test_scapy_is_understood(address: str, kind: str) -> None:
    question = scapy_dns.DNSQR(qname="www.example.org", qtype=kind)
    answer = scapy_dns.DNSRR(rrname="www.example.org", type=kind, ttl=9, rdata=address)
    data = bytes(scapy_dns.DNS(id=3, qr=1, qd=[question], an=[answer]))
    (said,) = parse("dns", data, 53, 4000).answers
    assert (said.data, said.ttl, said.chained) == (ipaddress.ip_address(address).packed, 9, True)
