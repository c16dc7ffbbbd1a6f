"""IP fragments: in any order, without a first one, and with one that is too short for the ports."""

from __future__ import annotations

import random
import struct

import pytest

from netring_bpf import CaptureStatistics, Flow, FlowEnded, FlowKey, FlowOptions, FlowStarted
from netring_bpf.formats.batch_text import TextEncoder
from tests.support.encapsulations import authenticated
from tests.support.formatters.zeek import FIELDS
from tests.support.frames import ethernet, icmp_echo, ip, tcp, udp
from tests.support.replay import SECOND, START, Frame, one_batch, replay

A, B = "10.0.0.1", "10.0.0.2"
A6, B6 = "fd00::1", "fd00::2"
MS = 1_000_000


def run(*frames: bytes | Frame, **options: object) -> tuple[list[Flow], CaptureStatistics]:
    chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
    events, books = replay(frames, chosen)
    assert books.balanced
    assert books.fragments_waiting == 0
    return [event.flow for event in events if isinstance(event, FlowEnded)], books


def pieces(frame: bytes, size: int, ident: int = 7) -> list[bytes]:
    """The frame's packet in fragments of ``size`` bytes of payload."""
    if frame[12:14] == b"\x86\xdd":
        return _pieces6(frame, size, ident)
    (total,) = struct.unpack_from("!H", frame, 16)
    head, body = frame[14:34], frame[34 : 14 + total]
    found = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        more = 0x2000 if at + size < len(body) else 0
        packed = struct.pack("!HHH", 20 + len(part), ident, more | at // 8)
        found.append(ethernet(0x0800, head[:2] + packed + head[8:] + part))
    return found


def _pieces6(frame: bytes, size: int, ident: int) -> list[bytes]:
    (total,) = struct.unpack_from("!H", frame, 18)
    head, body = frame[14:54], frame[54 : 54 + total]
    found = []
    for at in range(0, len(body), size):
        part = body[at : at + size]
        place = at | (1 if at + size < len(body) else 0)
        header = struct.pack("!BBHI", head[6], 0, place, ident)
        front = head[:4] + struct.pack("!H", 8 + len(part)) + b"\x2c" + head[7:]
        found.append(ethernet(0x86DD, front + header + part))
    return found


def timed(frames: list[bytes], step: int = 10 * MS, start: int = START) -> list[Frame]:
    return [Frame(frame, start + n * step) for n, frame in enumerate(frames)]


DATAGRAM = udp(A, B, 1000, 2000, bytes(range(250)) * 12)
DATAGRAM6 = udp(A6, B6, 1000, 2000, bytes(range(250)) * 12)
BOTH = pytest.mark.parametrize("datagram", [DATAGRAM, DATAGRAM6], ids=["ipv4", "ipv6"])


# -- behind their first --


def test_fragments_belong_to_the_flow_of_the_first() -> None:
    parts = pieces(DATAGRAM, 512)
    [flow], books = run(*parts)
    assert (flow.orig.packets, flow.orig.payload) == (len(parts), 3000)
    assert flow.orig.bytes == sum(map(len, parts))
    assert (books.fragments, books.fragment_overlaps) == (len(parts) - 1, 0)


def test_fragments_behind_an_authentication_header_belong_to_its_flow() -> None:
    for parts in (pieces(authenticated(DATAGRAM), 512), pieces(authenticated(DATAGRAM), 512)[::-1]):
        [flow], books = run(*parts)
        assert (flow.key.proto_name, flow.key.resp.port) == ("udp", 2000)
        assert flow.orig.packets == len(parts)
        assert books.balanced
    # The header is in front of the datagram, so its tunnel cannot be read from the pieces.
    inner = tcp(A, B, 40_000, 50_000, bytes(1000), flags="A")[14:]
    head = struct.pack("!BBHI", 0x30, 255, len(inner), 99)
    tunnel = authenticated(udp("192.0.2.1", "192.0.2.2", 2152, 2152, head + inner))
    for parts in (pieces(tunnel, 400), pieces(tunnel, 400)[::-1]):
        _, books = run(*parts)
        assert (books.inner, books.inner_not_keyed) == (0, 0)


def test_other_datagrams_are_told_apart() -> None:
    first, *rest = pieces(DATAGRAM, 512)
    other = pieces(DATAGRAM, 512, ident=8)[1:]
    flows, books = run(first, *rest, *other)
    assert sorted((f.key.orig.port, f.orig.packets) for f in flows) == [(0, 5), (1000, 6)]
    assert (books.fragments, books.partly_read["fragment"]) == (10, 5)


def test_a_first_fragment_is_forgotten_in_time() -> None:
    first, second, *_ = pieces(DATAGRAM, 512)
    for wait, ports in ((29, [1000]), (30, [0, 1000])):
        flows, _ = run(Frame(first, START), Frame(second, START + wait * SECOND))
        assert sorted(flow.key.orig.port for flow in flows) == ports


def test_overlaps_are_counted() -> None:
    parts = pieces(DATAGRAM, 512)
    moved = bytearray(parts[2])
    moved[20:22] = struct.pack("!H", 0x2000 | (1024 - 8) // 8)  # eight bytes of the one before
    for order in ([*parts[:2], bytes(moved), parts[1]], [bytes(moved), parts[1], *parts[:2]]):
        _, books = run(*order)
        assert books.fragment_overlaps == 2


def test_a_segment_in_fragments_leaves_no_gap() -> None:
    def client(flags: str, seq: int, data: bytes = b"") -> bytes:
        return tcp(A, B, 40_000, 80, data, flags=flags, seq=seq, ack=901)

    def server(flags: str, ack: int) -> bytes:
        return tcp(B, A, 80, 40_000, flags=flags, seq=900 if "S" in flags else 901, ack=ack)

    hands = [client("S", 100), server("SA", 101), client("A", 101)]
    split = pieces(client("PA", 101, bytes(1000)), 400)
    assert len(split) == 3
    rest = [server("A", 1101), client("PA", 1101, b"end"), server("A", 1104)]
    [flow], _ = run(*hands, *split, *rest)
    assert (flow.history, flow.orig.payload, flow.orig.gaps) == ("ShADa", 1003, 0)
    assert (flow.orig.missing_bytes, flow.orig.packets) == (0, 6)
    [flow], _ = run(*hands, split[1], split[2], split[0], *rest)
    assert (flow.orig.payload, flow.orig.gaps, flow.orig.missing_bytes) == (1003, 0, 0)
    [flow], _ = run(*hands, split[0], split[2], *rest)
    assert (flow.history, flow.orig.payload, flow.orig.gaps) == ("ShADaG", 1003, 1)
    assert flow.orig.missing_bytes == 400
    [flow], _ = run(*hands, *pieces(client("FPA", 101, bytes(1000)), 400), server("A", 1102))
    assert (flow.history, flow.orig.payload, flow.orig.missing_bytes) == ("ShAFDa", 1000, 0)


def test_a_tunnel_in_fragments_is_opened_when_it_is_whole() -> None:
    inner = tcp(A, B, 40_000, 50_000, bytes(1000), flags="A")[14:]
    head = struct.pack("!BBHI", 0x30, 255, len(inner), 99)
    parts = pieces(udp("192.0.2.1", "192.0.2.2", 2152, 2152, head + inner), 400)
    for order in (parts, [parts[0], *parts[:0:-1]], parts[::-1], [*parts[1:], parts[0]]):
        flows, books = run(*timed(order))
        assert [f.orig.payload for f in flows if f.tunnel is not None] == [1000]
        assert (books.inner, books.fragments) == (1, len(parts) - 1)
    _, books = run(parts[0], *parts[2:])
    assert books.inner == 0


def test_one_less_is_a_fragment_of_each_datagram_that_is_whole() -> None:
    lone = pieces(DATAGRAM, 1400, 8)[0]
    [flow], _ = run(*pieces(DATAGRAM, 1400), *pieces(DATAGRAM, 512, 9), lone)
    assert (flow.orig.packets, flow.orig.fragments) == (3 + 6 + 1, 2 + 5 + 1)
    assert flow.orig.payload == 3000 + 3000 + 1400 - 8


# -- counted as the datagrams that they make up --


@BOTH
def test_reassembled_they_count_as_one_packet_that_was_never_cut(datagram: bytes) -> None:
    [uncut], _ = run(datagram)
    for size in (64, 200, 1400):
        parts = pieces(datagram, size)
        for frames in (parts, parts[::-1]):
            [flow], _ = run(*timed(frames, 1), reassembled=True)
            assert flow.orig.packets - flow.orig.fragments == uncut.orig.packets
            assert (flow.orig.ip_bytes, flow.orig.payload) == (uncut.orig.ip_bytes, 3000)
            assert (flow.orig.bytes, flow.key) == (sum(map(len, parts)), uncut.key)


@BOTH
def test_reassembled_a_datagram_that_is_never_whole_adds_no_bytes(datagram: bytes) -> None:
    parts = pieces(datagram, 1400)
    for lost in range(3):
        frames = [*parts[:lost], *parts[lost + 1 :]]
        flows, _ = run(*timed(frames), reassembled=True)
        assert sum(flow.orig.packets - flow.orig.fragments for flow in flows) == 0
        assert sum(flow.orig.ip_bytes + flow.orig.payload for flow in flows) == 0


@BOTH
def test_reassembled_a_piece_that_comes_again_adds_nothing(datagram: bytes) -> None:
    parts = pieces(datagram, 1400)
    [flow], books = run(*timed([*parts, parts[1], *parts[:1]]), reassembled=True)
    assert (flow.orig.packets - flow.orig.fragments, flow.orig.payload) == (1, 3000)
    assert books.fragment_overlaps == 2


def test_reassembled_each_side_has_its_own() -> None:
    back = udp(B, A, 2000, 1000, bytes(2000))
    frames = [*pieces(DATAGRAM, 1400), *pieces(back, 1400, 8), *pieces(back, 1400, 9)[:1]]
    [flow], _ = run(*timed(frames), reassembled=True)
    assert (flow.orig.packets, flow.orig.fragments, flow.orig.payload) == (3, 2, 3000)
    assert (flow.resp.packets, flow.resp.fragments, flow.resp.payload) == (3, 2, 2000)


def test_reassembled_a_ping_in_pieces_is_a_ping() -> None:
    [uncut], _ = run(icmp_echo(A, B, 7, 1, bytes(3000)))
    [flow], _ = run(*pieces(icmp_echo(A, B, 7, 1, bytes(3000)), 1400), reassembled=True)
    assert (flow.orig.ip_bytes, flow.orig.payload) == (uncut.orig.ip_bytes, uncut.orig.payload)
    assert flow.key == uncut.key


def test_reassembled_a_segment_in_pieces_has_the_bytes_of_one() -> None:
    data = tcp(A, B, 1000, 80, bytes(3000), flags="PA", seq=11, ack=21)
    opening = [
        tcp(A, B, 1000, 80, flags="S", seq=10),
        tcp(B, A, 80, 1000, flags="SA", seq=20, ack=11),
    ]
    [uncut], _ = run(*opening, data)
    for size in (8, 1400):  # of 8 bytes: the header itself is in pieces
        [flow], _ = run(*opening, *pieces(data, size), reassembled=True)
        assert (flow.orig.payload, flow.history) == (3000, uncut.history)
        assert flow.orig.ip_bytes == uncut.orig.ip_bytes
        assert flow.orig.packets - flow.orig.fragments == 2


@BOTH
def test_zeek_s_log_counts_them_so(datagram: bytes) -> None:
    lone = pieces(datagram, 1400, 8)[0]
    options = FlowOptions(reassembled=True)
    batch = one_batch(timed([*pieces(datagram, 1400), lone]), options)
    [line] = [text.decode() for text in TextEncoder("zeek").encode_records(batch).records()]
    cells = dict(zip(FIELDS, line.rstrip("\n").split("\t"), strict=True))
    header = 40 if datagram is DATAGRAM6 else 20
    assert (cells["orig_pkts"], cells["orig_ip_bytes"]) == ("1", str(3008 + header))
    assert cells["orig_bytes"] == "3000"


# -- before their first --


@BOTH
def test_the_first_fragment_may_come_last(datagram: bytes) -> None:
    parts = pieces(datagram, 1400)[::-1]
    [flow], books = run(*timed(parts))
    assert (flow.key.orig.port, flow.key.resp.port) == (1000, 2000)
    assert (flow.orig.packets, flow.orig.bytes) == (3, sum(map(len, parts)))
    assert (flow.orig.payload, flow.history, flow.conn_state) == (3000, "D", "S0")
    assert (flow.start - START, flow.orig.last - START) == (0, 20 * MS)
    assert (books.fragments, books.partly_read["fragment"]) == (2, 0)


@BOTH
def test_fragments_in_any_order_are_the_packets_of_one_flow(datagram: bytes) -> None:
    parts = pieces(datagram, 200)
    source = random.Random(20_261_126)
    for _ in range(20):
        shuffled = source.sample(parts, len(parts))
        [flow], books = run(*timed(shuffled), packet_statistics=True, first_packets=len(parts))
        assert (flow.orig.packets, flow.orig.payload) == (len(parts), 3000)
        assert [p.size for p in flow.first_packets] == [len(p) for p in shuffled]
        assert books.fragments == len(parts) - 1


def test_a_flow_that_is_there_takes_what_waited() -> None:
    small = udp(A, B, 1000, 2000, b"x" * 10)
    back = udp(B, A, 2000, 1000, b"x" * 10)
    [flow], books = run(*timed([small, back, *pieces(DATAGRAM, 1400)[::-1], small]))
    assert (flow.orig.packets, flow.orig.payload, flow.resp.packets) == (5, 3020, 1)
    assert books.flows.started == 1


# -- without a first one --


@BOTH
def test_fragments_without_a_first_one_are_a_flow_without_ports(datagram: bytes) -> None:
    parts = pieces(datagram, 1400)[1:]
    [flow], books = run(*timed(parts))
    assert (flow.key.proto_name, flow.key.orig.port, flow.key.resp.port) == ("udp", 0, 0)
    assert (flow.orig.packets, flow.orig.bytes) == (2, sum(map(len, parts)))
    assert flow.orig.payload == 3008 - 1400
    assert (flow.start - START, flow.orig.last - START) == (0, 10 * MS)
    assert (books.fragments, books.partly_read["fragment"]) == (2, 2)


def test_all_of_two_hosts_are_one_flow_whatever_datagram_they_are_of() -> None:
    there = [pieces(DATAGRAM, 1400, ident)[1] for ident in range(50)]
    back = [pieces(udp(B, A, 2000, 1000, bytes(3000)), 1400, ident)[1] for ident in range(30)]
    [flow], books = run(*timed(there + back))
    assert (flow.orig.packets, flow.resp.packets) == (50, 30)
    assert books.partly_read["fragment"] == 80


@pytest.mark.parametrize("proto", ["tcp", "icmp"])
def test_other_protocols_have_no_ports_then_either(proto: str) -> None:
    whole = tcp(A, B, 1, 2, bytes(2000)) if proto == "tcp" else icmp_echo(A, B, 9, 1, bytes(2000))
    [flow], _ = run(*pieces(whole, 800)[1:])
    assert (flow.key.proto_name, flow.key.orig.port, flow.key.resp.port) == (proto, 0, 0)
    assert (flow.orig.packets, flow.history, flow.conn_state) == (2, "", "OTH")


def test_they_wait_for_the_fragment_timeout() -> None:
    parts = pieces(DATAGRAM, 1400)
    other = udp(A, B, 5, 6)
    late = [Frame(parts[1], START), Frame(other, START + 29 * SECOND)]
    flows, _ = run(*late, Frame(parts[0], START + 30 * SECOND - 1))
    assert sorted((f.key.orig.port, f.orig.packets) for f in flows) == [(5, 1), (1000, 2)]
    flows, books = run(
        *late, Frame(other, START + 31 * SECOND), Frame(parts[0], START + 32 * SECOND)
    )
    assert sorted((f.key.orig.port, f.orig.packets) for f in flows) == [(0, 1), (5, 2), (1000, 1)]
    assert books.partly_read["fragment"] == 1


def test_they_are_told_when_they_have_waited_even_if_no_fragment_follows() -> None:
    lone = Frame(pieces(DATAGRAM, 1400)[1], START)
    others = [Frame(udp(A, B, 5, 6), START + n * SECOND) for n in (29, 30, 31)]
    events, _ = replay([lone, *others], FlowOptions(update_interval=None))
    started = [e for e in events if isinstance(e, FlowStarted)]
    assert [(e.flow.key.orig.port, e.ts - START) for e in started] == [
        (5, 29 * SECOND), (0, 30 * SECOND),
    ]  # fmt: skip
    assert started[1].flow.start == START


def test_lone_fragments_far_apart_are_flows_of_their_own() -> None:
    lone = [pieces(DATAGRAM, 1400, ident)[1] for ident in (1, 2)]
    for apart, count in ((59, 1), (60, 2)):
        ticks = [Frame(udp(A, B, 5, 6), START + n * SECOND) for n in range(1, 200)]
        frames = [Frame(lone[0], START), Frame(lone[1], START + apart * SECOND), *ticks]
        flows, _ = run(*sorted(frames, key=lambda frame: frame.ts))
        assert len([f for f in flows if f.key.orig.port == 0]) == count


def test_the_active_timeout_divides_their_flow_by_their_own_times() -> None:
    lone = [pieces(DATAGRAM, 1400, ident)[1] for ident in range(20)]
    flows, _ = run(*timed(lone, SECOND), active_timeout=5.0)
    assert [f.orig.packets for f in flows] == [5, 5, 5, 5]


@pytest.mark.parametrize("hosts", [1, 200])
def test_a_flood_of_them_is_visible_and_bounded(hosts: int) -> None:
    frames = []
    for n in range(20_000):
        whole = udp(f"10.1.0.{n % hosts}", B, 1000, 2000, bytes(16))
        frames.append(Frame(pieces(whole, 16, n & 0xFFFF)[1], START + n * 1000))
    events, books = replay(frames, FlowOptions(update_interval=None, max_fragmented=64))
    ended = [event.flow for event in events if isinstance(event, FlowEnded)]
    assert books.balanced
    assert len(ended) == hosts
    assert sum(flow.orig.packets for flow in ended) == 20_000
    assert {flow.key.orig.port for flow in ended} == {0}
    assert (books.fragments, books.partly_read["fragment"]) == (20_000, 20_000)
    first = next(event for event in events if isinstance(event, FlowStarted))
    assert first.ts - START < MS  # the 64 places are full by then


def test_a_flood_of_pieces_of_one_datagram_is_bounded_too() -> None:
    piece = pieces(DATAGRAM, 1400)[1]
    [flow], books = run(*timed([piece] * 1000, 1000))
    assert (flow.orig.packets, books.fragments_waiting) == (1000, 0)


def test_those_that_wait_push_out_no_datagram_whose_first_is_known() -> None:
    first, second, third = pieces(DATAGRAM, 1400, 9)
    lone = [pieces(udp(A, B, 1, 2, bytes(16)), 16, n)[1] for n in range(10, 5000)]
    flows, _ = run(*timed([first, second, *lone, third], 1000), max_fragmented=4)
    assert sorted((f.key.orig.port, f.orig.packets) for f in flows) == [(0, 4990), (1000, 3)]


def test_inside_of_a_tunnel_they_wait_as_well() -> None:
    def vxlan(inner: bytes) -> bytes:
        return udp(
            "192.0.2.1", "192.0.2.2", 5555, 4789, struct.pack("!II", 1 << 27, 77 << 8) + inner
        )

    parts = pieces(DATAGRAM, 1000)
    for order in (parts, parts[::-1], parts[1:]):
        flows, books = run(*timed([vxlan(part) for part in order]))
        [outer] = [flow for flow in flows if flow.tunnel is None]
        [inner] = [flow for flow in flows if flow.tunnel is not None]
        assert (outer.orig.packets, inner.orig.packets) == (len(order), len(order))
        assert inner.tunnel is not None
        assert (inner.tunnel.flow_id, inner.tunnel.id) == (outer.id, 77)
        assert inner.key.orig.port == (1000 if parts[0] in order else 0)
        assert (books.inner, books.inner_not_keyed) == (len(order), 0)


def test_two_hosts_need_no_ports() -> None:
    [flow], books = run(*timed(pieces(DATAGRAM, 1400)[1:]), key=FlowKey.HOST_PAIR)
    assert (flow.orig.packets, books.partly_read["fragment"]) == (2, 0)


# -- a first one that is short --


def in_pieces(sizes: list[int], flags: str = "S", data: bytes = b"") -> list[bytes]:
    """A TCP segment in fragments of these sizes."""
    frame = tcp(A, B, 40_002, 80, data, flags=flags, seq=1, ack=1 if "A" in flags else 0)
    head, body = frame[14:34], frame[34:]
    found, at = [], 0
    for n, size in enumerate(sizes):
        more = 0x2000 if n < len(sizes) - 1 else 0
        packed = struct.pack("!HHH", 20 + size, 5, more | at // 8)
        found.append(ethernet(0x0800, head[:2] + packed + head[8:] + body[at : at + size]))
        at += size
    return found


@pytest.mark.parametrize("backwards", [False, True])
def test_a_syn_in_tiny_fragments_opens_a_connection(backwards: bool) -> None:
    parts = in_pieces([8, 8, 4])
    [flow], books = run(*timed(parts[::-1] if backwards else parts))
    assert (flow.key.orig.port, flow.key.resp.port, flow.orig.packets) == (40_002, 80, 3)
    assert (flow.conn_state, flow.history, flow.orig.payload) == ("S0", "S", 0)
    assert books.fragments == 2


def test_a_syn_whose_end_is_missing_is_a_flow_by_its_ports() -> None:
    [flow], books = run(*timed(in_pieces([8, 8, 4])[:2]))
    assert (flow.key.orig.port, flow.key.resp.port, flow.orig.packets) == (40_002, 80, 2)
    assert (flow.conn_state, flow.history) == ("OTH", "")
    assert books.partly_read["cut_transport"] == 1


def test_data_in_tiny_fragments_is_the_stream_s() -> None:
    def server(flags: str, ack: int) -> bytes:
        return tcp(B, A, 80, 40_002, flags=flags, seq=0 if "S" in flags else 1, ack=ack)

    opening = [tcp(A, B, 40_002, 80, flags="S", seq=0), server("SA", 1), in_pieces([20], "A")[0]]
    parts = in_pieces([16, 104], "PA", b"x" * 100)
    for order in (parts, parts[::-1]):
        [flow], _ = run(*timed([*opening, *order, server("A", 101)]))
        assert (flow.history, flow.orig.payload, flow.orig.missing_bytes) == ("ShADa", 100, 0)
        assert flow.orig.packets == 4


def test_a_first_one_too_short_for_ports_has_none() -> None:
    stub = bytearray(in_pieces([8, 12])[0])
    stub[16:18] = struct.pack("!H", 20 + 3)
    [flow], books = run(*timed([bytes(stub), in_pieces([8, 12])[1]]))
    assert (flow.key.proto_name, flow.key.orig.port, flow.key.resp.port) == ("tcp", 0, 0)
    assert (flow.orig.packets, books.partly_read["fragment"]) == (2, 2)


def test_other_headers_may_go_on_in_the_next_fragment() -> None:
    sctp = ip(A, B, 132, struct.pack("!HH", 1000, 2000) + bytes(60))
    [flow], _ = run(*timed(pieces(sctp, 8)))
    assert (flow.key.orig.port, flow.key.resp.port, flow.orig.packets) == (1000, 2000, 8)
