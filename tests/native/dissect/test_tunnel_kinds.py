"""Each kind of tunnel: opened on its ports, wherever these are, and never where it is none."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import warnings
from pathlib import Path

import pytest

from netring_bpf import Flow, FlowOptions, TunnelKind, TunnelPort
from netring_bpf.errors import OptionError
from tests.support.alone import alone
from tests.support.encapsulations import (
    BOTTOM,
    ETHERNET,
    OUT_A,
    OUT_B,
    PACKET,
    TUNNELS,
    VXLAN,
    A,
    B,
)
from tests.support.frames import ip, udp
from tests.support.replay import Frame
from tests.support.savefiles import pcap
from tests.support.sizes import size

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what scapy's ciphers will become
    from scapy.contrib import etherip, geneve, gtp, mpls, nsh  # noqa: F401 - each binds its layers
    from scapy.layers.inet import TCP
    from scapy.layers.l2 import Ether

PORTS = tuple(tunnel.port for tunnel in FlowOptions().tunnel_ports)


@pytest.fixture(scope="module")
def found() -> dict[str, list[Flow]]:
    flows, books = alone(row.frame for row in TUNNELS.values())
    assert books.inner == sum(row.over_udp for row in TUNNELS.values())
    return dict(zip(TUNNELS, flows, strict=True))


@pytest.mark.parametrize("name", TUNNELS)
def test_the_packet_inside_is_found(found: dict[str, list[Flow]], name: str) -> None:
    row = TUNNELS[name]
    [inner] = [flow for flow in found[name] if flow.key.orig.text == A]
    assert str(inner.key) == f"tcp {A}:40000 > {B}:80"
    assert (inner.orig.ip_bytes, inner.orig.payload) == (60, 20)
    assert inner.tunnel is not None
    assert (inner.tunnel.kind, inner.tunnel.id) == (row.kind, row.id)
    assert (len(found[name]), inner.key.network) == (1 + row.over_udp, row.network)
    outer = next((flow.id for flow in found[name] if flow is not inner), 0)
    assert inner.tunnel.flow_id == outer


def test_depth_nought_leaves_them_closed() -> None:
    flows, _ = alone((row.frame for row in TUNNELS.values()), tunnel_depth=0)
    assert {flow.key.orig.text for [flow] in flows} == {OUT_A, "fd01::1"}


def test_cut_anywhere_they_are_flows_of_their_own_or_opened() -> None:
    cut = [
        (name, Frame(row.frame[:n], len=len(row.frame)))
        for name, row in TUNNELS.items()
        for n in range(len(row.frame) + 1)
    ]
    flows, books = alone(frame for _, frame in cut)
    assert books.keyed + sum(books.not_keyed.values()) == len(cut)
    opened = dict.fromkeys(TUNNELS, 0)
    for (name, _), of_frame in zip(cut, flows, strict=True):
        assert {flow.key.orig.text for flow in of_frame} <= {A, OUT_A, "fd01::1"}
        opened[name] += any(flow.key.orig.text == A for flow in of_frame)
    # The ports end 36 bytes before the end.
    assert opened == dict.fromkeys(TUNNELS, 37)


# -- as others read them --

BY_TCPDUMP = {
    "pptp", "pptp, protocol of one byte", "mpls in gre", "ethernet in ipv6", "vxlan",
    "vxlan of linux", "vxlan with a policy", "vxlan-gpe of ipv4", "vxlan-gpe of ethernet",
    "vxlan-gpe of nsh", "geneve", "geneve of nsh", "mpls in udp", "l2tp",
    "l2tp, protocol of one byte", "l2tp with every field",
}  # fmt: skip
BY_SCAPY = {
    "pptp", "mpls in gre", "mpls in ip", "mpls in udp", "mpls in gre in udp", "a pseudowire in gre",
    "a pseudowire in udp", "nsh in gre", "etherip", "vxlan", "vxlan of linux",
    "vxlan with a policy", "vxlan-gpe of ipv4", "vxlan-gpe of ethernet", "vxlan-gpe of nsh",
    "geneve", "gtp-u", "l2tp", "l2tp with every field",
}  # fmt: skip


def test_scapy_finds_the_same_packet() -> None:
    found = set()
    for name, row in TUNNELS.items():
        segment = Ether(row.frame).getlayer(TCP)
        if segment is not None and (segment.sport, segment.dport) == (40_000, 80):
            found.add(name)
    assert found >= BY_SCAPY


@pytest.mark.requires("tcpdump")
def test_tcpdump_finds_the_same_packet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap(Frame(row.frame) for row in TUNNELS.values()))
    command = ["tcpdump", "-n", "-r", path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    packets = re.split(r"\n(?=\d\d:\d\d:\d\d)", printed.rstrip())
    assert len(packets) == len(TUNNELS)
    found = {
        name
        for name, text in zip(TUNNELS, packets, strict=True)
        if f"{A}.40000 > {B}.80: Flags [S]" in text
    }
    assert found >= BY_TCPDUMP


# -- ports --


def test_no_payload_of_something_else_is_a_flow() -> None:
    source = random.Random(20_261_126)
    frames = []
    for _ in range(size(4_000, 400_000)):
        payload = source.randbytes(source.randrange(8, 200))
        port = source.choice(PORTS)
        ports = (port, 40_000) if source.random() < 0.5 else (40_000, port)
        frames.append(udp(OUT_A, OUT_B, *ports, payload))
    _, books = alone(frames)
    assert (books.keyed, books.inner) == (len(frames), 0)
    assert books.inner_not_keyed < 10


HEADERS = {
    "vxlan": (4789, VXLAN),
    "vxlan of linux": (8472, VXLAN),
    "vxlan-gpe": (4790, struct.pack("!II", 0x0C000001, 100 << 8)),
    "geneve": (6081, struct.pack("!HHI", 0, 0x6558, 100 << 8)),
    "gtp-u": (2152, struct.pack("!BBHI", 0x30, 255, 100, 9)),
    "gre": (4754, struct.pack("!HH", 0, 0x0800)),
    "mpls": (6635, BOTTOM),
    "l2tp": (1701, struct.pack("!HHH", 2, 7, 9)),
    "l2tpv3": (1701, struct.pack("!HHI", 3, 0, 9)),
    "capwap": (5247, b"\0\x10\x02\0" + bytes(4)),
    "capwap of 802.11": (5247, b"\0\x10\x03\0" + bytes(4)),
    "lisp": (4341, b"\x80" + bytes(7)),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_right_header_before_something_else_is_no_flow_either(name: str) -> None:
    source = random.Random(name)
    port, header = HEADERS[name]
    frames = [
        udp(OUT_A, OUT_B, 55_555, port, header + source.randbytes(100))
        for _ in range(size(300, 100_000))
    ]
    _, books = alone(frames)
    assert (books.keyed, books.inner) == (len(frames), 0)


def kinds(frame: bytes, *ports: TunnelPort) -> list[TunnelKind]:
    """The kinds of tunnels that are opened, with these ports or the usual ones."""
    options = {"tunnel_ports": ports} if ports else {}
    [flows], _ = alone([frame], **options)
    return [flow.tunnel.kind for flow in flows if flow.tunnel is not None]


def test_a_tunnel_is_looked_for_on_the_ports_of_the_options() -> None:
    elsewhere = udp(OUT_A, OUT_B, 55_555, 9999, VXLAN + ETHERNET)
    vxlan, l2tp = TunnelPort(TunnelKind.VXLAN, 9999), TunnelPort(TunnelKind.L2TP, 4789)
    assert kinds(elsewhere) == []
    assert kinds(elsewhere, vxlan) == [TunnelKind.VXLAN]
    assert kinds(TUNNELS["vxlan"].frame, vxlan) == []
    # The port decides, whatever is the custom there.
    session = udp(OUT_A, OUT_B, 55_555, 4789, struct.pack("!HHH", 2, 7, 9) + b"\0\x21" + PACKET)
    assert kinds(session, vxlan, l2tp) == [TunnelKind.L2TP]
    back = udp(OUT_A, OUT_B, 9999, 55_555, VXLAN + ETHERNET)
    assert kinds(back, vxlan) == [TunnelKind.VXLAN]


def test_ports_with_the_same_low_byte_are_told_apart() -> None:
    ports = range(4789 % 256, 65_536, 256)
    flows, _ = alone(udp(OUT_A, OUT_B, 55_555, port, VXLAN + ETHERNET) for port in ports)
    assert [len(of_frame) for of_frame in flows] == [1 + (port == 4789) for port in ports]


def test_wrong_ports_are_refused() -> None:
    with pytest.raises(OptionError, match=r"kind=<TunnelKind.ERSPAN.*: must be one of .*VXLAN"):
        TunnelPort(TunnelKind.ERSPAN, 1)
    for port in (0, 65_536):
        with pytest.raises(OptionError, match=f"port={port}: must be from 1 to 65535"):
            TunnelPort(TunnelKind.VXLAN, port)
    twice = (TunnelPort(TunnelKind.VXLAN, 1), TunnelPort(TunnelKind.GENEVE, 1))
    with pytest.raises(OptionError, match="at most 32, each of another port"):
        FlowOptions(tunnel_ports=twice)
    many = tuple(TunnelPort(TunnelKind.VXLAN, port) for port in range(1, 34))
    with pytest.raises(OptionError, match="at most 32"):
        FlowOptions(tunnel_ports=many)
    assert len(FlowOptions(tunnel_ports=many[:32]).tunnel_ports) == 32


# -- what stays closed --

CLOSED = {
    "l2tp, control": udp(OUT_A, OUT_B, 1701, 1701, struct.pack("!HHHHHH", 0xC802, 12, 7, 0, 0, 0)),
    "l2tp, link control": udp(
        OUT_A, OUT_B, 1701, 1701, struct.pack("!HHH", 2, 7, 9) + b"\xff\x03\xc0\x21" + bytes(20)
    ),
    "l2tpv3 in ip, control": ip(OUT_A, OUT_B, 115, bytes(4) + ETHERNET),
    "capwap, encrypted": udp(OUT_A, OUT_B, 5247, 5247, b"\x01\0\0\0" + bytes(60)),
    "capwap, keep-alive": udp(OUT_A, OUT_B, 5247, 5247, b"\0\x10\x02\x08" + bytes(4) + ETHERNET),
    "capwap, in pieces": udp(OUT_A, OUT_B, 5247, 5247, b"\0\x10\x02\x80" + bytes(4) + ETHERNET),
    "etherip, version 2": ip(OUT_A, OUT_B, 97, b"\x20\0" + ETHERNET),
    "mpls in ip, without a bottom": ip(OUT_A, OUT_B, 137, bytes(4) * 16),
}  # fmt: skip


def test_what_cannot_be_read_stays_a_flow_of_its_own() -> None:
    flows, books = alone(CLOSED.values())
    assert [(flow.key.orig.text, flow.tunnel) for [flow] in flows] == [(OUT_A, None)] * len(CLOSED)
    assert (books.inner, books.inner_not_keyed) == (0, 0)
