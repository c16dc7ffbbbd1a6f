"""DHCP for both families."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp6 import (
    DUID_LL,
    DUID_LLT,
    VENDOR_CLASS_DATA,
    DHCP6_RelayForward,
    DHCP6_Reply,
    DHCP6_Solicit,
    DHCP6OptClientFQDN,
    DHCP6OptClientId,
    DHCP6OptIA_NA,
    DHCP6OptIA_PD,
    DHCP6OptIAAddress,
    DHCP6OptIAPrefix,
    DHCP6OptRelayMsg,
    DHCP6OptVendorClass,
)

from tests.native.app.dns_program import (
    ALONE,
    ANSWERS,
    ASKS,
    ASSIGNED,
    CLIENT_FQDN,
    DHCP,
    DHCPV6,
    DOMAIN,
    HOST_NAME,
    ID,
    LEASE,
    MAC,
    MESSAGE,
    MESSAGE_TYPE,
    NOT_THIS,
    PREFIX_LENGTH,
    REQUESTED,
    ROUTER,
    SERVER,
    VENDOR_CLASS,
    parse,
    running,
)

CLIENT = bytes.fromhex("020000000001")


@pytest.fixture(scope="module", autouse=True)
def _program() -> Iterator[None]:
    with running():
        yield


def option(code: int, value: bytes) -> bytes:
    return bytes([code, len(value)]) + value


def message(
    op: int,
    options: bytes,
    ciaddr: bytes = bytes(4),
    yiaddr: bytes = bytes(4),
    sname: bytes = b"",
    file: bytes = b"",
) -> bytes:
    head = bytes([op, 1, 6, 0]) + struct.pack(">I4x", 0xCAFE) + ciaddr + yiaddr + bytes(8)
    head += CLIENT.ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    return head + bytes.fromhex("63825363") + options + b"\xff"


def discover() -> bytes:
    options = option(53, b"\1") + option(12, b"kitchen\0") + option(60, b"android-dhcp-14")
    options += b"\0" + option(50, bytes([10, 0, 0, 5])) + option(61, b"\1" + CLIENT)
    return message(1, options)


def test_a_discover_tells_the_client() -> None:
    said = parse("dhcp", discover(), 68, 67)
    assert (said.verdict, said.protocol, said.role, said.pair) == (MESSAGE, DHCP, ALONE, 0xCAFE)
    assert [(number, said.one(number)) for number, _ in said.fields] == [
        (ID, 0xCAFE),
        (MESSAGE_TYPE, 1),
        (MAC, CLIENT),
        (REQUESTED, bytes([10, 0, 0, 5])),
        (HOST_NAME, b"kitchen"),
        (VENDOR_CLASS, b"android-dhcp-14"),
    ]


def test_an_acknowledgement_tells_the_network() -> None:
    options = option(53, b"\5") + option(54, bytes([10, 0, 0, 1])) + option(51, b"\0\0\x0e\x10")
    options += option(1, b"\xff\xff\xf0\0") + option(3, bytes([10, 0, 0, 1, 10, 0, 0, 2]))
    said = parse("dhcp", message(2, options + option(15, b"lan"), yiaddr=bytes([10, 0, 0, 9])))
    assert said.role == ANSWERS
    assert [(x, said.of(x)) for x in (ASSIGNED, SERVER, ROUTER, PREFIX_LENGTH, LEASE, DOMAIN)] == [
        (ASSIGNED, [bytes([10, 0, 0, 9])]),
        (SERVER, [bytes([10, 0, 0, 1])]),
        (ROUTER, [bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])]),
        (PREFIX_LENGTH, [20]),
        (LEASE, [3600]),
        (DOMAIN, [b"lan"]),
    ]


@pytest.mark.parametrize(("kind", "role"), [(3, ASKS), (8, ASKS), (7, ALONE), (4, ALONE)])
def test_a_client_with_an_address_asks_unless_nobody_answers(kind: int, role: int) -> None:
    data = message(1, option(53, bytes([kind])), ciaddr=bytes([10, 0, 0, 9]))
    assert parse("dhcp", data, 68, 67).role == role


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"\1\0\0pc.example", b"pc.example"),
        (b"\5\0\0\2pc\7example\0", b"pc.example"),
        (b"\5\0\0\2pc", b"pc"),
        (b"\5\0\0\x3fpc", None),
    ],
)
def test_the_full_name_is_text_or_labels(value: bytes, name: bytes | None) -> None:
    assert parse("dhcp", message(1, option(81, value))).one(CLIENT_FQDN) == name


def test_options_lie_in_the_header_too_and_in_pieces() -> None:
    long = bytes(range(33, 127)) * 4
    pieces = [option(60, long[i : i + 100]) for i in range(0, 240, 100)]
    file, sname = option(12, b"deep") + b"\xff", option(15, b"lan") + b"\xff"
    for overload, host, domain in ((1, b"deep", None), (2, None, b"lan"), (3, b"deep", b"lan")):
        options = option(52, bytes([overload])) + pieces[0] + option(53, b"\1") + pieces[1]
        said = parse("dhcp", message(1, options + pieces[2], sname=sname, file=file))
        assert (said.one(HOST_NAME), said.one(DOMAIN)) == (host, domain)
        assert (said.one(VENDOR_CLASS), said.one(MESSAGE_TYPE)) == (long[:256], 1)
        assert said.cut


def test_a_message_without_its_mark_is_none_and_a_cut_option_is_marked() -> None:
    data = message(1, option(12, b"abc"))
    assert parse("dhcp", data[:236] + bytes(4) + data[240:], 68, 67).verdict == NOT_THIS
    assert parse("dhcp", data[:-3]).cut
    assert not parse("dhcp", data).cut


def test_a_solicit_tells_the_client() -> None:
    solicit = DHCP6_Solicit(trid=0x1234) / DHCP6OptClientId(
        duid=DUID_LLT(lladdr="02:00:00:00:00:01")
    )
    solicit /= DHCP6OptClientFQDN(fqdn="pc.example.org")
    solicit /= DHCP6OptVendorClass(enterprisenum=311, vcdata=[VENDOR_CLASS_DATA(data=b"MSFT 5.0")])
    said = parse("dhcpv6", bytes(solicit), 546, 547)
    assert (said.verdict, said.protocol, said.role, said.pair) == (MESSAGE, DHCPV6, ALONE, 0x1234)
    assert (said.one(MESSAGE_TYPE), said.one(MAC)) == (1, CLIENT)
    assert (said.one(CLIENT_FQDN), said.one(VENDOR_CLASS)) == (b"pc.example.org", b"MSFT 5.0")
    assert parse("dhcpv6", bytes(solicit), 1000, 1001).verdict == NOT_THIS


def reply() -> bytes:
    given = DHCP6OptIAAddress(addr="2001:db8::5", validlft=100)
    prefix = DHCP6OptIAPrefix(prefix="2001:db8:1::", plen=56, validlft=200)
    built = DHCP6_Reply(trid=5) / DHCP6OptClientId(duid=DUID_LL(lladdr="02:00:00:00:00:01"))
    built /= DHCP6OptIA_NA(iaid=1, ianaopts=[given])
    return bytes(built / DHCP6OptIA_PD(iaid=1, iapdopt=[prefix]))


@pytest.mark.parametrize("relays", range(10))
def test_a_reply_gives_addresses_through_relays(relays: int) -> None:
    data = reply()
    for _ in range(relays):
        data = bytes([13]) + bytes(33) + struct.pack(">2H", 9, len(data)) + data
    said = parse("dhcpv6", data, 547, 547)
    if relays > 8:
        assert said.verdict == NOT_THIS
        return
    assert (said.role, said.one(MAC), said.one(LEASE)) == (ANSWERS, CLIENT, 100)
    assert said.of(ASSIGNED) == [
        bytes.fromhex("20010db8000000000000000000000005"),
        bytes.fromhex("20010db8000100000000000000000000"),
    ]
    assert said.fields[-1] == (PREFIX_LENGTH, struct.pack("=I", 56))


def test_a_relayed_question_asks() -> None:
    inner = DHCP6_Solicit(trid=5) / DHCP6OptClientFQDN(fqdn="a.b")
    relay = DHCP6_RelayForward(linkaddr="::1", peeraddr="fe80::1") / DHCP6OptRelayMsg(message=inner)
    link = struct.pack(">3H", 79, 8, 1) + CLIENT
    said = parse("dhcpv6", bytes(relay) + link, 547, 547)
    assert (said.role, said.one(CLIENT_FQDN), said.one(MAC)) == (ASKS, b"a.b", CLIENT)


@given(st.integers(0, len(reply())))
def test_a_cut_message_is_no_message_unless_the_capture_cut_it(end: int) -> None:
    data = reply()[:end]
    assert parse("dhcpv6", data, 547, 546, "dc").cut == (end >= 4)
    whole = {4, 4 + 14, 4 + 14 + 44, len(reply())}
    assert (parse("dhcpv6", data, 547, 546).verdict == MESSAGE) == (end in whole)
