"""Keys of flows: each kind of key, ICMP, and the statistics of a flow's packets."""

from __future__ import annotations

import statistics

import pytest

from netring_bpf import FirstPacket, Flow, FlowEnded, FlowKey, FlowOptions, PortTimeout
from netring_bpf.errors import OptionError
from tests.support.frames import DMAC, SMAC, ethernet, icmp_echo, ip, tcp, udp
from tests.support.replay import SECOND, START, Frame, replay

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
TALK = [
    udp(A, B, 1000, 2000), udp(B, A, 2000, 1000), udp(A, B, 1000, 2000, vlans=(5,)),
    tcp(A, B, 1000, 2000), udp(A, C, 1000, 2000),
]  # fmt: skip


def run(*frames: bytes | Frame, **options: object) -> list[Flow]:
    chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
    events, books = replay(frames, chosen)
    assert books.balanced
    return [event.flow for event in events if isinstance(event, FlowEnded)]


def told(flows: list[Flow]) -> list[tuple[str, int, int]]:
    return sorted((str(f.key), f.orig.packets, f.resp.packets) for f in flows)


def test_the_five_tuple_with_vlans() -> None:
    assert told(run(*TALK)) == [
        (f"tcp {A}:1000 > {B}:2000", 1, 0), (f"udp {A}:1000 > {B}:2000", 1, 1),
        (f"udp {A}:1000 > {B}:2000 vlan 5", 1, 0), (f"udp {A}:1000 > {C}:2000", 1, 0),
    ]  # fmt: skip


def test_the_five_tuple_without_vlans() -> None:
    assert told(run(*TALK, key_vlan=False)) == [
        (f"tcp {A}:1000 > {B}:2000", 1, 0), (f"udp {A}:1000 > {B}:2000", 2, 1),
        (f"udp {A}:1000 > {C}:2000", 1, 0),
    ]  # fmt: skip


def test_pairs_of_hosts() -> None:
    flows = run(*TALK, key=FlowKey.HOST_PAIR, key_vlan=False)
    assert told(flows) == [(f"0 {A}:0 > {B}:0", 3, 1), (f"0 {A}:0 > {C}:0", 1, 0)]


def test_pairs_of_stations() -> None:
    arp = ethernet(0x0806, bytes(28))
    back = ethernet(0x0806, bytes(28), smac=DMAC, dmac=SMAC)
    [flow] = run(*TALK, arp, back, key=FlowKey.MAC_PAIR, key_vlan=False)
    assert (str(flow.key), flow.orig.packets, flow.resp.packets) == (f"0 {SMAC} > {DMAC}", 6, 1)
    assert flow.key.orig.text == SMAC
    with pytest.raises(ValueError, match="16 bytes"):
        flow.key.community_id()


def test_each_direction_by_itself() -> None:
    assert told(run(*TALK[:2], directional=True)) == [
        (f"udp {A}:1000 > {B}:2000", 1, 0), (f"udp {B}:2000 > {A}:1000", 1, 0),
    ]  # fmt: skip


def test_keys_are_values() -> None:
    first, second = run(TALK[0])[0].key, run(TALK[0])[0].key
    assert first == second
    assert len({first, second}) == 1
    assert first.orig.packed == bytes([10, 0, 0, 1])
    assert str(first.orig.addr) == A


def test_two_pings_between_two_hosts_are_two_flows() -> None:
    frames = [icmp_echo(A, B, 1, 1), icmp_echo(B, A, 1, 1, reply=True), icmp_echo(A, B, 2, 1)]
    assert [f.packets for f in run(*frames)] == [2, 1]


def test_who_asks_is_part_of_the_key() -> None:
    flows = run(icmp_echo(A, B, 1, 1), icmp_echo(B, A, 1, 1))
    assert [str(f.key.orig.addr) for f in flows] == [A, B]
    mine, theirs = (f.key.community_id() for f in flows)
    assert mine != theirs


def test_a_host_that_pings_itself() -> None:
    [flow] = run(icmp_echo(A, A, 1, 1), icmp_echo(A, A, 1, 1, reply=True))
    assert (flow.orig.packets, flow.resp.packets, flow.key.orig.port) == (1, 1, 8)


def icmp_error(kind: int, code: int, quoted: bytes, src: str = B, dst: str = A) -> bytes:
    return ip(src, dst, 1, bytes((kind, code)) + bytes(6) + quoted[14:][:28])


def test_an_error_belongs_to_the_flow_it_quotes_and_is_one_of_its_own() -> None:
    asked = udp(A, B, 1000, 2000)
    flows = run(asked, icmp_error(3, 3, asked), icmp_error(11, 0, asked, src=C))
    quoted = next(f for f in flows if f.key.proto_name == "udp")
    assert (quoted.icmp_errors, quoted.icmp_error, quoted.packets) == (2, (11, 0), 1)
    errors = [(f.key.orig.port, f.key.resp.port) for f in flows if f.key.proto_name == "icmp"]
    assert sorted(errors) == [(3, 3), (11, 0)]


