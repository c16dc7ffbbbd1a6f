"""DTLS: the hellos in datagrams."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.native.app.hellos import (
    RETRY_RANDOM,
    alpn,
    client_hello,
    datagram_record,
    extension,
    fragment,
    key_share,
    numbers,
    server_hello,
    server_name,
    versions,
)
from tests.native.app.tls_program import (
    ALPN,
    ANSWERS,
    ASKS,
    CIPHER,
    CLIENT_VERSION,
    DTLS,
    GROUP,
    NOTHING,
    RESUMED,
    SAME,
    SERVER_NAME,
    SILENT,
    VERSION,
    Program,
)
from tests.support.sizes import size

ID = bytes(range(32))
HELLO = client_hello(
    server_name(b"d.example") + versions(0xFEFC, 0xFEFD), version=0xFEFD, cookie=b""
)
VERIFY = b"\x03\0\0\x13\xfe\xff\x10" + bytes(16)


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with Program() as program:
        yield program


class Side:
    """Puts pieces together as dtls.c asks its caller to."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._sequence = -1
        self._bytes: dict[int, int] = {}

    def take(self, datagram: bytes) -> bytes:
        """The bytes from the message's beginning up to the first hole."""
        got = self._program.pieces(datagram)
        if got.pieces and got.sequence != self._sequence:
            self._sequence, self._bytes = got.sequence, {}
        for offset, data in got.pieces:
            self._bytes.update(enumerate(data, offset))
        length = next(n for n in range(len(self._bytes) + 1) if n not in self._bytes)
        return bytes(self._bytes[at] for at in range(length))


def test_a_whole_hello_is_two_pieces(program: Program) -> None:
    got = program.pieces(datagram_record(fragment(HELLO, 0)))
    assert (got.verdict, got.sequence, got.is_cut, got.is_refused) == ("message", 0, False, False)
    assert got.pieces == [(0, HELLO[:4]), (4, HELLO[4:])]
    message = program.parse(HELLO, "d")
    assert (message.protocol, message.role, message.next) == (DTLS, ASKS, NOTHING)
    assert dict(message.fields)[SERVER_NAME] == b"d.example"
    assert dict(message.fields)[CLIENT_VERSION] == 0xFEFC


def test_a_server_answers_in_its_version(program: Program) -> None:
    old = server_hello(alpn(b"webrtc"), version=0xFEFF, session=ID, cipher=0xC00A)
    asked = program.parse(client_hello(version=0xFEFF, cookie=b"", session=ID), "d").record
    message = program.parse(old, "d", asked=asked)
    assert (message.role, message.next) == (ANSWERS, NOTHING)
    assert message.fields == [(VERSION, 0xFEFF), (CIPHER, 0xC00A), (ALPN, b"webrtc"), (RESUMED, 1)]
    new = server_hello(extension(43, b"\xfe\xfc") + key_share(29), version=0xFEFD, cipher=0x1301)
    assert program.parse(new, "d").fields == [(VERSION, 0xFEFC), (CIPHER, 0x1301), (GROUP, 29)]


def test_the_hello_with_the_cookie_begins_anew(program: Program) -> None:
    side = Side(program)
    first = client_hello(server_name(b"d.example"), version=0xFEFD, cookie=b"")
    second = client_hello(server_name(b"d.example"), version=0xFEFD, cookie=b"c" * 20)
    assert side.take(datagram_record(fragment(first, 0, 0, 30))) == first[:34]
    got = program.pieces(datagram_record(fragment(VERIFY, 0), version=0xFEFF))
    assert (got.verdict, got.pieces) == ("message", [])
    assert side.take(datagram_record(fragment(second, 1))) == second
    assert program.parse(first, "d").record == program.parse(second, "d").record


def test_a_retry_of_dtls_1_3_is_not_yet_the_answer(program: Program) -> None:
    side = Side(program)
    chosen = extension(43, b"\xfe\xfc")
    retry = server_hello(chosen, version=0xFEFD, random=RETRY_RANDOM)
    message = program.parse(side.take(datagram_record(fragment(retry, 0))), "d")
    assert (message.role, message.next, message.fields) == (SILENT, SAME, [])
    hello = server_hello(chosen + key_share(29), version=0xFEFD)
    encrypted = b"\x2e\x01\x02\x00\x40" + bytes(64)
    assert side.take(datagram_record(fragment(hello, 1)) + encrypted) == hello


