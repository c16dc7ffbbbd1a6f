"""Links, tags and labels: the packet is found under each, cut or whole, as others find it."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
from pathlib import Path

import pytest

from netring_bpf import Flow, FlowKey
from netring_bpf.errors import FilterError
from netring_bpf.filter.libpcap import Interpreter, Savefile, compile_for_file
from tests.support.alone import alone, alone_in_a_file
from tests.support.encapsulations import ETHERNET, LINKS, MACS, PACKET, SNAP, TAGS, A, B
from tests.support.frames import tcp, udp
from tests.support.replay import Frame, replay_file
from tests.support.savefiles import Interface, pcap, section

FRAMES = {**LINKS, **{name: (1, MACS + tail) for name, tail in TAGS.items()}}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Flow]]:
    flows, _ = alone_in_a_file(tmp_path_factory.mktemp("whole"), [*FRAMES.values()])
    return dict(zip(FRAMES, flows, strict=True))


@pytest.mark.parametrize("name", FRAMES)
def test_the_packet_is_found(found: dict[str, list[Flow]], name: str) -> None:
    [flow] = found[name]
    vlan = " vlan 10" if name.endswith(" vlan") else ""
    assert str(flow.key) == f"tcp {A}:40000 > {B}:80{vlan}"
    length = len(FRAMES[name][1])
    assert (flow.orig.bytes, flow.orig.ip_bytes, flow.orig.payload) == (length, 60, 20)
    assert flow.tunnel is None


def test_cut_anywhere_it_is_counted_by_a_reason(tmp_path: Path) -> None:
    cut = [
        (name, linktype, Frame(frame[:size], len=len(frame)))
        for name, (linktype, frame) in FRAMES.items()
        for size in range(len(frame) + 1)
    ]
    flows, books = alone_in_a_file(tmp_path, [(linktype, frame) for _, linktype, frame in cut])
    keyed = dict.fromkeys(FRAMES, 0)
    for (name, _, _), of_frame in zip(cut, flows, strict=True):
        keyed[name] += len(of_frame)
    # The ports end 36 bytes before the end; MACsec has 16 more behind.
    assert keyed == {name: 53 if "macsec" in name else 37 for name in FRAMES}
    assert books.keyed + sum(books.not_keyed.values()) == len(cut)


# -- as others read them --

# tcpdump 4.99 finds no IP in these. It knows no pseudowire, and takes one to a station that begins
# with 4 or 6 for IP that was cut; the other headers it does not know.
NOT_BY_TCPDUMP = {
    "cisco hdlc with a direction", "ppp with a direction", "frame relay with a direction", "mpls",
    "epon", "backbone", "e-tag", "vn-tag", "hsr", "trill", "trill with options", "batman",
    "batman, four addresses", "batman to all", "batman, version 14", "security group tag",
    "security group tag in a vlan", "nsh of mpls", "nsh of nsh",
    *(name for name in TAGS if name.startswith("pseudowire")),
}  # fmt: skip


@pytest.mark.requires("tcpdump")
def test_tcpdump_finds_the_same_packet(tmp_path: Path) -> None:
    differ = set()
    rows = sorted(FRAMES.items(), key=lambda row: row[1][0])
    for linktype, of_link in itertools.groupby(rows, key=lambda row: row[1][0]):
        names = {name: Frame(frame) for name, (_, frame) in of_link}
        path = tmp_path / "file"
        path.write_bytes(pcap(names.values(), linktype=linktype))
        printed = subprocess.run(
            ["tcpdump", "-n", "-r", path], capture_output=True, text=True, check=True
        ).stdout
        packets = re.split(r"\n(?=\d\d:\d\d:\d\d)", printed.rstrip())
        for name, text in zip(names, packets, strict=True):
            if f"{A}.40000 > {B}.80: Flags [S]" not in text:
                differ.add(name)
    assert differ <= NOT_BY_TCPDUMP


OTHER = udp(B, A, 53, 5353, b"answer" * 5)
EXPRESSIONS = ("tcp port 80", f"host {A}", "udp", "ip", "ip6", f"src {B} and udp", "len > 70", "")


def taken_by_libpcap(folder: Path, linktype: int, frames: list[Frame], expression: str) -> int:
    path = folder / "one link"
    path.write_bytes(pcap(frames, linktype=linktype))
    with Savefile(path) as file:
        dlt, snaplen = file.linktype, file.snaplen
    try:
        program = Interpreter(compile_for_file(expression, dlt, snaplen, 0xFFFFFFFF))
    except FilterError:
        return 0  # no such word for this link
    return sum(program.run(f.data, f.len or len(f.data)) > 0 for f in frames)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filter_takes_what_libpcap_takes(tmp_path: Path, expression: str) -> None:
    rows, taken = [], 0
    for name, (linktype, frame) in LINKS.items():
        # The second has another packet under the same header, the third is cut.
        other = frame.replace(PACKET, OTHER[14:])
        assert other != frame, name
        frames = [Frame(frame), Frame(other), Frame(frame[:-30], len=len(frame))]
        rows += [(linktype, frame) for frame in frames]
        taken += taken_by_libpcap(tmp_path, linktype, frames, expression)
    linktypes = sorted({linktype for linktype, _ in rows})
    path = tmp_path / "file"
    path.write_bytes(
        section(
            [Interface(linktype) for linktype in linktypes],
            [(linktypes.index(linktype), frame) for linktype, frame in rows],
        )
    )
    books = replay_file(path, filter=expression).books
    assert books.file_frames - books.file_filtered == taken
    assert taken > 0 or expression == "ip6"


# -- one by one --


def test_a_link_in_a_link_is_bounded(tmp_path: Path) -> None:
    def ppi(linktype: int) -> bytes:
        return struct.pack("<BBHI", 0, 0, 8, linktype)

    frames = [(192, ppi(192) * depth + ppi(1) + ETHERNET) for depth in range(100)]
    flows, books = alone_in_a_file(tmp_path, [*frames, (192, ppi(147) + ETHERNET)])
    assert [len(of_frame) for of_frame in flows] == [1, 1, 1] + [0] * 98
    assert books.not_keyed["unknown_link"] == 98


# What is nested, and what the innermost has behind it.
NESTED = {
    "e-tag": (b"\x89\x3f" + bytes(6), b"\x08\0"),
    "hsr": (b"\x89\x2f" + bytes(4), b"\x08\0"),
    "mixed": (bytes.fromhex("893f 0000 0000 0000 892f 0000 0000"), b"\x08\0"),
    "ethernet": (b"\x65\x58" + MACS, b"\x08\0"),
    "batman": (bytes.fromhex("4305 400f 3200") + bytes(6) + MACS, b"\x08\0"),
}


@pytest.mark.parametrize("name", NESTED)
def test_more_than_eight_of_anything_are_too_many(name: str) -> None:
    one, last = NESTED[name]
    most = 4 if name in {"mixed", "batman"} else 8  # batman is in front of Ethernet
    flows, books = alone(MACS + one * count + last + PACKET for count in range(1, 41))
    assert [len(of_frame) for of_frame in flows] == [1] * most + [0] * (40 - most)
    assert books.not_keyed["too_many_tags"] == 40 - most


def test_stations_of_a_link_with_addresses_key_a_flow(tmp_path: Path) -> None:
    names = ("fddi", "a switch's tag, broadcom", "netanalyzer", "ppi of 802.11", "cisco hdlc")
    rows = [LINKS[name] for name in names]
    flows, books = alone_in_a_file(tmp_path, rows, key=FlowKey.MAC_PAIR)
    assert [str(flow.key.orig) for of_frame in flows for flow in of_frame] == [
        "02:00:00:00:00:0a"
    ] * 4
    assert books.not_keyed["unknown_link"] == 1


NOT_OPENED = {
    "macsec, encrypted": (1, MACS + b"\x88\xe5\x0c\0" + bytes(4) + b"\x08\0" + PACKET),
    "nsh of something else": (1, MACS + b"\x89\x4f\x0f\xc2\x01\x07" + bytes(4) + PACKET),
    "batman's own": (1, MACS + b"\x43\x05\0\x0f" + bytes(50)),
    "ppp, link control": (9, b"\xff\x03\xc0\x21" + bytes(20)),
    "cisco hdlc, keep-alive": (104, b"\x8f\0\x80\x35" + bytes(18)),
    "frame relay, management": (107, b"\0\x01\x03\x08" + bytes(18)),
    "a pseudowire of nothing known": (1, MACS + b"\x88\x47\0\0\x01\x40" + b"\xa5" * 60),
    "snap of nothing known": (100, SNAP[:6] + b"\x80\x35" + bytes(20)),
}


def test_anything_else_has_its_reason(tmp_path: Path) -> None:
    flows, books = alone_in_a_file(tmp_path, [*NOT_OPENED.values()])
    assert [name for name, of_frame in zip(NOT_OPENED, flows, strict=True) if of_frame] == []
    assert books.not_keyed["not_ip"] == len(NOT_OPENED)


def test_ip_under_a_label_is_no_pseudowire() -> None:
    # From 8.0.69.0: the bytes of the addresses are those of Ethernet before IPv4.
    inner = tcp("8.0.69.0", "0.60.0.1", 40_000, 80, b"x" * 60, flags="S")[14:]
    [[flow]], _ = alone([MACS + b"\x88\x47\0\0\x01\x40" + inner])
    assert flow.key.orig.text == "8.0.69.0"
