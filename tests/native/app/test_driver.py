"""What is read inside of flows, whatever pieces the bytes of a side come in."""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netring_bpf import CaptureStatistics, FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.ring.reader import Reader
from tests.native.app.hellos import (
    alpn,
    client_hello,
    datagram_record,
    extension,
    fragment,
    key_share,
    record,
    server_hello,
    server_name,
)
from tests.native.app.test_quic import crypto, padded, seal
from tests.native.app.test_starttls import LDAP_SEARCH
from tests.support.frames import tcp, udp
from tests.support.replay import START, Frame
from tests.support.sizes import size

CLIENT, SERVER, PORT = "10.0.0.1", "10.0.0.2", 40_000
MS = 1_000_000
HELLO = record(
    client_hello(server_name(b"long.example") + alpn(b"h2") + extension(21, bytes(3000)))
)
ANSWER = record(server_hello(key_share(29) + extension(43, b"\x03\x04")))
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
REQUEST = b"GET /one HTTP/1.1\r\nHost: www.example\r\nUser-Agent: test\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5000\r\n\r\n" + bytes(
    5000
)
FIELDS = {
    value: name.removeprefix("NR_FIELD_")
    for name in dir(lib)
    if name.startswith("NR_FIELD_") and isinstance(value := getattr(lib, name), int)
}
_OTHERS = {"ASKED_TS", "RESP_NAME", "RESP_NAME_FROM"}  # not of the bytes of the two sides


class Told(NamedTuple):
    """An event, with the fields of its application record."""

    kind: int
    protocol: int
    count: int
    fields: dict[str, bytes]

    def number(self, name: str) -> int:
        [value] = struct.unpack("=I", self.fields[name])
        return int(value)


