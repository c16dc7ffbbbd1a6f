"""Addresses of stations, from ARP and IPv6 neighbour discovery."""

from __future__ import annotations

import json

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from netring_bpf import CaptureStatistics, FlowEnded, FlowKey, FlowOptions, NeighbourSeen
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.frames import tcp, udp
from tests.support.replay import SECOND, START, Frame, one_batch, replay

ME, YOU, ROUTER = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:01"
ALL = "ff:ff:ff:ff:ff:ff"
LOCAL, GLOBAL = "fe80::a", "2001:db8::a"
BOTH = FlowOptions(update_interval=None, events=(FlowEnded, NeighbourSeen))


def arp(op: int, sender: str, asked: str, *, mac: str = ME, to: str = ALL) -> Packet:
    return Ether(src=mac, dst=to) / ARP(op=op, hwsrc=mac, psrc=sender, hwdst=to, pdst=asked)


def six(src: str, dst: str, *, mac: str = ME, hops: int = 255) -> Packet:
    return Ether(src=mac, dst="33:33:00:00:00:01") / IPv6(src=src, dst=dst, hlim=hops)


def read(
    *frames: Packet | Frame, options: FlowOptions = BOTH
) -> tuple[list[NeighbourSeen], CaptureStatistics]:
    events, books = replay([f if isinstance(f, Frame) else bytes(f) for f in frames], options)
    assert books.balanced
    return [event for event in events if isinstance(event, NeighbourSeen)], books


def parts(event: NeighbourSeen) -> tuple[str, str, str]:
    prefix = "" if event.prefix_length is None else f"/{event.prefix_length}"
    return f"{event.address}{prefix}", event.mac, event.how.value


def told(*frames: Packet | Frame) -> list[tuple[str, str, str]]:
    events, _ = read(*frames)
    return [parts(event) for event in events]


