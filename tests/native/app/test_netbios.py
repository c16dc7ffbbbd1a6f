"""The name service of NetBIOS."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native.app.dns_program import (
    ALONE,
    ANSWERS,
    ASKS,
    DOMAIN,
    HOST_NAME,
    ID,
    MAC,
    MESSAGE,
    NETBIOS,
    NOT_THIS,
    QUERY,
    QUERY_TYPE,
    RCODE,
    SUFFIX,
    Answer,
    parse,
    running,
)


@pytest.fixture(scope="module", autouse=True)
def _program() -> Iterator[None]:
    with running():
        yield


def encoded(name: bytes, suffix: int) -> bytes:
    """A name in letters, as RFC 1001 has it."""
    letters = bytes(65 + x for byte in name.ljust(15) + bytes([suffix]) for x in divmod(byte, 16))
    return b"\x20" + letters + b"\0"


def head(flags: int, *counts: int) -> bytes:
    return struct.pack(">6H", 9, flags, *counts)


def test_a_query_by_broadcast_stands_alone_and_one_to_a_server_asks() -> None:
    question = encoded(b"WORKGROUP", 0x1B) + struct.pack(">2H", 32, 1)
    for flags, role in ((0x0110, ALONE), (0x0100, ASKS)):
        said = parse("netbios", head(flags, 1, 0, 0, 0) + question, 137, 137)
        assert (said.verdict, said.protocol, said.role) == (MESSAGE, NETBIOS, role)
        assert (said.one(QUERY), said.one(SUFFIX), said.one(QUERY_TYPE)) == (b"WORKGROUP", 0x1B, 32)
        assert (said.one(ID), said.pair, said.one(RCODE)) == (9, 9, None)
    assert parse("dns", head(0x0110, 1, 0, 0, 0) + question, 137, 137).verdict == NOT_THIS


def test_a_positive_answer_gives_the_addresses() -> None:
    entries = b"".join(b"\0\0" + bytes([192, 0, 2, i]) for i in (1, 2))
    data = head(0x8500, 0, 1, 0, 0) + encoded(b"PC", 0x20)
    data += struct.pack(">2HIH", 32, 1, 300, len(entries)) + entries
    said = parse("netbios", data, 137, 137)
    assert (said.role, said.one(RCODE)) == (ANSWERS, 0)
    assert said.answers == [Answer(b"PC", 1, 300, True, bytes([192, 0, 2, i])) for i in (1, 2)]


def test_a_registration_tells_the_name_and_the_address_of_its_sender() -> None:
    tail = struct.pack(">2H", 32, 1) + b"\xc0\x0c" + struct.pack(">2HIH", 32, 1, 300, 6)
    for flags, host in ((b"\0\0", b"MY-PC"), (b"\x80\0", None)):
        data = head(0x2910, 1, 0, 0, 1) + encoded(b"MY-PC", 0) + tail + flags + bytes([10, 0, 0, 7])
        said = parse("netbios", data, 137, 137)
        assert (said.role, said.one(QUERY), said.one(HOST_NAME)) == (ALONE, b"MY-PC", host)
        assert [x.data for x in said.answers] == ([bytes([10, 0, 0, 7])] if host else [])


def test_a_status_tells_the_host_its_group_and_its_mac_address() -> None:
    rows = [(b"NAS", 0x20, 0x04), (b"NAS", 0x00, 0x04), (b"HOME", 0x00, 0x84)]
    names = b"".join(n.ljust(15) + bytes([s, f, 0]) for n, s, f in rows)
    body = bytes([len(rows)]) + names + bytes.fromhex("020000000005") + bytes(40)
    data = head(0x8400, 0, 1, 0, 0) + encoded(b"*" + bytes(14), 0)
    data += struct.pack(">2HIH", 33, 1, 0, len(body)) + body
    said = parse("netbios", data, 137, 137)
    assert (said.one(QUERY), said.one(HOST_NAME), said.one(DOMAIN)) == (b"*", b"NAS", b"HOME")
    assert said.one(MAC) == bytes.fromhex("020000000005")
    assert parse("netbios", data[:80], 137, 137).verdict == NOT_THIS
    assert parse("netbios", data[:80], 137, 137, "dc").cut


@given(st.binary(max_size=200))
def test_random_datagrams_are_no_netbios(data: bytes) -> None:
    assert parse("netbios", data, 137, 137).verdict == NOT_THIS