def _fields(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(data):
        field, _, length = struct.unpack_from("=BBH", data, at)
        at += 4 + length
        assert at <= len(data)
        if FIELDS[field] not in _OTHERS:
            yield FIELDS[field], data[at - length : at]


def told(
    frames: Iterable[Frame], options: FlowOptions | None = None
) -> tuple[list[Told], CaptureStatistics]:
    """Read the frames; return the events and the books."""
    with Reader(options or FlowOptions(update_interval=None)) as reader:
        reader.add_replay(b"".join(frame.record() for frame in frames))
        assert reader.run() == 0
        events = []
        left = reader.flush()
        while batch := reader.take(4096):
            data = ffi.from_buffer(batch.raw)
            for row in batch.rows:
                event = ffi.cast("nr_event *", data + row * batch.event_size)
                inside = batch.raw[event.app_at : event.app_at + event.app_size]
                fields = dict(_fields(inside)) if event.app_size else {}
                events.append(Told(event.kind, event.app_protocol, event.app_count, fields))
            if left:
                left = reader.flush()
        books = reader.statistics("replay", None, (), {})
        assert books.balanced
        return events, books


def exchanges(events: Sequence[Told]) -> list[Told]:
    """The events of exchanges."""
    return [event for event in events if event.kind == lib.NR_EVENT_APP]


def paths(events: Sequence[Told]) -> list[tuple[bytes | None, bool]]:
    """The path of each exchange, and whether it has an answer."""
    return [(e.fields.get("PATH"), "STATUS" in e.fields) for e in exchanges(events)]


class Connection:
    """A TCP connection of which each side sends segments by their place in its stream."""

    def __init__(self, port: int = 443, client: int = PORT) -> None:
        self.port, self.client = port, client
        self.beginning = 1000, 0xFFFFF000
        self.frames: list[Frame] = []
        self.segment(0, -1, b"", "S")
        self.segment(1, -1, b"", "SA")
        self.segment(0, 0, b"", "A")

    def segment(
        self, side: int, at: int, data: bytes, flags: str = "A", ack: int = 0, cut: int = 0
    ) -> None:
        """Send bytes that are `at` bytes behind the beginning; `cut` of them were not captured."""
        seq = (self.beginning[side] + 1 + at) % 2**32
        acked = (self.beginning[1 - side] + 1 + ack) % 2**32 if "A" in flags else 0
        ends = [(CLIENT, self.client), (SERVER, self.port)]
        (src, sport), (dst, dport) = ends[side], ends[1 - side]
        frame = tcp(src, dst, sport, dport, data, flags=flags, seq=seq, ack=acked)
        ts = START + len(self.frames) * MS
        self.frames.append(Frame(frame[: len(frame) - cut], ts, len(frame)))


def pieces_of(data: bytes, draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Pieces of all the bytes, some of them more than once, in an order that few holes come of."""
    cuts = sorted({0, len(data), *draw(st.lists(st.integers(1, len(data) - 1), max_size=6))})
    pieces = [(a, data[a:b]) for a, b in itertools.pairwise(cuts)]
    more = draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 1400)), max_size=4)
    )
    pieces += [(at, data[at : at + length]) for at, length in more]
    return draw(st.permutations(pieces))


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    return pieces_of(HELLO, draw), pieces_of(ANSWER, draw)


def of_pieces(
    asked: Iterable[tuple[int, bytes]], answered: Iterable[tuple[int, bytes]]
) -> list[Frame]:
    connection = Connection()
    for at, data in asked:
        connection.segment(0, at, data)
    for at, data in answered:
        connection.segment(1, at, data)
    return connection.frames


WHOLE, _ = told(of_pieces([(0, HELLO)], [(0, ANSWER)]))


def test_a_handshake_makes_one_exchange_and_the_flow_keeps_it() -> None:
    [exchange] = exchanges(WHOLE)
    assert exchange.protocol == lib.NR_APP_TLS
    assert exchange.fields["SERVER_NAME"] == b"long.example"
    assert exchange.number("VERSION") == 0x0304
    ended = WHOLE[-1]
    assert ended.kind == lib.NR_EVENT_ENDED
    assert (ended.protocol, ended.count, ended.fields) == (lib.NR_APP_TLS, 1, exchange.fields)


@settings(max_examples=size(50, 5000), deadline=None)
@given(orders())
def test_pieces_in_any_order_and_more_than_once_give_one_answer(
    pieces: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]],
) -> None:
    events, books = told(of_pieces(*pieces))
    assert exchanges(events) == exchanges(WHOLE)
    assert sum(books.names_missed.values()) == 0


@settings(max_examples=size(25, 2000), deadline=None)
@given(st.integers(1, 400), st.integers(1, 700))
def test_small_segments_give_one_answer(asked: int, answered: int) -> None:
    def parts(data: bytes, step: int) -> list[tuple[int, bytes]]:
        return [(at, data[at : at + step]) for at in range(0, len(data), step)]

    events, _ = told(of_pieces(parts(HELLO, asked), parts(ANSWER, answered)))
    assert exchanges(events) == exchanges(WHOLE)


def test_the_first_bytes_stay_where_others_come_later() -> None:
    connection = Connection()
    connection.segment(0, 1000, HELLO[1000:])
    connection.segment(0, 500, b"x" * 1000)  # half of it is new, and makes the hello another one
    connection.segment(0, 0, HELLO[:500] + b"y" * 200)
    first = bytearray(HELLO)
    first[500:1000] = b"x" * 500
    same = Connection()
    same.segment(0, 0, bytes(first))
    assert exchanges(told(connection.frames)[0]) == exchanges(told(same.frames)[0])


def test_requests_in_one_segment_are_paired_with_their_answers_in_order() -> None:
    connection = Connection(80)
    connection.segment(0, 0, REQUEST + REQUEST.replace(b"one", b"two"))
    both = RESPONSE + RESPONSE.replace(b"200 OK", b"404 No")
    for at in range(0, len(both), 1400):
        connection.segment(1, at, both[at : at + 1400])
    found = exchanges(told(connection.frames)[0])
    assert [(e.fields["PATH"], e.number("STATUS")) for e in found] == [
        (b"/one", 200),
        (b"/two", 404),
    ]
    assert [e.count for e in found] == [1, 2]


def test_a_hole_in_a_body_costs_nothing() -> None:
    connection = Connection(80)
    connection.segment(0, 0, REQUEST)
    connection.segment(1, 0, RESPONSE[:1400])
    connection.segment(0, len(REQUEST), b"", ack=4200)  # the capture has missed some
    connection.segment(1, 4200, RESPONSE[4200:])
    connection.segment(0, len(REQUEST), REQUEST)
    connection.segment(1, len(RESPONSE), RESPONSE)
    events, books = told(connection.frames)
    assert [e.number("STATUS") for e in exchanges(events)] == [200, 200]
    assert sum(books.names_missed.values()) == 0


def test_http_goes_on_behind_a_gap() -> None:
    connection = Connection(80)
    connection.segment(0, 0, REQUEST[:20])
    connection.segment(1, 0, b"", ack=len(REQUEST) + 10)  # the rest was not captured
    connection.segment(0, len(REQUEST) + 10, REQUEST.replace(b"one", b"two"))
    connection.segment(1, 0, RESPONSE)
    events, books = told(connection.frames)
    assert books.names_missed["gap"] == 1
    assert paths(events) == [(b"/one", False), (b"/two", True)]


def test_an_answer_goes_to_no_question_before_a_gap() -> None:
    connection = Connection(80)
    connection.segment(0, 0, REQUEST[:20])
    connection.segment(1, 0, RESPONSE, ack=len(REQUEST))  # the rest was not captured
    connection.segment(0, len(REQUEST), REQUEST.replace(b"one", b"two"))
    connection.segment(1, len(RESPONSE), RESPONSE, ack=2 * len(REQUEST))
    connection.segment(0, 2 * len(REQUEST), REQUEST.replace(b"one", b"six"))
    connection.segment(1, 2 * len(RESPONSE), RESPONSE, ack=3 * len(REQUEST))
    events, books = told(connection.frames)
    assert books.names_missed["gap"] == 1
    assert paths(events) == [(None, True), (b"/one", False), (b"/two", True), (b"/six", True)]


def test_a_gap_in_a_body_of_chunks_does_not_part_its_question_from_the_answer() -> None:
    connection = Connection(80)
    head = b"POST /one HTTP/1.1\r\nHost: www.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.segment(0, 0, head + b"10\r\n")
    connection.segment(1, 0, b"", ack=len(head) + 1000)
    connection.segment(0, len(head) + 1000, bytes(100))
    connection.segment(1, 0, RESPONSE, ack=len(head) + 1100)
    connection.segment(0, len(head) + 1100, REQUEST.replace(b"one", b"two"))
    connection.segment(1, len(RESPONSE), RESPONSE, ack=len(head) + 1100 + len(REQUEST))
    events, books = told(connection.frames)
    assert books.names_missed["gap"] == 1
    assert paths(events) == [(b"/one", True), (b"/two", True)]


def test_questions_that_a_snaplen_cuts_keep_their_answers() -> None:
    connection = Connection(80)
    for n, path in enumerate((b"one", b"two")):
        connection.segment(0, n * len(REQUEST), REQUEST.replace(b"one", path), cut=10)
    for n in range(2):
        connection.segment(1, n * len(RESPONSE), RESPONSE, ack=2 * len(REQUEST), cut=4000)
    events, _ = told(connection.frames)
    assert paths(events) == [(b"/one", True), (b"/two", True)]


def test_http_goes_on_behind_a_gap_of_megabytes() -> None:
    connection = Connection(80)
    lost = 3 << 20
    connection.segment(0, 0, REQUEST[:20])
    connection.segment(1, 0, b"", ack=lost)  # the rest was not captured
    connection.segment(0, lost, REQUEST)
    connection.segment(1, 0, b"", ack=lost + len(REQUEST))
    connection.segment(0, lost + len(REQUEST), REQUEST.replace(b"one", b"two"))
    connection.segment(1, 0, RESPONSE, ack=lost + 2 * len(REQUEST))
    events, books = told(connection.frames)
    assert books.names_missed["gap"] == 1
    assert paths(events) == [(b"/one", False), (b"/two", True)]


@pytest.mark.parametrize("late", [1, 2])
@pytest.mark.parametrize("size", [7, 10_000])
def test_a_hello_before_the_answer_to_starttls_is_read_with_the_answer(
    late: int, size: int
) -> None:
    ask, ready = b"STARTTLS\r\n", b"220 go ahead\r\n"
    connection = Connection(25)
    connection.segment(1, 0, b"220 mail ESMTP\r\n", ack=0)
    connection.segment(0, 0, b"EHLO me\r\n")
    connection.segment(1, 16, b"250-mail\r\n250 STARTTLS\r\n")
    connection.segment(0, 9, ask)
    for at in range(0, len(HELLO), size):
        connection.segment(0, 9 + len(ask) + at, HELLO[at : at + size])
    answers = [(16 + 24, ready), (16 + 24 + len(ready), ANSWER)]
    if late == 2:  # nothing follows the answers: they came in one segment, or in no order
        answers = answers[::-1] if size == 7 else [(16 + 24, ready + ANSWER)]
    for at, data in answers:
        connection.segment(1, at, data)
    events, _ = told(connection.frames)
    [exchange] = [e for e in exchanges(events) if e.protocol == lib.NR_APP_TLS]
    assert exchange.fields["SERVER_NAME"] == b"long.example"
    assert exchange.number("CIPHER") == 0xC02F
    assert exchange.number("CARRIER") == lib.NR_APP_SMTP


def test_a_hello_that_was_cut_gives_what_is_certain() -> None:
    connection = Connection()
    connection.segment(0, 0, HELLO, cut=2000)
    connection.segment(1, 0, ANSWER)
    events, books = told(connection.frames)
    [exchange] = exchanges(events)
    assert exchange.fields["SERVER_NAME"] == b"long.example"
    assert exchange.number("CUT") == 1
    assert books.names_missed["cut"] == 1


def test_a_question_without_an_answer_is_told_at_the_end() -> None:
    connection = Connection(80)
    connection.segment(0, 0, REQUEST)
    events, _ = told(connection.frames)
    assert [e.kind for e in events[-2:]] == [lib.NR_EVENT_APP, lib.NR_EVENT_ENDED]
    assert "STATUS" not in events[-2].fields


def test_a_request_that_never_ends_is_told_as_far_as_it_is_held() -> None:
    connection = Connection(80)
    data = REQUEST[:-2] + b"X-Long: " + bytes([65]) * 20_000
    for at in range(0, len(data), 1400):
        connection.segment(0, at, data[at : at + 1400])
    events, books = told(connection.frames)
    [exchange] = exchanges(events)
    assert exchange.fields["PATH"] == b"/one"
    assert exchange.number("CUT") == 1
    assert books.names_missed["too_long"] == 1


def test_a_pool_that_is_used_up_is_counted_and_given_back() -> None:
    options = FlowOptions(update_interval=None, names_memory=1 << 16)
    frames: list[Frame] = []
    for n in range(40):  # each holds two chunks of the 64
        connection = Connection(client=PORT + n)
        connection.segment(0, 0, HELLO[:1500])
        frames += connection.frames
    events, books = told(frames, options)
    assert books.names_missed["pool_full"] == 8
    assert len(exchanges(events)) == 40  # cut


@pytest.mark.parametrize("names", ["service", "off"])
def test_labels_alone_have_no_text_and_off_reads_nothing(names: str) -> None:
    frames = of_pieces([(0, HELLO)], [(0, ANSWER)])
    events, books = told(frames, FlowOptions(update_interval=None, names=names))  # type: ignore[arg-type]
    assert exchanges(events) == []
    assert {e.protocol for e in events[-1:]} == {lib.NR_APP_TLS if names == "service" else 0}
    assert all(event.fields == {} for event in events)
    assert books.names_read == 0


def test_exchanges_of_one_flow_make_no_more_than_a_thousand_events() -> None:
    def message(n: int, flags: int) -> bytes:
        return struct.pack(">6H", n, flags, 1, 0, 0, 0) + b"\x01a\x07example\0\0\x01\0\x01"

    frames = []
    for n in range(1100):
        frames.append(Frame(udp(CLIENT, SERVER, PORT, 53, message(n, 0x0100)), START + 2 * n * MS))
        frames.append(
            Frame(udp(SERVER, CLIENT, 53, PORT, message(n, 0x8180)), START + (2 * n + 1) * MS)
        )
    events, books = told(frames)
    assert len(exchanges(events)) == 1000
    assert books.names_missed["left_out"] == 100
    assert (events[-1].count, books.names_read) == (1100, 1100)


def test_a_server_of_quic_may_ask_for_another_hello_first() -> None:
    again = server_hello(key_share(23), random=RETRY, cipher=0x1301)
    answer = server_hello(key_share(23), cipher=0x1301)
    hello = client_hello(server_name(b"quic.example"))
    datagrams = [
        (False, padded(crypto(0, hello))),
        (True, padded(crypto(0, again))),
        (False, padded(crypto(len(hello), hello))),
        (True, padded(crypto(len(again), answer[:20]) + crypto(len(again) + 20, answer[20:]))),
    ]
    frames = []
    for n, (server, data) in enumerate(datagrams):
        ends = [(CLIENT, PORT), (SERVER, 443)]
        (src, sport), (dst, dport) = ends[server], ends[1 - server]
        sealed = seal(data, server=server, dcid=b"" if server else None, packet_number=n)
        frames.append(Frame(udp(src, dst, sport, dport, sealed), START + n * MS))
    events, books = told(frames)
    [exchange] = exchanges(events)
    assert exchange.fields["SERVER_NAME"] == b"quic.example"
    assert exchange.number("CIPHER") == 0x1301
    assert sum(books.names_missed.values()) == 0


def _quic(*datagrams: tuple[bool, bytes, bytes]) -> list[Frame]:
    """Initials: by the server or not, the id of their keys, the bytes of CRYPTO."""
    frames = []
    for n, (server, key_id, data) in enumerate(datagrams):
        ends = [(CLIENT, PORT), (SERVER, 443)]
        (src, sport), (dst, dport) = ends[server], ends[1 - server]
        sealed = seal(
            padded(crypto(0, data)), server=server, key_id=key_id, dcid=b"" if server else None,
            packet_number=n,
        )  # fmt: skip
        frames.append(Frame(udp(src, dst, sport, dport, sealed), START + n * MS))
    return frames


def _names_and_ciphers(frames: list[Frame]) -> list[tuple[bytes | None, bool]]:
    events = exchanges(told(frames)[0])
    return [(e.fields.get("SERVER_NAME"), "CIPHER" in e.fields) for e in events]


def test_an_answer_of_quic_is_to_the_hello_of_its_own_connection() -> None:
    one, two = (client_hello(server_name(name)) for name in (b"one.example", b"two.example"))
    answer = server_hello(key_share(29) + extension(43, b"\x03\x04"))
    first, second = b"12345678", b"abcdefgh"
    asked = [(False, first, one), (False, second, two), (True, second, answer)]
    assert _names_and_ciphers(_quic(*asked)) == [(b"one.example", False), (b"two.example", True)]
    repeated = [(False, first, one), (False, second, one), (True, second, answer)]
    assert _names_and_ciphers(_quic(*repeated)) == [(b"one.example", True)]
    partly = [(False, first, one), (False, second, two[:50]), (True, second, answer)]
    assert _names_and_ciphers(_quic(*partly)) == [(b"one.example", False), (None, True)]


def test_many_pieces_of_a_quic_hello_in_an_order_of_many_holes() -> None:
    hello = client_hello(server_name(b"quic.example"))
    cuts = [*range(0, len(hello), -(-len(hello) // 24)), len(hello)]
    pieces = [crypto(a, hello[a:b]) for a, b in itertools.pairwise(cuts)]
    sealed = seal(padded(b"".join(pieces[::2] + pieces[1::2])))
    events, books = told([Frame(udp(CLIENT, SERVER, PORT, 443, sealed), START)])
    assert [e.fields["SERVER_NAME"] for e in exchanges(events)] == [b"quic.example"]
    assert sum(books.names_missed.values()) == 0


def _scattered(hello: bytes, order: list[int], each: int) -> list[Frame]:
    """A hello of QUIC in as many CRYPTO frames as `order` has, `each` of them in a datagram."""
    cuts = [len(hello) * n // len(order) for n in range(len(order) + 1)]
    pieces = [crypto(cuts[n], hello[cuts[n] : cuts[n + 1]]) for n in order]
    datagrams = [b"".join(pieces[n : n + each]) for n in range(0, len(pieces), each)]
    return [
        Frame(udp(CLIENT, SERVER, PORT, 443, seal(padded(data), packet_number=n)), START + n * MS)
        for n, data in enumerate(datagrams)
    ]


@settings(max_examples=size(30, 1000), deadline=None)
@given(st.integers(12, 32).flatmap(lambda n: st.permutations(range(n))), st.integers(3, 9))
def test_pieces_of_a_quic_hello_come_in_any_order(order: list[int], each: int) -> None:
    hello = client_hello(server_name(b"quic.example") + extension(21, bytes(1300)))
    events, books = told(_scattered(hello, order, each))
    [exchange] = exchanges(events)
    assert (exchange.fields["SERVER_NAME"], "CUT" in exchange.fields) == (b"quic.example", False)
    assert sum(books.names_missed.values()) == 0


def test_too_many_holes_in_a_quic_hello_are_counted() -> None:
    hello = client_hello(server_name(b"quic.example") + extension(21, bytes(1300)))
    frames = _scattered(hello, [*range(0, 36, 2), *range(1, 36, 2)], 9)
    events, books = told(frames)
    assert books.names_missed["gap"] == 1
    [exchange] = exchanges(events)  # the first piece is certain
    assert exchange.fields.keys() == {"VERSION", "CUT"}


def test_ldap_in_a_datagram_gives_the_flow_its_label() -> None:
    events, _ = told([Frame(udp(CLIENT, SERVER, PORT, 389, LDAP_SEARCH), START)])
    assert events[-1].protocol == lib.NR_APP_LDAP


@pytest.mark.parametrize("names", ["all", "service"])
def test_dtls_behind_stun_gives_the_label(names: str) -> None:
    stun = struct.pack(">HHI12s", 1, 0, 0x2112A442, b"t" * 12)
    hello = datagram_record(fragment(client_hello(version=0xFEFD, cookie=b""), 0))
    frames = [
        Frame(udp(CLIENT, SERVER, PORT, PORT, data), START + n * MS)
        for n, data in enumerate((stun, hello))
    ]
    events, _ = told(frames, FlowOptions(update_interval=None, names=names))  # type: ignore[arg-type]
    assert events[-1].protocol == lib.NR_APP_DTLS


@pytest.mark.parametrize("count", [70, 71, 72])  # with 71 the answer alone is a whole record
def test_an_exchange_that_lacks_an_answer_is_cut(count: int) -> None:
    def message(flags: int, *answers: bytes) -> bytes:
        head = struct.pack(">6H", 7, flags, 1, len(answers), 0, 0)
        return head + b"\x04aaaa\x07example\0\0\1\0\1" + b"".join(answers)

    address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0"
    answer = message(0x8180, *(address + bytes([n]) for n in range(count)))
    frames = [
        Frame(udp(CLIENT, SERVER, PORT, 53, message(0x0100)), START),
        Frame(udp(SERVER, CLIENT, 53, PORT, answer), START + MS),
    ]
    [exchange] = exchanges(told(frames)[0])
    has_last = exchange.fields["ANSWER"][-1] == count - 1
    assert ("CUT" in exchange.fields, has_last) == (count > 70, count == 70)


def test_a_quic_hello_whose_end_never_comes_gives_what_is_certain() -> None:
    hello = client_hello(server_name(b"quic.example") + extension(21, bytes(1500)))
    sealed = seal(padded(crypto(0, hello[:1000])))
    [exchange] = exchanges(told([Frame(udp(CLIENT, SERVER, PORT, 443, sealed), START)])[0])
    assert exchange.fields["SERVER_NAME"] == b"quic.example"
    assert exchange.number("CUT") == 1


def _text_answers(count: int, text: bytes) -> bytes:
    """Answers of DNS in a flow each, with two long texts each."""
    question = b"\x01t\x07example\x00\x00\x10\x00\x01"
    pieces = b"".join(bytes([len(p)]) + p for p in (text[i : i + 255] for i in range(0, 900, 255)))
    answer = struct.pack("!HHHIH", 0xC00C, 16, 1, 60, len(pieces)) + pieces
    tell = struct.pack("!6H", 1, 0x8180, 1, 2, 0, 0) + question + 2 * answer
    return b"".join(
        Frame(udp(SERVER, CLIENT, 53, 1024 + n, tell), START + n).record() for n in range(count)
    )


@pytest.mark.parametrize(("slots", "count"), [(1024, 2000), (65_536, 6000)])
def test_a_replay_loses_no_record_however_slow_its_reader_is(slots: int, count: int) -> None:
    text = bytes(range(97, 122)) * 36
    with Reader(FlowOptions(update_interval=None, event_slots=slots)) as reader:
        reader.add_replay(_text_answers(count, text))
        reading = threading.Thread(target=reader.run)
        reading.start()
        lengths: dict[int, list[int]] = {lib.NR_EVENT_APP: [], lib.NR_EVENT_ENDED: []}

        def take() -> bool:
            batch = reader.take(7)
            data = ffi.from_buffer(batch.raw)
            for row in batch.rows:
                event = ffi.cast("nr_event *", data + row * batch.event_size)
                if event.kind in lengths:
                    fields = dict(_fields(batch.raw[event.app_at :][: event.app_size]))
                    lengths[event.kind].append(sum(map(len, fields.values())))
            return bool(batch)

        while reading.is_alive():
            take()
        reading.join()
        while take() or reader.flush() or take():
            pass
        books = reader.statistics("replay", None, (), {})
    length = max(lengths[lib.NR_EVENT_APP])
    assert length > len(text)
    assert lengths == dict.fromkeys(lengths, [length] * count)
    assert sum(books.names_missed.values()) == 0