@given(
    cuts=st.lists(st.integers(0, len(HELLO) - 4), max_size=6),
    order=st.randoms(use_true_random=False),
    overlap=st.integers(0, 20),
    together=st.booleans(),
)
@settings(
    max_examples=size(50, 2000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fragments_come_in_any_order_overlapping_and_twice(
    program: Program, cuts: list[int], order: random.Random, overlap: int, together: bool
) -> None:
    edges = sorted({0, *cuts, len(HELLO) - 4})
    parts = [fragment(HELLO, 0, begin, end - begin + overlap) for begin, end in pairwise(edges)]
    parts.append(parts[0])
    order.shuffle(parts)
    side, whole = Side(program), b""
    datagrams = [b"".join(parts)] if together else parts
    for part in datagrams:
        whole = side.take(datagram_record(part))
    assert whole == HELLO


def test_pieces_end_at_32(program: Program) -> None:
    parts = b"".join(fragment(HELLO, 0, at, 1) for at in range(40))
    got = program.pieces(datagram_record(parts))
    assert (len(got.pieces), got.is_cut) == (32, True)


def test_other_messages_are_passed_over(program: Program) -> None:
    hello = server_hello(version=0xFEFD)
    certificate = b"\x0b\0\0\x03\0\0\0"
    both = datagram_record(fragment(hello, 0)) + datagram_record(fragment(certificate, 1))
    for data in (both, datagram_record(fragment(hello, 0) + fragment(certificate, 1))):
        assert program.pieces(data).pieces == [(0, hello[:4]), (4, hello[4:])]
    alone = program.pieces(datagram_record(fragment(certificate, 1)))
    assert (alone.verdict, alone.pieces) == ("message", [])


def test_an_alert_ends_the_handshake_only_in_clear(program: Program) -> None:
    refused = program.pieces(datagram_record(b"\x02\x28", kind=21))
    assert (refused.verdict, refused.is_refused, refused.alert) == ("message", True, 40)
    for warning in (
        datagram_record(b"\x01\x70", kind=21),
        datagram_record(b"\x02\x28", kind=21, epoch=1),
    ):
        assert not program.pieces(warning).is_refused


def test_a_record_that_the_capture_cuts_gives_what_is_there(program: Program) -> None:
    data = datagram_record(fragment(HELLO, 0))
    got = program.pieces(data[:60])
    assert got.is_cut
    assert got.pieces == [(0, HELLO[:4]), (4, HELLO[4 : 4 + 60 - 25])]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        datagram_record(fragment(HELLO, 0))[:24],
        datagram_record(fragment(HELLO, 0), version=0x0303),
        datagram_record(fragment(HELLO, 0), kind=27),
        datagram_record(b""),
        datagram_record(b"x" * 10),
        datagram_record(b"x" * 20, kind=23)[:-1],
        datagram_record(b"\x7f" + fragment(HELLO, 0)[1:]),
        datagram_record(fragment(HELLO, 0)[:-1]),
        datagram_record(HELLO[:4] + numbers([0]) + b"\xff\xff\xff" + b"\0\0\x01" + b"x"),
        datagram_record(b"\x01\x02\0\0" + bytes(8)),
    ],
)
def test_foreign_and_broken_datagrams_are_refused(program: Program, data: bytes) -> None:
    assert program.pieces(data).verdict == "not"


def test_a_datagram_of_data_is_dtls(program: Program) -> None:
    got = program.pieces(datagram_record(b"x" * 20, kind=23, epoch=1))
    assert (got.verdict, got.pieces) == ("message", [])


@given(at=st.integers(0, 150), byte=st.integers(0, 255), length=st.integers(0, 150))
@settings(
    max_examples=size(50, 2000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_changed_datagrams_do_no_harm(program: Program, at: int, byte: int, length: int) -> None:
    data = bytearray(datagram_record(fragment(HELLO, 0, 0, 40) + fragment(HELLO, 0, 40)))
    data[at % len(data)] = byte
    assert program.pieces(bytes(data[:length])).verdict in {"not", "message"}
