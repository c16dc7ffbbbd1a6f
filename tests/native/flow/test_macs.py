"""The stations of a flow: the MAC addresses of its first packet, and their changes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from netring_bpf import FlowEnded, FlowKey, FlowOptions
from netring_bpf._core import ffi
from tests.support.frames import ip, tcp, udp
from tests.support.replay import SECOND, START, Frame, one_batch

A, B = "10.0.0.1", "10.0.0.2"
M, N, X = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
ENDED = FlowOptions(update_interval=None, events=(FlowEnded,))


def stations(
    frames: Sequence[bytes | Frame], options: FlowOptions = ENDED
) -> list[tuple[str, str, int] | None]:
    """Of each flow: the originator's and the responder's address, and the changes."""
    batch = one_batch(frames, options)
    found: list[tuple[str, str, int] | None] = []
    for row in range(len(batch)):
        at = row * batch.event_size
        event = ffi.from_buffer("nr_event *", batch.raw[at : at + batch.event_size])
        macs = (bytes(event.orig_mac).hex(":"), bytes(event.resp_mac).hex(":"), event.mac_changes)
        found.append(macs if event.has_macs else None)
    return found


def asks(n: int = 0, *, smac: str = M, dmac: str = N) -> Frame:
    return Frame(udp(A, B, 4000, 53, b"?", smac=smac, dmac=dmac), START + n)


def answers(n: int = 0, *, smac: str = N, dmac: str = M) -> Frame:
    return Frame(udp(B, A, 53, 4000, b"!", smac=smac, dmac=dmac), START + n)


def test_each_side_has_the_address_of_the_first_packet() -> None:
    assert stations([asks(), answers()]) == [(M, N, 0)]


def test_the_order_is_the_originators_whoever_is_seen_first() -> None:
    assert stations([answers(), asks()]) == [(M, N, 0)]


def test_a_flow_whose_sides_are_exchanged_exchanges_the_stations() -> None:
    answer = tcp(B, A, 5000, 4000, flags="SA", seq=9, ack=2, smac=N, dmac=M)
    assert stations([answer]) == [(N, M, 0)]
    assert stations([answer, tcp(A, B, 4000, 5000, flags="S", seq=1)]) == [(M, N, 0)]


def test_changes_are_counted_for_each_side() -> None:
    frames = [asks(0), asks(1), asks(2, smac=X), asks(3, smac=X), asks(4), answers(5), answers(6)]
    assert stations(frames) == [(M, N, 2)]


def test_a_reply_by_another_way_is_no_change() -> None:
    """A virtual router has one address, and answers from another one."""
    assert stations([asks(0), answers(1, smac=X), asks(2), answers(3, smac=X)]) == [(M, N, 0)]
    assert stations([asks(0), answers(1, smac=X), answers(2)]) == [(M, N, 1)]


def test_a_renewed_flow_begins_anew() -> None:
    options = FlowOptions(update_interval=None, events=(FlowEnded,), active_timeout=1.0)
    late = START + 2_000_000_000
    frames = [asks(), asks(1, smac=X), Frame(asks(smac=X).data, late)]
    assert stations(frames, options) == [(M, N, 1), (X, N, 0)]


def test_many_flows_keep_theirs_as_the_table_grows_and_entries_are_used_again() -> None:
    frames = [
        udp(A, B, 1024 + n, 53, smac=f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}") for n in range(3000)
    ]
    options = FlowOptions(update_interval=None, events=(FlowEnded,), max_flows=16)
    found = stations(frames, options)
    assert found == [(f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", N, 0) for n in range(3000)]


@pytest.mark.parametrize("key", list(FlowKey))
def test_every_key_has_them(key: FlowKey) -> None:
    options = FlowOptions(update_interval=None, events=(FlowEnded,), key=key)
    assert stations([asks()], options) == [(M, N, 0)]


def test_tags_and_options_do_not_hide_them() -> None:
    frames = [
        udp(A, B, 1, 2, vlans=(5, 6)),
        ip(A, B, 50, b"x" * 20),
        tcp("fd00::1", "fd00::2", 1, 2),
    ]
    assert stations(frames) == [(M, N, 0)] * 3


def test_the_flow_in_a_tunnel_has_those_of_the_outermost_frame() -> None:
    inner = udp("10.9.0.1", "10.9.0.2", 1, 2, smac=X, dmac=X)
    vxlan = udp(A, B, 5000, 4789, struct.pack("!II", 0x08000000, 77 << 8) + inner)
    gre = ip(A, B, 47, struct.pack("!HH", 0, 0x6558) + inner)
    assert stations([vxlan]) == [(M, N, 0)] * 2
    assert stations([gre]) == [(M, N, 0)]


def test_frames_of_loopback_have_none() -> None:
    zero = "00:00:00:00:00:00"
    assert stations([asks(smac=zero, dmac=zero)]) == [None]


def piece(at: int, *, smac: str) -> bytes:
    """A fragment of one datagram: byte 0 has the ports, byte 16 ends it."""
    whole = udp(A, B, 4000, 53, bytes(24), smac=smac)
    more = 0x2000 if at == 0 else 0
    header = struct.pack("!HHH", 36, 7, more | at // 8)
    return whole[:16] + header + whole[22:34] + whole[34 + at : 50 + at]


def test_fragments_before_their_first_have_those_of_their_own_frames() -> None:
    frames = [Frame(piece(16, smac=X), START), asks(31 * SECOND), asks(32 * SECOND)]
    assert stations(frames) == [(X, N, 0), (M, N, 0)]
    frames = [asks(0), Frame(piece(16, smac=M), START + 1), Frame(piece(0, smac=M), START + 2)]
    assert stations(frames) == [(M, N, 0)]
    frames = [asks(0), Frame(piece(16, smac=X), START + 1), Frame(piece(0, smac=M), START + 2)]
    assert stations(frames) == [(M, N, 2)]
