"""The responder of a flow has the name that its originator asked for, from frames on the wire."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from netring_bpf import AppEvent, FlowEnded, FlowOptions
from netring_bpf._core import ffi, lib
from netring_bpf.events.app import DhcpDetails
from netring_bpf.ring.reader import Reader
from tests.support.replay import SECOND, START, Frame, replay

ALICE, BOB, RESOLVER, SERVER = "10.0.0.1", "10.0.0.2", "10.0.0.53", "192.0.2.9"


def frame(packet: Packet, seconds: int = 0) -> Frame:
    return Frame(bytes(Ether() / packet), START + seconds * SECOND)


def lookup(asker: str, name: str, seconds: int = 0, *, alias: str | None = None) -> list[Frame]:
    ask = IP(src=asker, dst=RESOLVER) / UDP(sport=4000 + seconds % 1000, dport=53)
    tell = IP(src=RESOLVER, dst=asker) / UDP(sport=53, dport=4000 + seconds % 1000)
    question = DNSQR(qname=name)
    answers = [DNSRR(rrname=alias or name, type="A", ttl=30, rdata=SERVER)]
    if alias is not None:
        answers.insert(0, DNSRR(rrname=name, type="CNAME", ttl=30, rdata=alias))
    return [
        frame(ask / DNS(id=seconds % 1000, rd=1, qd=question), seconds),
        frame(tell / DNS(id=seconds % 1000, qr=1, rd=1, qd=question, an=answers), seconds),
    ]


def connection(asker: str, seconds: int, *, port: int = 443) -> Frame:
    return frame(IP(src=asker, dst=SERVER) / TCP(sport=5000, dport=port, flags="S"), seconds)


def responders(frames: list[Frame], names: str = "all") -> tuple[dict[str, str | None], Reader]:
    """The name of the responder of each flow to the server, by originator."""
    reader = Reader(FlowOptions(update_interval=None, events=(FlowEnded,), names=names))
    with reader:
        reader.add_replay(b"".join(f.record() for f in frames))
        assert reader.run() == 0
        found = {}
        for batch in reader.finish(4096):
            for row in batch.rows:
                native = ffi.from_buffer("nr_event *", batch.raw[row * batch.event_size :])
                if bytes(native.resp_h)[:4] == bytes([192, 0, 2, 9]):
                    asker = ".".join(map(str, bytes(native.orig_h)[:4]))
                    at = native.app_at
                    found[asker] = name_in(batch.raw[at : at + native.app_size])
    return found, reader


def name_in(record: bytes) -> str | None:
    while record:
        field, size = struct.unpack_from("=BxH", record)
        if field == lib.NR_FIELD_RESP_NAME:
            return record[4 : 4 + size].decode()
        record = record[4 + size :]
    return None


def test_a_flow_has_the_name_that_its_originator_asked_for() -> None:
    frames = [
        *lookup(ALICE, "a.example", 1, alias="edge.example"),
        *lookup(BOB, "b.example", 2),
        connection(ALICE, 3),
        connection(BOB, 4),
        connection("10.0.0.3", 5),
    ]
    found, reader = responders(frames)
    assert found == {ALICE: "a.example", BOB: "b.example", "10.0.0.3": "b.example"}
    assert [name for name, *_ in reader.names.of(SERVER)] == ["b.example", "a.example"]
    (latest, _) = reader.names.of(SERVER)
    assert (latest.source, latest.first) == ("dns", START + 2 * SECOND)


def test_a_name_is_too_old_after_ten_minutes() -> None:
    found, _ = responders([*lookup(ALICE, "a.example"), connection(ALICE, 601)])
    assert found == {ALICE: None}


def test_a_last_frame_of_the_far_future_ends_no_name() -> None:
    day = 24 * 3600
    frames = [*lookup(ALICE, "a.example", 1), *lookup(BOB, "b.example", 2)]
    _, reader = responders([*frames, *lookup(ALICE, "c.example", 2 * day)[:1]])
    assert [name for name, *_ in reader.names.of(SERVER)] == ["b.example", "a.example"]
    _, reader = responders([*frames, *lookup(ALICE, "c.example", 2 * day)])
    names = [name for name, *_ in reader.names.of(SERVER)]
    assert names == ["c.example", "b.example", "a.example"]


def test_a_flow_whose_first_frame_is_an_answer_is_named_by_its_real_responder() -> None:
    answer = frame(IP(src=SERVER, dst=ALICE) / TCP(sport=443, dport=5000, flags="SA"), 2)
    found, _ = responders([*lookup(ALICE, "a.example", 1), answer])
    assert found == {ALICE: "a.example"}


def test_nothing_is_learned_where_only_services_are_wanted() -> None:
    frames = [*lookup(ALICE, "a.example", 1), connection(ALICE, 2)]
    for names in ("service", "off"):
        found, reader = responders(frames, names)
        assert found == {ALICE: None}
        assert reader.names.statistics().learned == 0


# -- a client that has no address yet --

MAC = bytes.fromhex("020000000077")


def dhcp(kind: str, seconds: int = 0, *, id: int = 7, mac: bytes = MAC, **options: str) -> Frame:
    """A message of a client in search of an address, or of its server."""
    answers = kind in {"offer", "ack", "nak"}
    ends = ("10.0.0.254", ALICE) if answers else ("0.0.0.0", "255.255.255.255")
    ports = {"sport": 67, "dport": 68} if answers else {"sport": 68, "dport": 67}
    given = ALICE if kind in {"offer", "ack"} else "0.0.0.0"
    message = BOOTP(op=2 if answers else 1, chaddr=mac + bytes(10), xid=id, yiaddr=given)
    told = [("message-type", kind), *options.items(), "end"]
    head = IP(src=ends[0], dst=ends[1]) / UDP(**ports)
    return frame(head / message / DHCP(options=told), seconds)


def exchanges(*frames: Frame) -> list[DhcpDetails]:
    events, _ = replay(frames, FlowOptions(update_interval=None))
    apps = [event.app for event in events if isinstance(event, AppEvent)]
    return [app.details for app in apps if isinstance(app.details, DhcpDetails)]


def asked_and_given(**options: str) -> list[Frame]:
    return [dhcp("request", hostname="pi", vendor_class_id="busybox"), dhcp("ack", 1, **options)]


def test_the_answer_to_a_client_without_an_address_has_its_names() -> None:
    asked, given = exchanges(*asked_and_given())
    assert (asked.message_types, given.message_types) == (("REQUEST",), ("ACK",))
    assert (given.host_name, given.vendor_class) == ("pi", "busybox")
    assert given.assigned == (ALICE,)
    assert asked.assigned == ()


def test_what_the_server_calls_the_client_counts_first() -> None:
    _, given = exchanges(*asked_and_given(hostname="lamp"))
    assert (given.host_name, given.vendor_class) == ("lamp", "busybox")


def test_an_address_is_learned_under_that_name() -> None:
    reader = Reader(FlowOptions(update_interval=None))
    with reader:
        reader.add_replay(b"".join(f.record() for f in asked_and_given()))
        assert reader.run() == 0
        assert [(name.name, name.source) for name in reader.names.of(ALICE)] == [("pi", "dhcp")]


@pytest.mark.parametrize(
    "given",
    [
        dhcp("ack", 1, id=8),
        dhcp("ack", 1, id=7 + 32),  # in the same place
        dhcp("ack", 1, mac=bytes.fromhex("020000000078")),
        dhcp("ack", 31),
        dhcp("offer", 1),
    ],
    ids=["transaction", "place", "mac", "late", "offer"],
)
def test_other_answers_have_no_names_of_that_client(given: Frame) -> None:
    assert [said.host_name for said in exchanges(asked_and_given()[0], given)] == ["pi", None]


def test_of_two_clients_at_one_place_the_later_one_is_remembered() -> None:
    first, second = dhcp("request", id=7, hostname="one"), dhcp("request", id=39, hostname="two")
    said = exchanges(first, second, dhcp("ack", 1, id=7), dhcp("ack", 1, id=39))
    assert [details.host_name for details in said] == ["one", "two", None, "two"]
