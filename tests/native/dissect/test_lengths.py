"""Lengths that contradict each other: the smaller counts, and known ports are a flow."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from netring_bpf import CaptureStatistics, Flow, FlowEnded, FlowOptions
from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp
from tests.support.replay import START, Frame, replay, replay_file
from tests.support.savefiles import Interface, pcap, section

A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"
MS = 1_000_000


def run(*frames: bytes | Frame, **options: object) -> tuple[list[Flow], CaptureStatistics]:
    chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
    events, books = replay(frames, chosen)
    assert books.balanced
    return [event.flow for event in events if isinstance(event, FlowEnded)], books


def parts(books: CaptureStatistics) -> dict[str, int]:
    return {name: count for name, count in books.partly_read.items() if count}


def refused(books: CaptureStatistics) -> dict[str, int]:
    return {name: count for name, count in books.not_keyed.items() if count}


def patched(frame: bytes, at: int, value: bytes) -> bytes:
    return frame[:at] + value + frame[at + len(value) :]


# -- IPv6 without a payload length --


def unsized(proto: int, body: bytes) -> bytes:
    """An IPv6 frame whose payload length is 0, whatever follows."""
    return patched(ip(A6, B6, proto, body), 18, b"\0\0")


@pytest.mark.parametrize("proto", [59, 99, 50])
@pytest.mark.parametrize("tags", [0, 1, 2])
def test_padding_behind_an_ipv6_header_is_no_payload(proto: int, tags: int) -> None:
    frame = ip(A6, B6, proto, b"", vlans=(5, 6)[:tags]).ljust(60 + 4 * tags, b"\0")
    [flow], _ = run(frame)
    assert (flow.orig.ip_bytes, flow.orig.payload, flow.orig.bytes) == (40, 0, len(frame))


def test_nothing_follows_where_no_header_is_next() -> None:
    [flow], _ = run(unsized(59, bytes(200)))
    assert (flow.orig.ip_bytes, flow.orig.payload) == (40, 0)


def test_a_segment_before_its_offload_has_the_frame_s_length() -> None:
    segment = tcp(A6, B6, 1, 80, bytes(3000), flags="A", seq=1, ack=1)
    [flow], _ = run(patched(segment, 18, b"\0\0"))
    assert (flow.orig.ip_bytes, flow.orig.payload) == (3060, 3000)


def jumbogram(stated: int, size: int) -> bytes:
    hop_by_hop = struct.pack("!BBBBI", 17, 0, 0xC2, 4, stated)
    datagram = struct.pack("!HHHH", 1, 2, 0, 0) + bytes(size - 16)
    return ip(A6, B6, 0, b"")[:54] + hop_by_hop + datagram


def test_a_jumbogram_has_the_length_of_its_option() -> None:
    [flow], books = run(jumbogram(70_000, 70_040))  # 40 bytes of a trailer
    assert (flow.key.proto_name, flow.orig.ip_bytes, flow.orig.payload) == ("udp", 70_040, 69_984)
    assert parts(books) == {}


def test_a_jumbogram_longer_than_its_frame_makes_no_sense() -> None:
    flows, books = run(jumbogram(70_001, 70_000))
    assert (flows, refused(books)) == ([], {"bad_network": 1})


# -- UDP --


@pytest.mark.parametrize("ends", [(A, B), (A6, B6)], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    ("length", "payload", "told"),
    [
        (38, 30, {}),
        (30, 22, {}),
        (8, 0, {}),
        (39, 30, {"bad_transport": 1}),
        (999, 30, {"bad_transport": 1}),
        (65_535, 30, {"bad_transport": 1}),
        (7, 30, {"bad_transport": 1}),
        (0, 30, {"bad_transport": 1}),
    ],
)
def test_a_datagram_is_no_longer_than_its_packet(
    ends: tuple[str, str], length: int, payload: int, told: dict[str, int]
) -> None:
    whole = udp(*ends, 512, 513, b"x" * 30)
    at = (34 if ends == (A, B) else 54) + 4
    [flow], books = run(patched(whole, at, struct.pack("!H", length)))
    assert (flow.key.orig.port, flow.key.resp.port) == (512, 513)
    assert (flow.orig.payload, flow.history, parts(books)) == (payload, "D", told)


# -- TCP headers --


@pytest.mark.parametrize("ends", [(A, B), (A6, B6)], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("words", [0, 4, 6, 15])
def test_a_segment_whose_header_cannot_be_is_a_flow_by_its_ports(
    ends: tuple[str, str], words: int
) -> None:
    at = (34 if ends == (A, B) else 54) + 12
    probe = patched(tcp(*ends, 40_001, 23, flags="S", seq=7), at, bytes([words << 4]))
    [flow], books = run(probe)
    assert str(flow.key) == f"tcp {flow.key.orig} > {flow.key.resp}"
    assert (flow.key.orig.port, flow.key.resp.port) == (40_001, 23)
    assert (flow.orig.packets, flow.orig.payload, flow.history) == (1, 0, "")
    assert (flow.conn_state, parts(books)) == ("OTH", {"bad_transport": 1})


def conversation(vlans: tuple[int, ...] = ()) -> list[bytes]:
    """SYN, SYN+ACK, ACK, 100 bytes, 200 bytes, FIN, FIN, ACK."""

    def orig(flags: str, seq: int, ack: int, data: bytes = b"") -> bytes:
        return tcp(A, B, 40_000, 80, data, flags=flags, seq=seq, ack=ack, vlans=vlans)

    def resp(flags: str, seq: int, ack: int, data: bytes = b"") -> bytes:
        return tcp(B, A, 80, 40_000, data, flags=flags, seq=seq, ack=ack, vlans=vlans)

    return [
        orig("S", 1000, 0), resp("SA", 5000, 1001), orig("A", 1001, 5001),
        orig("PA", 1001, 5001, b"x" * 100), resp("PA", 5001, 1101, b"y" * 200),
        orig("FA", 1101, 5201), resp("FA", 5201, 1102), orig("A", 1102, 5202),
    ]  # fmt: skip


def test_what_a_receiver_drops_moves_nothing_in_the_connection() -> None:
    frames = conversation()
    for flags in ("R", "F", "S"):
        forged = tcp(A, B, 40_000, 80, flags=flags, seq=1001)
        frames.insert(3, patched(forged, 46, b"\xf0"))
    [flow], books = run(*frames)
    assert (flow.conn_state, flow.history) == ("SF", "ShADdFf")
    assert (flow.orig.packets, flow.orig.payload, flow.resp.payload) == (8, 100, 200)
    assert parts(books) == {"bad_transport": 3}


def cut(frame: bytes, size: int) -> Frame:
    return Frame(frame[:size], len=len(frame))


@pytest.mark.parametrize("vlans", [(), (5,)], ids=["plain", "vlan"])
def test_a_header_that_was_captured_up_to_its_window_is_a_whole_one(vlans: tuple[int, ...]) -> None:
    size = 14 + 4 * len(vlans) + 20 + 16
    [flow], books = run(*(cut(frame, size) for frame in conversation(vlans)))
    assert (flow.conn_state, flow.history) == ("SF", "ShADdFf")
    assert (flow.orig.packets, flow.resp.packets) == (5, 3)
    assert (flow.orig.payload, flow.resp.payload) == (100, 200)
    assert parts(books) == {}


@pytest.mark.parametrize("size", [38, 40, 49])
def test_headers_cut_behind_the_ports_are_a_flow_without_a_state(size: int) -> None:
    frames = conversation()
    [flow], books = run(*(cut(frame, size) for frame in frames))
    assert (flow.key.orig.port, flow.key.resp.port) == (40_000, 80)
    assert (flow.orig.packets, flow.resp.packets) == (5, 3)
    assert flow.orig.bytes + flow.resp.bytes == sum(map(len, frames))
    assert (flow.conn_state, flow.history, flow.orig.payload) == ("OTH", "", 0)
    assert parts(books) == {"cut_transport": 8}


def test_headers_cut_in_the_ports_are_none() -> None:
    flows, books = run(*(cut(frame, 37) for frame in conversation()))
    assert (flows, refused(books)) == ([], {"cut_transport": 8})


def test_a_datagram_cut_behind_its_ports_is_counted_by_the_packet_s_length() -> None:
    [flow], books = run(cut(udp(A, B, 1000, 2000, b"x" * 50), 38))
    assert (flow.orig.payload, parts(books)) == (50, {"cut_transport": 1})


def test_a_ping_cut_behind_its_identifier_is_a_flow() -> None:
    ping = icmp_echo(A, B, 77, 1, b"x" * 40)
    [flow], _ = run(cut(ping, 40))
    assert (flow.key.icmp_id, flow.orig.payload) == (77, 40)
    flows, books = run(cut(ping, 39))
    assert (flows, refused(books)) == ([], {"cut_transport": 1})


# -- more captured than there was --


def captured_longer(tmp_path: Path, form: str) -> Path:
    datagram = udp(A, B, 1000, 2000, b"x" * 100)
    frames = [Frame(datagram, START, len=50), Frame(datagram, START + MS, len=0)]
    path = tmp_path / f"longer.{form}"
    path.write_bytes(
        pcap(frames) if form == "pcap" else section([Interface()], [(0, f) for f in frames])
    )
    return path


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("filter", [None, "udp", "len >= 142"])
def test_a_frame_is_no_shorter_than_it_was_captured(
    tmp_path: Path, form: str, filter: str | None
) -> None:
    story = replay_file(captured_longer(tmp_path, form), filter=filter)
    [ended] = story.ended
    sent = ended.flow.orig
    assert (sent.packets, sent.bytes, sent.ip_bytes, sent.payload) == (2, 284, 256, 200)
    assert (story.books.received_bytes, story.books.file_overlong) == (284, 2)


def test_a_tag_that_was_taken_out_is_part_of_the_frame() -> None:
    datagram = udp(A, B, 1000, 2000, b"x" * 100)
    [flow], books = run(Frame(datagram, len=len(datagram) + 2, tag=(0x8100, 7)))
    assert (flow.orig.bytes, books.file_overlong) == (len(datagram) + 4, 1)


# -- IEEE 802.3 --


@pytest.mark.parametrize(
    "body",
    [b"", b"\xaa", b"\xaa\xaa\x03", b"\x42\x42\x03", b"\xf0\xf0\x7f", b"\x00\x01\xaf\x81\x01\x00"],
    ids=["nothing", "one byte", "a snap's beginning", "spanning tree", "netbios", "xid"],
)
def test_a_short_frame_of_802_3_carries_no_ip(body: bytes) -> None:
    frame = ethernet(len(body), body)
    _, books = run(frame, frame[: 14 + len(body)])  # with its padding, and without
    assert refused(books) == {"not_ip": 2}


def test_802_3_without_snap_is_known_by_its_first_bytes() -> None:
    spanning_tree = ethernet(38, b"\x42\x42\x03" + bytes(35))
    _, books = run(*(Frame(spanning_tree[:size], len=60) for size in (15, 16, 17, 21, 60)))
    assert refused(books) == {"not_ip": 5}


def test_a_snap_header_that_was_cut_is_a_link_header_that_was_cut() -> None:
    datagram = udp(A, B, 1, 2)[14:]
    frame = ethernet(8 + len(datagram), b"\xaa\xaa\x03\0\0\0\x08\0" + datagram)
    for size in (14, 15, 17, 21):
        _, books = run(cut(frame, size))
        assert refused(books) == {"cut_link": 1}
