"""VLAN ids in keys: none from priority tags, and a mirrored frame's from its mirror's header."""

from __future__ import annotations

import struct

import pytest

from netring_bpf import Flow, FlowEnded, FlowOptions
from tests.support.frames import ip, tcp, udp
from tests.support.replay import Frame, replay

A, B = "10.0.0.1", "10.0.0.2"
PLAIN = udp(A, B, 1000, 2000, b"x" * 20)
DOT1Q, DOT1AD = 0x8100, 0x88A8
PRIORITY = 0xA000  # priority 5, VLAN id 0


def run(*frames: bytes | Frame, **options: object) -> list[Flow]:
    chosen = FlowOptions(update_interval=None, **options)  # type: ignore[arg-type]
    events, books = replay(frames, chosen)
    assert books.balanced
    return [event.flow for event in events if isinstance(event, FlowEnded)]


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame with tags (tpid, tci), outermost first."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


@pytest.mark.parametrize(
    ("tags", "vlans"),
    [
        ([(DOT1Q, 0)], ()),
        ([(DOT1Q, PRIORITY)], ()),
        ([(DOT1AD, PRIORITY)], ()),
        ([(DOT1AD, 7), (DOT1Q, PRIORITY)], (7,)),
        ([(DOT1AD, PRIORITY), (DOT1Q, 7)], (7,)),
        ([(DOT1Q, 0), (DOT1Q, 0)], ()),
        ([(DOT1Q, 0), (DOT1AD, 5), (DOT1Q, 6), (DOT1Q, 7)], (5, 6)),
    ],
)
def test_a_tag_with_id_0_is_no_vlan(tags: list[tuple[int, int]], vlans: tuple[int, ...]) -> None:
    [flow] = run(tagged(PLAIN, *tags))
    assert flow.key.vlans == vlans
    [flow] = run(tagged(tcp(A, B, 1, 2), *tags))
    assert flow.key.vlans == vlans


@pytest.mark.parametrize(
    ("stripped", "left", "vlans"),
    [(PRIORITY, (), ()), (PRIORITY, (7,), (7,)), (0, (7, 8), (7, 8)), (7, (0,), (7,))],
)
def test_the_tag_that_the_kernel_takes_out_has_none_either(
    stripped: int, left: tuple[int, ...], vlans: tuple[int, ...]
) -> None:
    frame = udp(A, B, 1000, 2000, vlans=left)
    [flow] = run(Frame(frame, len=len(frame) + 4, tag=(DOT1Q, stripped)))
    assert flow.key.vlans == vlans


def test_a_priority_tag_in_one_direction_does_not_split_a_connection() -> None:
    there = tcp(A, B, 40_000, 80, flags="S", seq=1)
    back = tcp(B, A, 80, 40_000, flags="SA", seq=9, ack=2)
    data = tcp(A, B, 40_000, 80, b"x" * 100, flags="PA", seq=2, ack=10)
    [flow] = run(tagged(there, (DOT1Q, PRIORITY)), back, tagged(data, (DOT1Q, PRIORITY)))
    assert (flow.history, flow.orig.packets, flow.resp.packets) == ("ShD", 2, 1)


def test_nine_tags_are_too_many_whatever_their_ids() -> None:
    _, books = replay([tagged(PLAIN, *[(DOT1Q, 0)] * 9)])
    assert books.not_keyed["too_many_tags"] == 1
    _, books = replay([Frame(tagged(PLAIN, *[(DOT1Q, 0)] * 8), tag=(DOT1Q, 0))])
    assert books.not_keyed["too_many_tags"] == 1


# -- ERSPAN --

UNTAGGED, WAS_TAGGED, TAG_KEPT = 0, 2, 3  # the field En of type II


def erspan2(inner: bytes, vlan: int, encapsulation: int = UNTAGGED) -> bytes:
    head = struct.pack("!HHI", 1 << 12 | vlan, encapsulation << 11 | 55, 0)
    return ip("192.0.2.1", "192.0.2.2", 47, struct.pack("!HHI", 0x1000, 0x88BE, 1) + head + inner)


def erspan3(inner: bytes, vlan: int, more: bytes = b"") -> bytes:
    head = struct.pack("!HHIHBB", 2 << 12 | vlan, 55, 0, 0, 0, 1 if more else 0) + more
    return ip("192.0.2.1", "192.0.2.2", 47, struct.pack("!HHI", 0x1000, 0x22EB, 1) + head + inner)


@pytest.mark.parametrize(
    ("frame", "vlans"),
    [
        (erspan2(PLAIN, 10), (10,)),
        (erspan2(PLAIN, 10, WAS_TAGGED), (10,)),
        (erspan2(PLAIN, 0), ()),
        (erspan2(tagged(PLAIN, (DOT1Q, 10)), 10, TAG_KEPT), (10,)),
        (erspan2(tagged(PLAIN, (DOT1Q, 10)), 99, TAG_KEPT), (10,)),
        (erspan2(tagged(PLAIN, (DOT1Q, 10)), 10), (10,)),
        (erspan2(tagged(PLAIN, (DOT1Q, 20)), 10), (10, 20)),
        (erspan3(PLAIN, 10), (10,)),
        (erspan3(PLAIN, 10, bytes(8)), (10,)),
        (erspan3(tagged(PLAIN, (DOT1Q, 10)), 10), (10,)),
        (erspan3(PLAIN, 0), ()),
    ],
)
def test_a_mirrored_frame_is_in_the_vlan_that_its_header_tells(
    frame: bytes, vlans: tuple[int, ...]
) -> None:
    [flow] = run(frame)
    assert flow.tunnel is not None
    assert (flow.key.orig.text, flow.tunnel.id, flow.key.vlans) == (A, 55, vlans)
    assert (flow.orig.bytes, flow.orig.ip_bytes, flow.orig.payload) == (len(frame), 48, 20)
    [flow] = run(frame, key_vlan=False)
    assert flow.key.vlans == ()


def test_two_mirrored_vlans_are_two_flows() -> None:
    frames = [erspan2(PLAIN, vlan) for vlan in (10, 20, 10, 20)]
    assert [(f.key.vlans, f.orig.packets) for f in run(*frames)] == [((10,), 2), ((20,), 2)]


def test_the_vlan_around_a_mirror_s_packets_is_not_that_of_the_mirrored_frame() -> None:
    [flow] = run(tagged(erspan2(PLAIN, 10), (DOT1Q, 300)))
    assert flow.key.vlans == (10,)