def test_errors_of_the_two_directions_are_two_flows() -> None:
    asked = udp(A, B, 1000, 2000)
    flows = run(icmp_error(3, 3, asked), icmp_error(3, 3, asked, src=A, dst=B))
    assert len(flows) == 2


def test_a_port_has_a_timeout_of_its_own() -> None:
    frames = [Frame(udp(A, B, 9, 777), START), Frame(udp(A, B, 9, 777), START + 2 * SECOND)]
    assert len(run(*frames)) == 1
    assert len(run(*frames, port_timeouts=(PortTimeout("udp", 777, 2.0),))) == 2
    assert len(run(*frames, port_timeouts=(PortTimeout("tcp", 777, 2.0),))) == 1
    with pytest.raises(OptionError, match="at most 16"):
        FlowOptions(port_timeouts=(PortTimeout("udp", 1, 1.0), PortTimeout("udp", 1, 2.0)))


@pytest.mark.parametrize(("port", "timeout"), [(22, 3600), (513, 3600), (443, 300)])
def test_where_people_stop_to_think_an_hour_is_waited(port: int, timeout: int) -> None:
    hands = [
        tcp(A, B, 40_000, port, flags="S", seq=10),
        tcp(B, A, port, 40_000, flags="SA", seq=20, ack=11),
        tcp(A, B, 40_000, port, flags="A", seq=11, ack=21),
    ]
    later = tcp(A, B, 40_000, port, b"x", flags="A", seq=11, ack=21)
    for wait, count in ((timeout * SECOND - 1, 1), (timeout * SECOND, 2)):
        flows = run(*(Frame(hand, START) for hand in hands), Frame(later, START + wait))
        assert len(flows) == count


def test_sizes_and_gaps_of_each_side() -> None:
    sizes, times = [60, 100, 300, 80], [0, 5, 25, 40]
    frames = [
        Frame(udp(A, B, 1, 2, bytes(size - 42)), START + time * 1000)
        for size, time in zip(sizes, times, strict=True)
    ] + [Frame(udp(B, A, 2, 1, bytes(58)), START + 41_000)]
    [flow] = run(*frames, packet_statistics=True)
    assert flow.statistics is not None
    orig, resp = flow.statistics
    assert (orig.size.min, orig.size.max, orig.size.mean) == (60, 300, statistics.mean(sizes))
    assert orig.size.deviation == pytest.approx(statistics.pstdev(sizes))
    gaps = [5000, 20_000, 15_000]
    assert (orig.gap.min, orig.gap.max) == (5000, 20_000)
    assert orig.gap.mean == pytest.approx(statistics.mean(gaps))
    assert orig.gap.deviation == pytest.approx(statistics.pstdev(gaps))
    assert (resp.size.min, resp.size.deviation, resp.gap.max) == (100, 0.0, 0)
    assert run(*frames)[0].statistics is None


def test_the_first_packets_one_by_one() -> None:
    frames = [
        Frame(udp(A, B, 1, 2, bytes(58)), START), Frame(udp(B, A, 2, 1, bytes(158)), START + 700),
        Frame(udp(A, B, 1, 2, bytes(58)), START + 900),
        Frame(udp(A, B, 1, 2, bytes(58)), START + 950),
    ]  # fmt: skip
    [flow] = run(*frames, first_packets=3)
    assert flow.first_packets == (
        FirstPacket(100, 0), FirstPacket(-200, 700), FirstPacket(100, 200),
    )  # fmt: skip
    [short] = run(*frames[:2], first_packets=3, packet_statistics=True)
    assert short.first_packets == (FirstPacket(100, 0), FirstPacket(-200, 700))


def test_a_record_as_plain_values() -> None:
    [flow] = run(*TALK[:2], packet_statistics=True, first_packets=1)
    plain = flow.to_dict()
    assert plain["proto"] == "udp"
    assert plain["conn_state"] == "SF"
    assert plain["community_id"] == flow.key.community_id()
    assert (plain["orig_addr"], plain["orig_port"], plain["orig_packets"]) == (A, 1000, 1)
    assert (plain["first_packet_sizes"], plain["first_packet_gaps"]) == ([60], [0.0])


@pytest.mark.parametrize("answer", [udp(B, A, 53, 4000), tcp(B, A, 80, 4000, flags="SA")])
def test_without_server_ports_the_first_to_send_is_the_originator(answer: bytes) -> None:
    [flow] = run(answer)
    assert (flow.key.orig.text, flow.history[:1]) == (A, "^")
    [flow] = run(answer, server_ports=False)
    assert (flow.key.orig.text, flow.history) == (B, "H" if flow.key.proto_name == "tcp" else "D")