PREFIX = ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64)
OFF_LINK = ICMPv6NDOptPrefixInfo(prefix="2001:db8:2::", prefixlen=64, L=0)
GIVEN_UP = ICMPv6NDOptPrefixInfo(prefix="2001:db8:3::", prefixlen=64, validlifetime=0)
ROUTES = six("fe80::1", "ff02::1", mac=ROUTER) / ICMPv6ND_RA(routerlifetime=1800)
SOURCE = ICMPv6NDOptSrcLLAddr(lladdr=ME)
TARGET = ICMPv6NDOptDstLLAddr(lladdr=ME)
MESSAGES = {
    "arp request": (arp(1, "10.0.0.1", "10.0.0.2"), [("10.0.0.1", ME, "arp_request")]),
    "arp reply": (arp(2, "10.0.0.1", "10.0.0.2", to=YOU), [("10.0.0.1", ME, "arp_reply")]),
    "announcement": (arp(1, "10.0.0.1", "10.0.0.1"), [("10.0.0.1", ME, "arp_announced")]),
    "announcing reply": (arp(2, "10.0.0.1", "10.0.0.1"), [("10.0.0.1", ME, "arp_announced")]),
    "solicitation": (
        six(LOCAL, "ff02::1:ff00:b") / ICMPv6ND_NS(tgt="fe80::b") / SOURCE,
        [(LOCAL, ME, "ndp_solicited")],
    ),
    "advertisement": (
        six(LOCAL, "fe80::b") / ICMPv6ND_NA(tgt=GLOBAL) / TARGET,
        [(GLOBAL, ME, "ndp_advertised")],
    ),
    "router solicitation": (
        six(LOCAL, "ff02::2") / ICMPv6ND_RS() / SOURCE,
        [(LOCAL, ME, "ndp_solicited")],
    ),
    "router": (ROUTES, [("fe80::1", ROUTER, "router")]),
    "router of an option": (ROUTES / SOURCE, [("fe80::1", ME, "router")]),
    "no router any more": (
        six("fe80::1", "ff02::1", mac=ROUTER) / ICMPv6ND_RA(routerlifetime=0),
        [("fe80::1", ROUTER, "ndp_advertised")],
    ),
    "prefixes": (
        ROUTES / OFF_LINK / PREFIX / GIVEN_UP,
        [("fe80::1", ROUTER, "router"), ("2001:db8:1::/64", ROUTER, "prefix")],
    ),
    "prefix with bits too many": (
        ROUTES / ICMPv6NDOptPrefixInfo(prefix="2001:db8:ffff:ffff::1", prefixlen=50),
        [("fe80::1", ROUTER, "router"), ("2001:db8:ffff:c000::/50", ROUTER, "prefix")],
    ),
    "four prefixes": (
        ROUTES / PREFIX / PREFIX.copy() / PREFIX.copy() / PREFIX.copy(),
        [("fe80::1", ROUTER, "router"), ("2001:db8:1::/64", ROUTER, "prefix")],
    ),
    # nothing of these
    "probe": (arp(1, "0.0.0.0", "10.0.0.2"), []),
    "other operation": (arp(8, "10.0.0.1", "10.0.0.2"), []),
    "sender of a group": (arp(1, "10.0.0.1", "10.0.0.2", mac="03:00:00:00:00:0a"), []),
    "sender zero": (arp(1, "10.0.0.1", "10.0.0.2", mac="00:00:00:00:00:00"), []),
    "sender loopback": (arp(1, "127.0.0.1", "10.0.0.2"), []),
    "sender multicast": (arp(1, "224.0.0.1", "10.0.0.2"), []),
    "arp of another network": (Ether(src=ME) / ARP(op=1, ptype=0x86DD, psrc="10.0.0.1"), []),
    "duplicate detection": (six("::", "ff02::1:ff00:b") / ICMPv6ND_NS(tgt="fe80::b"), []),
    "solicitation without an option": (six(LOCAL, "fe80::b") / ICMPv6ND_NS(tgt="fe80::b"), []),
    "forwarded": (six(LOCAL, "fe80::b", hops=254) / ICMPv6ND_NA(tgt=GLOBAL) / TARGET, []),
    "wrong checksum": (six(LOCAL, "fe80::b") / ICMPv6ND_NA(tgt=GLOBAL, cksum=1) / TARGET, []),
    "other code": (six(LOCAL, "fe80::b") / ICMPv6ND_NA(tgt=GLOBAL, code=1) / TARGET, []),
    "option of length 0": (
        six(LOCAL, "fe80::b") / ICMPv6ND_NA(tgt=GLOBAL) / TARGET / b"\x05\0\0\0\0\0\0\0",
        [],
    ),
    "option beyond the end": (
        six(LOCAL, "fe80::b") / ICMPv6ND_NA(tgt=GLOBAL) / TARGET / b"\x05\x02\0\0\0\0\0\0",
        [],
    ),
    "router from afar": (six(GLOBAL, "ff02::1") / ICMPv6ND_RA() / SOURCE, []),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_tells_what_its_sender_has(name: str) -> None:
    frame, expected = MESSAGES[name]
    assert told(frame) == expected


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_cut_anywhere_tells_nothing_or_the_same(name: str) -> None:
    frame, expected = MESSAGES[name]
    whole = bytes(frame)
    times = [START + size * 60 * SECOND for size in range(len(whole))]  # so that each is told
    events, _ = read(*(Frame(whole[:size], ts, len(whole)) for size, ts in enumerate(times)))
    for ts in times:
        assert [parts(event) for event in events if event.ts == ts] in ([], expected)


def test_arp_frames_stay_frames_without_ip_and_discovery_has_its_flow() -> None:
    events, books = read(MESSAGES["arp request"][0], MESSAGES["advertisement"][0])
    assert len(events) == 2
    assert (books.not_keyed["not_ip"], books.keyed) == (1, 1)
    assert books.events_produced == books.events_taken == 3
    assert (books.neighbours, books.neighbours_repeated) == (2, 0)


def test_the_same_is_told_once_a_minute() -> None:
    asks, answers = (
        bytes(arp(op, "10.0.0.1", "10.0.0.2")) for op in (1, 2)
    )  # by either message it is the same
    times = (0, 1, 59, 60, 100, 120, 121)
    frames = [Frame((asks, answers)[n % 2], START + at * SECOND) for n, at in enumerate(times)]
    events, books = read(*frames)
    assert [(e.ts - START) // SECOND for e in events] == [0, 60, 120]
    assert (books.neighbours, books.neighbours_repeated) == (7, 4)


def test_another_station_or_vlan_is_told_at_once() -> None:
    frames = [
        arp(1, "10.0.0.1", "10.0.0.2"),
        arp(1, "10.0.0.1", "10.0.0.2", mac=YOU),
        Ether(src=ME) / Dot1Q(vlan=7) / ARP(op=1, hwsrc=ME, psrc="10.0.0.1", pdst="10.0.0.2"),
        Ether(src=ME) / Dot1Q(vlan=7) / Dot1Q(vlan=8) / ROUTES[IPv6],
    ]
    events, _ = read(*frames)
    assert [(e.mac, e.vlans) for e in events] == [(ME, ()), (YOU, ()), (ME, (7,)), (ME, (7, 8))]


def test_a_flood_of_addresses_makes_an_event_each() -> None:
    one = bytes(arp(1, "10.0.0.0", "10.0.0.2"))
    senders = (bytes((10, 0, n >> 8, n & 255)) for n in range(1, 3000))
    frames = [Frame(one[:28] + sender + one[32:]) for sender in senders]
    events, books = read(*frames)
    assert len(events) == books.neighbours - books.neighbours_repeated == 2999


def test_nobody_is_told_who_did_not_ask() -> None:
    events, books = read(MESSAGES["arp request"][0], options=FlowOptions(update_interval=None))
    assert events == []
    assert (books.neighbours, books.events_produced) == (0, 0)


def test_a_pair_of_stations_has_its_flow_beside() -> None:
    options = FlowOptions(
        update_interval=None, key=FlowKey.MAC_PAIR, events=(FlowEnded, NeighbourSeen)
    )
    events, books = read(*(MESSAGES[n][0] for n in ("arp request", "router")), options=options)
    assert [str(event.address) for event in events] == ["10.0.0.1", "fe80::1"]
    assert books.keyed == 2


def test_the_inside_of_a_tunnel_tells_nothing() -> None:
    vxlan = b"\x08\0\0\0\0\0\x4d\0" + bytes(arp(1, "10.0.0.1", "10.0.0.2"))
    assert told(Ether(udp("192.0.2.1", "192.0.2.2", 5000, 4789, vxlan))) == []


def test_json_of_c_is_that_of_python() -> None:
    frames = [bytes(frame) for frame, _ in MESSAGES.values()]
    frames += [tcp("10.0.0.1", "10.0.0.2", 1, 2)]
    batch = one_batch(frames, BOTH)
    lines = TextEncoder("json").encode(batch).decode().splitlines()
    assert lines == [event.to_json() for event in batch]
    assert [json.loads(line)["event"] for line in lines].count("neighbour") == 8


def test_neighbours_are_no_rows_of_columns() -> None:
    frames = [bytes(frame) for frame, _ in MESSAGES.values()]
    batch = one_batch([frames[0], tcp("10.0.0.1", "10.0.0.2", 1, 2), *frames[1:]], BOTH)
    flows = [event for event in batch if not isinstance(event, NeighbourSeen)]
    assert 0 < len(flows) <= len(batch) - 8
    ids = [event.flow.id for event in flows]
    assert batch.columns()["id"].tolist() == batch.to_arrow()["id"].to_pylist() == ids
    [place, *_] = batch.places(FlowEnded)
    assert batch[place:].columns()["id"].tolist() == ids
    neighbours = batch.of_kinds(NeighbourSeen)
    assert len(neighbours) == 8
    assert (len(neighbours.columns()), neighbours.to_arrow().num_rows) == (0, 0)


@pytest.mark.parametrize("format", ["csv", "zeek", "zeek-json", "eve"])
def test_formats_of_flows_pass_over_neighbours(format: str) -> None:
    batch = one_batch([bytes(MESSAGES["arp reply"][0])], BOTH)
    assert len(batch) == 1
    assert TextEncoder(format, kinds=(FlowEnded, NeighbourSeen)).encode(batch) == b""
