"""Aggregates of 802.11: each frame inside is a packet."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from netring_bpf import CaptureStatistics, Flow
from tests.support.frames import ethernet, ip, udp
from tests.support.replay import Frame, replay_file
from tests.support.savefiles import pcap
from tests.support.sizes import size

A, B = "10.0.0.1", "10.0.0.2"
STATIONS = bytes.fromhex("02000000000b02000000000a")
SNAP = b"\xaa\xaa\x03\0\0\0"
LINKTYPE_80211 = 105


def subframe(frame: bytes) -> bytes:
    body = SNAP + frame[12:]
    return STATIONS + struct.pack("!H", len(body)) + body


def aggregate(*frames: bytes) -> bytes:
    """A data frame of the class with quality of service, which holds several."""
    header = b"\x88\x00\0\0" + STATIONS + bytes(6) + b"\0\0" + b"\x80\0"
    parts = [subframe(frame) for frame in frames]
    return header + b"".join(part + bytes(-len(part) % 4) for part in parts[:-1]) + parts[-1]


def read(
    tmp_path: Path, frame: bytes, caplen: int | None = None
) -> tuple[list[Flow], CaptureStatistics]:
    path = tmp_path / "wireless.pcap"
    data = frame if caplen is None else frame[:caplen]
    path.write_bytes(pcap([Frame(data, len=len(frame))], linktype=LINKTYPE_80211))
    story = replay_file(path)
    return [event.flow for event in story.ended], story.books


def unpadded(frame: bytes) -> bytes:
    return frame[: 14 + struct.unpack_from("!H", frame, 16)[0]]


def numbered(count: int) -> list[bytes]:
    return [unpadded(udp(A, B, 1000 + n, 2000, bytes(n))) for n in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_frame_of_an_aggregate_is_a_packet(tmp_path: Path, count: int) -> None:
    whole = aggregate(*numbered(count))
    flows, books = read(tmp_path, whole)
    assert [f.key.orig.port for f in flows] == [1000 + n for n in range(count)]
    assert [f.orig.payload for f in flows] == list(range(count))
    assert [f.orig.ip_bytes for f in flows] == [28 + n for n in range(count)]
    assert (books.keyed, books.inner, books.inner_not_keyed) == (1, count - 1, 0)
    assert flows[0].orig.bytes == len(whole)


def test_no_more_than_eight_are_read(tmp_path: Path) -> None:
    flows, books = read(tmp_path, aggregate(*numbered(20)))
    assert (len(flows), books.inner, books.inner_not_keyed) == (8, 7, 1)


def test_an_aggregate_that_was_cut_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    whole = aggregate(*numbered(3))
    for caplen in range(0, len(whole), size(5, 1)):
        flows, books = read(tmp_path, whole, caplen)
        assert len(flows) <= 3
        assert books.balanced


def test_both_frames_of_a_tunnel_are_of_one_flow(tmp_path: Path) -> None:
    twice = aggregate(*[unpadded(udp(A, B, 1, 2, b"x"))] * 2)
    tunnel = ip("192.0.2.1", "192.0.2.2", 47, struct.pack("!HH", 0, 0x8200) + twice)
    path = tmp_path / "tunnel.pcap"
    path.write_bytes(pcap([Frame(tunnel)]))
    [ended] = replay_file(path).ended
    flow = ended.flow
    assert flow.tunnel is not None
    assert (flow.tunnel.flow_id, flow.orig.packets, flow.orig.ip_bytes) == (0, 2, 58)


def test_a_frame_without_ip_behind_the_first_is_told(tmp_path: Path) -> None:
    arp = ethernet(0x0806, bytes(28))[:42]
    flows, books = read(tmp_path, aggregate(*numbered(1), arp))
    assert (len(flows), books.inner_not_keyed) == (1, 1)
