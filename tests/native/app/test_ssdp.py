"""SSDP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.native.app.dns_program import (
    ALONE,
    LOCATION,
    MESSAGE,
    METHOD,
    NOT_THIS,
    SERVER_SOFTWARE,
    SERVICE,
    SSDP,
    STATUS,
    USER_AGENT,
    parse,
    running,
)

NOTICE = (
    b"NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nnt:upnp:rootdevice\r\nNTS: ssdp:alive\r\n"
    b"Server:  Linux/6.1 UPnP/1.0 tv/2 \r\nLOCATION: http://192.0.2.1:80/d.xml\r\n\r\nST: body\r\n"
)
SEARCH = b'M-SEARCH * HTTP/1.1\r\nMAN: "ssdp:discover"\r\nST: ssdp:all\r\nUSER-AGENT: app/1\r\n\r\n'
ANSWER = b"HTTP/1.1 200 OK\nST: urn:x\nSERVER: s\n\n"


@pytest.fixture(scope="module", autouse=True)
def _program() -> Iterator[None]:
    with running():
        yield


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (
            NOTICE,
            [
                (METHOD, b"NOTIFY"),
                (SERVICE, b"upnp:rootdevice"),
                (SERVER_SOFTWARE, b"Linux/6.1 UPnP/1.0 tv/2"),
                (LOCATION, b"http://192.0.2.1:80/d.xml"),
            ],
        ),
        (SEARCH, [(METHOD, b"M-SEARCH"), (SERVICE, b"ssdp:all"), (USER_AGENT, b"app/1")]),
        (ANSWER, [(STATUS, 200), (SERVICE, b"urn:x"), (SERVER_SOFTWARE, b"s")]),
    ],
    ids=["notice", "search", "answer"],
)
def test_a_message_tells_its_headers(data: bytes, fields: list[tuple[int, bytes | int]]) -> None:
    for port in (1900, 5000):
        said = parse("ssdp", data, 4000, port)
        assert (said.verdict, said.protocol, said.role) == (MESSAGE, SSDP, ALONE)
        assert [(number, said.one(number)) for number, _ in said.fields] == fields
        assert said.used == len(data)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n", b"NOTIFY", b"M-SEARCH /x HTTP/1.1"],
)
def test_other_requests_are_not_ssdp(data: bytes) -> None:
    assert parse("ssdp", data, 4000, 1900).verdict == NOT_THIS


def test_an_answer_on_another_port_must_name_a_service() -> None:
    data = b"HTTP/1.1 200 OK\r\nServer: s\r\n\r\n"
    assert parse("ssdp", data, 4000, 1900).verdict == MESSAGE
    assert parse("ssdp", data, 4000, 4001).verdict == NOT_THIS
    assert parse("ssdp", ANSWER, 4000, 1900, "").verdict == NOT_THIS  # of a stream


@given(st.integers(0, len(NOTICE)))
def test_every_beginning_is_read_as_far_as_it_goes(end: int) -> None:
    said = parse("ssdp", NOTICE[:end], 4000, 1900)
    assert said.verdict in (NOT_THIS, MESSAGE)
    assert (said.verdict == MESSAGE) == (end >= len(b"NOTIFY * HTTP/1."))
