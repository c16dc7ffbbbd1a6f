"""Tunnels opened to a bounded depth, and what stays closed."""

from __future__ import annotations

import struct

import pytest

from netring_bpf import CaptureStatistics, Flow, FlowEnded, FlowOptions, Tunnel, TunnelKind
from tests.support.frames import ethernet, ip, tcp, udp
from tests.support.replay import Frame, replay
from tests.support.sizes import size

OUT_A, OUT_B = "192.0.2.1", "192.0.2.2"
A, B = "10.0.0.1", "10.0.0.2"
INNER = tcp(A, B, 40_000, 50_000, b"x" * 30, flags="S")
PACKET = INNER[14:]  # of IP


def vxlan(inner: bytes, vni: int = 77, src: str = OUT_A, dst: str = OUT_B) -> bytes:
    return udp(src, dst, 5555, 4789, struct.pack("!II", 0x08000000, vni << 8) + inner)


def geneve(inner: bytes, options: bytes = b"", protocol: int = 0x6558) -> bytes:
    head = struct.pack("!BBHI", len(options) // 4, 0, protocol, 88 << 8)
    return udp(OUT_A, OUT_B, 5555, 6081, head + options + inner)


def gtpu(inner: bytes, extension: bool = False) -> bytes:
    rest = b"\0\0\0\x85" + b"\x01\x10\x00\x00" if extension else b""
    flags = 0x34 if extension else 0x30
    head = struct.pack("!BBHI", flags, 255, len(rest) + len(inner), 99)
    return udp(OUT_A, OUT_B, 2152, 2152, head + rest + inner)


def gre(inner: bytes, protocol: int = 0x0800, key: int | None = None) -> bytes:
    flags = 0x2000 if key is not None else 0
    head = struct.pack("!HH", flags, protocol) + (b"" if key is None else struct.pack("!I", key))
    return ip(OUT_A, OUT_B, 47, head + inner)


def teredo(inner: bytes) -> bytes:
    origin = bytes(8)
    return udp(OUT_A, OUT_B, 50_001, 3544, origin + inner)


def run(*frames: bytes | Frame, **options: object) -> tuple[list[Flow], CaptureStatistics]:
    chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
    events, books = replay(frames, chosen)
    assert books.balanced
    return [event.flow for event in events if isinstance(event, FlowEnded)], books


def inside(flows: list[Flow]) -> Flow:
    [found] = [flow for flow in flows if flow.key.orig.text in {A, "fd00::1"}]
    return found


def ayiya(inner: bytes, port: int = 5072) -> bytes:
    head = bytes([0x40, 0x52, 0x11, 41, 0, 0, 0, 0]) + bytes(16 + 20)
    return udp(OUT_A, OUT_B, 50_002, port, head + inner)


V6 = udp("fd00::1", "fd00::2", 1, 2, b"x")[14:]
OVER_UDP = {
    "vxlan": (vxlan(INNER), TunnelKind.VXLAN, 77, 77),
    "geneve": (geneve(INNER), TunnelKind.GENEVE, 88, 88),
    "geneve with options": (geneve(INNER, bytes(12)), TunnelKind.GENEVE, 88, 88),
    "geneve of ip": (geneve(PACKET, protocol=0x0800), TunnelKind.GENEVE, 88, 88),
    "gtp-u": (gtpu(PACKET), TunnelKind.GTPU, 99, None),
    "gtp-u with an extension": (gtpu(PACKET, extension=True), TunnelKind.GTPU, 99, None),
    "gre over udp": (
        udp(OUT_A, OUT_B, 50_003, 4754, struct.pack("!HHI", 0x2000, 0x0800, 66) + PACKET),
        TunnelKind.GRE,
        66,
        None,
    ),
    "ayiya": (ayiya(V6), TunnelKind.AYIYA, 0, None),
    "ayiya on another port": (ayiya(V6, 777), TunnelKind.AYIYA, 0, None),
    "teredo": (teredo(V6), TunnelKind.TEREDO, 0, None),
}
IN_IP = {
    "gre": (gre(PACKET), TunnelKind.GRE, 0),
    "gre with a key": (gre(PACKET, key=123), TunnelKind.GRE, 123),
    "gre of ethernet": (gre(INNER, 0x6558), TunnelKind.GRE, 0),
    "erspan": (
        ip(OUT_A, OUT_B, 47, struct.pack("!HHI", 0x1000, 0x88BE, 1)
           + struct.pack("!HHI", 0x1000, 55, 0) + INNER),
        TunnelKind.ERSPAN, 55,
    ),
    "ip in ip": (ip(OUT_A, OUT_B, 4, PACKET), TunnelKind.IP, 0),
    "ipv6 in ipv4": (ip(OUT_A, OUT_B, 41, V6), TunnelKind.IP, 0),
    "ipv4 in ipv6": (ip("fd01::1", "fd01::2", 4, PACKET), TunnelKind.IP, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", OVER_UDP)
def test_a_tunnel_over_udp_is_a_flow_and_so_is_what_is_inside(name: str) -> None:
    frame, kind, number, network = OVER_UDP[name]
    flows, books = run(frame)
    assert len(flows) == 2
    [outer] = [flow for flow in flows if flow.key.orig.text == OUT_A]
    inner = inside(flows)
    assert outer.tunnel is None
    assert inner.tunnel == Tunnel(kind, number, outer.key.orig, outer.key.resp, outer.id)
    assert inner.key.network == network
    assert (books.keyed, books.inner, books.inner_not_keyed) == (1, 1, 0)


ORIGIN, AUTHENTICATION = bytes(8), bytes([0, 1, 3, 2]) + bytes(3 + 2 + 9)


@pytest.mark.parametrize("inner_host", ["2001:0:1::1", "fd00::1"])
@pytest.mark.parametrize("indications", [b"", ORIGIN, AUTHENTICATION, AUTHENTICATION + ORIGIN])
def test_between_clients_teredo_is_known_by_an_end_of_its_prefix(
    indications: bytes, inner_host: str
) -> None:
    inner = udp(inner_host, "fd00::2", 1, 2, b"x")[14:]
    flows, books = run(udp(OUT_A, OUT_B, 50_001, 50_002, indications + inner))
    opened = inner_host.startswith("2001:")
    assert (len(flows), books.inner, books.inner_not_keyed) == (1 + opened, opened, 0)


def test_payload_of_zeros_is_no_tunnel() -> None:
    [flow], books = run(udp(OUT_A, OUT_B, 50_001, 50_002, bytes(470)))
    assert (flow.orig.payload, books.inner, books.inner_not_keyed) == (470, 0, 0)


@pytest.mark.parametrize("name", IN_IP)
def test_in_a_tunnel_of_ip_the_packet_inside_is_the_one_that_counts(name: str) -> None:
    frame, kind, number = IN_IP[name]
    flows, books = run(frame)
    inner = inside(flows)
    assert len(flows) == 1
    assert inner.tunnel is not None
    assert (inner.tunnel.kind, inner.tunnel.id, inner.tunnel.flow_id) == (kind, number, 0)
    assert inner.tunnel.orig.text in {OUT_A, "fd01::1"}
    assert inner.orig.bytes == len(frame)
    assert (books.keyed, books.inner) == (1, 0)


@pytest.mark.parametrize("name", [*OVER_UDP, *IN_IP])
def test_depth_nought_leaves_them_closed(name: str) -> None:
    frame = (OVER_UDP | IN_IP)[name][0]
    [flow], _ = run(frame, tunnel_depth=0)
    assert flow.key.orig.text in {OUT_A, "fd01::1"}
    assert flow.tunnel is None


def test_the_depth_is_a_bound() -> None:
    nested = INNER
    for _ in range(5):
        nested = vxlan(nested)
    for depth in range(5):
        flows, books = run(nested, tunnel_depth=depth)
        # The same addresses on each level: told apart by what they are in.
        assert books.inner == depth
        assert sum(flow.packets for flow in flows) == 1 + depth


@pytest.mark.parametrize("name", [*OVER_UDP, *IN_IP])
def test_cut_anywhere_it_is_read_as_far_as_it_goes(name: str) -> None:
    frame = (OVER_UDP | IN_IP)[name][0]
    for caplen in range(14, len(frame), size(3, 1)):
        run(Frame(frame[:caplen], len=len(frame)))


def test_two_virtual_networks_are_two_flows() -> None:
    flows, _ = run(vxlan(INNER, 1), vxlan(INNER, 2))
    assert sorted(f.key.network for f in flows if f.key.network is not None) == [1, 2]


def test_what_cannot_be_opened_stays_a_flow_of_its_own() -> None:
    arp = gre(ethernet(0x0806, bytes(28)), 0x6558)
    [flow], books = run(arp)
    assert (flow.key.proto_name, books.inner_not_keyed) == ("gre", 0)
    flows, books = run(vxlan(ethernet(0x0806, bytes(28))))
    assert (len(flows), books.inner, books.inner_not_keyed) == (1, 0, 1)


def test_without_vlans_virtual_networks_are_one_too() -> None:
    flows, _ = run(vxlan(INNER, 1), vxlan(INNER, 2), key_vlan=False)
    assert (inside(flows).packets, inside(flows).key.network) == (2, None)


@pytest.mark.parametrize("inner", [PACKET + b"x", PACKET[:-1], b"\x50" + PACKET[1:]])
def test_gtp_u_is_only_what_a_packet_fills(inner: bytes) -> None:
    [flow], books = run(gtpu(inner))
    assert (flow.key.proto_name, books.inner, books.inner_not_keyed) == ("udp", 0, 0)


def test_a_tunnel_that_changes_a_sixth_time_leaves_its_letter() -> None:
    def through(port: int, inner: bytes) -> bytes:
        head = struct.pack("!II", 0x08000000, 77 << 8)
        return udp(OUT_A, OUT_B, port, 4789, head + inner)

    ping = udp(A, B, 1, 2, b"x")
    for changes, history in ((5, "D"), (6, "DX"), (20, "DX")):
        flows, _ = run(*(through(5000 + n % 2, ping) for n in range(changes + 1)))
        assert inside(flows).history == history
    flows, _ = run(*(through(5000, ping) for _ in range(20)))
    assert inside(flows).history == "D"


def test_the_two_directions_of_a_tunnel_are_one() -> None:
    back = udp(B, A, 2, 1, b"x")[14:]
    frames = [gre(udp(A, B, 1, 2, b"x")[14:]), ip(OUT_B, OUT_A, 47, b"\0\0\x08\0" + back)] * 10
    flows, _ = run(*frames)
    assert (inside(flows).history, inside(flows).packets) == ("Dd", 20)
