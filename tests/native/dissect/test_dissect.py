"""The dissector reads good, cut, tagged and nonsensical frames."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from netring_bpf import FiveTuple, FlowEnded
from tests.support.encapsulations import authenticated
from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp
from tests.support.replay import Frame, replay

V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def key_of(frame: Frame | bytes) -> FiveTuple:
    events, books = replay([frame])
    assert books.keyed == 1
    ended = [event for event in events if isinstance(event, FlowEnded)]
    assert len(ended) == 1
    return ended[0].flow.key


def reason_of(frame: Frame | bytes) -> str:
    events, books = replay([frame])
    assert events == []
    assert books.balanced
    reasons = [name for name, count in books.not_keyed.items() if count]
    assert len(reasons) == 1
    return reasons[0]


def describe(key: FiveTuple) -> tuple[object, ...]:
    return (
        key.proto_name, str(key.orig.addr), key.orig.port, str(key.resp.addr), key.resp.port,
        key.vlans, key.icmp_id,
    )  # fmt: skip


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("vlans", [(), (7,), (7, 4094)], ids=["plain", "vlan", "qinq"])
def test_keys_of_the_three_protocols(ends: tuple[str, str], vlans: tuple[int, ...]) -> None:
    a, b = ends
    icmp, echo = ("icmp", 8) if ends is V4 else ("icmp6", 128)
    assert describe(key_of(udp(a, b, 5, 53, vlans=vlans))) == ("udp", a, 5, b, 53, vlans, 0)
    assert describe(key_of(tcp(b, a, 5, 53, vlans=vlans))) == ("tcp", b, 5, a, 53, vlans, 0)
    ping = icmp_echo(a, b, 77, 1, vlans=vlans)
    assert describe(key_of(ping)) == (icmp, a, echo, b, 0, vlans, 77)


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_reply_seen_first_does_not_make_its_sender_the_originator(ends: tuple[str, str]) -> None:
    a, b = ends
    assert str(key_of(icmp_echo(b, a, 9, 1, reply=True)).orig.addr) == a
    assert str(key_of(tcp(b, a, 80, 4000, flags="SA")).orig.addr) == a


def test_a_tag_taken_out_by_the_kernel_is_the_outer_one() -> None:
    inner = udp(*V4, 1, 2, vlans=(20,))
    taken = Frame(inner, len=len(inner) + 4, tag=(0x88A8, 0x2000 | 10))
    assert key_of(taken).vlans == (10, 20)


@pytest.mark.parametrize(
    "frame",
    [
        udp(*V4, 1, 2, b"x" * 40),
        udp(*V6, 1, 2, b"x" * 40, vlans=(5, 6)),
        tcp(*V4, 1, 2, flags="S", payload=b"x" * 40, vlans=(5,)),
        tcp(*V6, 1, 2, flags="S", payload=b"x" * 40),
        icmp_echo(*V4, 3, 4, b"x" * 40),
        icmp_echo(*V6, 3, 4, b"x" * 40),
    ],
    ids=["udp4", "udp6-qinq", "tcp4-vlan", "tcp6", "icmp4", "icmp6"],
)
def test_cut_at_every_byte_gives_a_cut_reason_until_the_headers_are_whole(frame: bytes) -> None:
    whole = key_of(frame)
    reasons = []
    for caplen in range(len(frame)):
        events, books = replay([Frame(frame[:caplen], len=len(frame))])
        assert books.received_bytes == len(frame)
        assert books.balanced
        if books.keyed:
            ended = events[-1]
            assert ended.flow.key == whole
            assert ended.flow.orig.bytes == len(frame)
        reasons.append(next((r for r, n in books.not_keyed.items() if n), "keyed"))
    order = ["cut_link", "cut_network", "cut_transport", "keyed"]
    assert sorted(reasons, key=order.index) == reasons
    assert set(reasons) == set(order)


def patched(frame: bytes, at: int, value: bytes) -> bytes:
    return frame[:at] + value + frame[at + len(value) :]


NONSENSE = {
    "arp": (ethernet(0x0806, b"\0" * 28), "not_ip"),
    "802.3 length": (patched(udp(*V4, 1, 2), 12, b"\x00\x2e"), "not_ip"),
    "version 5 in ipv4": (patched(udp(*V4, 1, 2), 14, b"\x55"), "bad_network"),
    "ihl 4": (patched(udp(*V4, 1, 2), 14, b"\x44"), "bad_network"),
    "total length under the header's": (patched(udp(*V4, 1, 2), 16, b"\0\x13"), "bad_network"),
    "total length over the frame's": (patched(udp(*V4, 1, 2), 16, b"\xff\xff"), "bad_network"),
    "version 4 in ipv6": (patched(udp(*V6, 1, 2), 14, b"\x40"), "bad_network"),
    "payload length over the frame's": (patched(udp(*V6, 1, 2), 18, b"\xff\xff"), "bad_network"),
    "udp with no room": (patched(udp(*V4, 1, 2), 16, b"\0\x18"), "bad_transport"),
    "nine tags": (
        udp(*V4, 1, 2)[:12] + b"\x81\x00\x00\x01" * 9 + udp(*V4, 1, 2)[12:], "too_many_tags",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_counted_by_its_reason(name: str) -> None:
    frame, reason = NONSENSE[name]
    assert reason_of(frame) == reason


def extended(headers: list[tuple[int, bytes]]) -> bytes:
    """An IPv6 UDP frame with extension headers put in: (type, its bytes after next header)."""
    plain = udp(*V6, 5, 53, b"x" * 8)
    udp_part = plain[54:70]
    chain = b""
    types = [kind for kind, _ in headers] + [17]
    for (_, rest), following in zip(headers, types[1:], strict=True):
        chain += bytes([following]) + rest
    payload = chain + udp_part
    return plain[:18] + struct.pack("!H", len(payload)) + bytes([types[0]]) + plain[21:54] + payload


def test_ipv6_extension_headers_are_walked() -> None:
    hop, routing, options = (0, b"\0" * 7), (43, b"\x01" + b"\0" * 14), (60, b"\0" * 7)
    auth, first = (51, b"\x04" + b"\0" * 22), (44, b"\0" * 7)
    key = key_of(extended([hop, routing, options, auth, first]))
    assert describe(key) == ("udp", "fd00::1", 5, "fd00::2", 53, (), 0)


FAR = ipaddress.ip_address("fd00::99")


@pytest.mark.parametrize(
    ("kind", "left", "addresses", "target"),
    [(0, 1, 2, FAR), (2, 1, 1, FAR), (0, 0, 2, None), (2, 0, 1, None), (5, 1, 1, None)],
    ids=["source route", "mobile node", "arrived", "at home", "another type"],
)
def test_a_routing_header_tells_where_the_packet_goes_in_the_end(
    kind: int, left: int, addresses: int, target: ipaddress.IPv6Address | None
) -> None:
    route = bytes([addresses * 2, kind, left, 0, 0, 0, 0]) + bytes(16 * (addresses - 1))
    key = key_of(extended([(43, route + FAR.packed)]))
    assert str(key.resp.addr) == str(target or "fd00::2")


@pytest.mark.parametrize(
    ("left", "last", "target"),
    [(2, 2, FAR), (1, 2, FAR), (3, 2, FAR), (0, 2, None), (4, 2, None), (2, 3, None)],
    ids=["at the second segment", "at the last but one", "reduced", "arrived", "too many left",
         "more segments than there are"],
)  # fmt: skip
def test_segments_are_listed_from_the_final_one(
    left: int, last: int, target: ipaddress.IPv6Address | None
) -> None:
    route = bytes([3 * 2, 4, left, last, 0, 0, 0]) + FAR.packed + bytes(32)
    assert str(key_of(extended([(43, route)])).resp.addr) == str(target or "fd00::2")


def test_a_conversation_by_segments_is_one_flow() -> None:
    far = str(FAR)
    there = tcp("fd00::1", far, 1000, 80, flags="S")
    segment = ipaddress.ip_address("fd00::f1").packed
    route = bytes([6, 4, 4, 1, 1, 0, 0, 0]) + FAR.packed + segment
    body = route + there[54:74]
    routed = there[:18] + struct.pack("!H", len(body)) + b"\x2b" + there[21:38] + segment + body
    back = tcp(far, "fd00::1", 80, 1000, flags="SA", ack=1)
    events, _ = replay([routed, back])
    [flow] = [event.flow for event in events if isinstance(event, FlowEnded)]
    assert (str(flow.key), flow.history) == ("tcp [fd00::1]:1000 > [fd00::99]:80", "Sh")


@pytest.mark.parametrize("headers", [1, 2, 16])
def test_an_authentication_header_is_stepped_over_in_ipv4_too(headers: int) -> None:
    frame = authenticated(udp(*V4, 5, 53, b"x" * 20), headers)
    assert describe(key_of(frame)) == ("udp", *V4[:1], 5, V4[1], 53, (), 0)


def test_an_authentication_header_that_cannot_be_is_told() -> None:
    frame = authenticated(udp(*V4, 5, 53, b"x" * 20))
    assert reason_of(patched(frame, 35, b"\xff")) == "bad_network"
    assert reason_of(Frame(frame[:40], len=len(frame))) == "cut_network"
    assert reason_of(authenticated(udp(*V4, 5, 53, b"x" * 20), 18)) == "too_many_extensions"


def test_a_home_address_is_the_sender_s() -> None:
    pads_and_home = b"\0\0\x01\x00" + b"\xc9\x10" + FAR.packed
    key = key_of(extended([(60, b"\x02" + pads_and_home)]))
    assert (str(key.orig.addr), str(key.resp.addr)) == (str(FAR), "fd00::2")
    cut = b"\x00" + b"\xc9\x10" + bytes(4)  # the option reaches beyond its header
    assert str(key_of(extended([(60, cut)])).orig.addr) == "fd00::1"


FRAME = udp(*V4, 5, 53, b"x" * 20)
PACKET = FRAME[14:62]
LABEL, BOTTOM = b"\0\0\x10\x40", b"\0\0\x11\x40"
PPPOE = b"\x88\x64\x11\0\0\1" + struct.pack("!H", 2 + len(PACKET))
WRAPPED = {
    "eight labels": (bytes(12) + b"\x88\x47" + LABEL * 7 + BOTTOM + PACKET, ()),
    "labels for many": (bytes(12) + b"\x88\x48" + BOTTOM + PACKET, ()),
    "ethernet behind a label": (bytes(12) + b"\x88\x47" + BOTTOM + bytes(4) + FRAME, ()),
    "pppoe": (bytes(12) + PPPOE + b"\0\x21" + PACKET, ()),
    "pppoe in a vlan": (bytes(12) + b"\x81\0\0\x07" + PPPOE + b"\0\x21" + PACKET, (7,)),
    "labels in pppoe": (bytes(12) + PPPOE + b"\x02\x81" + BOTTOM + PACKET, ()),
    "802.3 with snap": (
        bytes(12) + struct.pack("!H", 8 + len(PACKET)) + b"\xaa\xaa\3\0\0\0\x08\0" + PACKET, (),
    ),
    "eight tags": (FRAME[:12] + b"\x88\xa8\0\x05\x81\0\0\x06" * 4 + FRAME[12:], (5, 6)),
    "ipv4 options": (
        FRAME[:14] + b"\x46\0" + struct.pack("!H", 4 + len(PACKET)) + PACKET[4:20] + b"\x94\4\0\0"
        + PACKET[20:], (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_what_stands_in_front_of_the_packet_is_stepped_over(name: str) -> None:
    frame, vlans = WRAPPED[name]
    assert describe(key_of(frame)) == ("udp", V4[0], 5, V4[1], 53, vlans, 0)


def test_nine_labels_are_too_many() -> None:
    frame = bytes(12) + b"\x88\x47" + LABEL * 8 + BOTTOM + PACKET
    assert reason_of(frame) == "too_many_tags"


@pytest.mark.parametrize(("proto", "name"), [(132, "sctp"), (33, "dccp"), (136, "udplite")])
@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
def test_protocols_with_ports_like_those_of_udp(
    ends: tuple[str, str], proto: int, name: str
) -> None:
    a, b = ends
    body = struct.pack("!HH", 1000, 2000) + bytes(12)
    assert describe(key_of(ip(a, b, proto, body))) == (name, a, 1000, b, 2000, (), 0)
    assert reason_of(ip(a, b, proto, body[:7])) == "bad_transport"


def test_the_switches_header_of_fabricpath_is_stepped_over() -> None:
    frame = udp(*V4, 5, 53, vlans=(7,))
    switched = bytes(12) + b"\x89\x03\x00\x01" + frame
    assert describe(key_of(switched)) == describe(key_of(frame))
    assert reason_of(Frame(switched[:29], len=len(switched))) == "cut_link"


def test_extension_headers_are_walked_within_a_bound() -> None:
    assert describe(key_of(extended([(60, b"\0" * 7)] * 16)))[0] == "udp"
    assert reason_of(extended([(60, b"\0" * 7)] * 17)) == "too_many_extensions"


def test_an_extension_header_longer_than_the_packet_is_nonsense() -> None:
    assert reason_of(extended([(60, b"\xff" + b"\0" * 6)])) == "bad_network"
