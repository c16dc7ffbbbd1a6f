"""Random packets: the C core tells of every flow what the slow model tells of it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netring_bpf import Counters, FlowEnded, FlowOptions, TcpState
from netring_bpf.ring.reader import Reader
from tests.model import flow_model as model
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.replay import SECOND, START, Frame
from tests.support.sizes import size

A, B = "10.0.0.1", "10.0.0.2"
TCP_ENDS = [((A, 40_000), (B, 50_000)), ((A, 40_001), (B, 80)), ((B, 40_000), (A, 50_000))]
UDP_ENDS = [((A, 1000), (B, 2000)), ((A, 1001), (B, 53))]
FLAGS = ["S", "SA", "A", "PA", "A", "PA", "FA", "F", "R", "RA", "SF", "FR", "SR", ""]
BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
STEPS = [
    0, 1000, 1000, 1000, SECOND, 4 * SECOND, 5 * SECOND, 21 * SECOND, -SECOND, 2 * SECOND,
    -3 * SECOND, 7200 * SECOND, -7200 * SECOND, 10**17, -(10**17),
]  # fmt: skip

numbers = st.one_of(
    st.integers(0, 8).map(lambda n: n * 5), st.integers(0, 1),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 17_000, 2_000_000]),
    st.sampled_from([10**9, 10**9, 10**9 + 5, 10**9 + 10, 3 * 10**9, 3 * 10**9 + 5]),
)  # fmt: skip
tcp_packets = st.tuples(
    st.just("tcp"), st.integers(0, 2), st.booleans(), st.sampled_from(FLAGS), numbers, numbers,
    st.sampled_from([0, 0, 5, 5, 10]), st.sampled_from([1, 1, 1, 0]), st.sampled_from(STEPS),
)  # fmt: skip
udp_packets = st.tuples(
    st.just("udp"), st.integers(0, 1), st.booleans(), st.integers(0, 40), st.sampled_from(STEPS)
)
icmp_packets = st.tuples(st.just("icmp"), st.integers(0, 1), st.booleans(), st.sampled_from(STEPS))
conversations = st.lists(
    st.one_of(tcp_packets, tcp_packets, udp_packets, icmp_packets), max_size=18
)
limits = st.builds(
    lambda active, cap: model.Limits(
        (5 * SECOND, 5 * SECOND, 20 * SECOND, 10 * SECOND, 8 * SECOND),
        active and active * SECOND, cap,
    ),
    st.sampled_from([None, None, 6]), st.sampled_from([1, 2, 3, 100]),
)  # fmt: skip


def packet_of(op: tuple[Any, ...], ts: int) -> tuple[model.Packet, Frame]:
    """The packet for the model, and its frame for the C core."""
    proto, which, back = op[:3]
    if proto == "tcp":
        _, _, _, flags, seq, ack, length, window, _ = op
        src, dst = TCP_ENDS[which][::-1] if back else TCP_ENDS[which]
        # The two sides' numbers begin at different places, one of them near the wrap.
        seq, ack = (seq + 500, ack - 20) if back else (seq - 20, ack + 500)
        seq, ack = seq % 2**32, ack % 2**32 if "A" in flags else 0
        data = tcp(
            src[0],
            dst[0],
            src[1],
            dst[1],
            bytes(length),
            flags=flags,
            seq=seq,
            ack=ack,
            window=window,
        )
        return model.Packet(
            "tcp", src, dst, ts, len(data), 40 + length, length, flags, seq, ack, window
        ), Frame(data, ts)
    if proto == "udp":
        length = op[3]
        src, dst = UDP_ENDS[which][::-1] if back else UDP_ENDS[which]
        data = udp(src[0], dst[0], src[1], dst[1], bytes(length))
        return model.Packet("udp", src, dst, ts, len(data), 28 + length, length), Frame(data, ts)
    # The "port" is the identifier and who asks: each ping is a flow of its own.
    src, dst = ((B, which), (A, which)) if back else ((A, which), (B, which))
    data = icmp_echo(src[0], dst[0], which, 1, reply=back)
    return model.Packet("icmp", src, dst, ts, len(data), 28, 0, reply=back), Frame(data, ts)


def told_by_model(packets: list[model.Packet], chosen: model.Limits) -> list[tuple[object, ...]]:
    table = model.Table(chosen)
    moments = model.moments([packet.ts for packet in packets])
    for packet, moment in zip(packets, moments, strict=True):
        table.packet(packet, moment)
    table.flush()
    return [
        (reason, flow.proto, [a for a, _ in flow.ends], flow.start, flow.history,
         *(of_side(flow, n) for n in (0, 1)))
        for reason, flow in table.ended
    ]  # fmt: skip


def of_side(flow: model.Flow, number: int) -> Counters:
    side, peer = flow.sides[number], flow.sides[1 - number]
    is_tcp = flow.proto == "tcp"
    return Counters(
        side.packets, side.bytes, side.ip_bytes, side.size(peer) if is_tcp else side.payload,
        side.first, side.last, side.rtt, side.missing, side.retransmitted, side.out_of_order,
        side.gaps, side.zero_windows, 0, side.implausible,
        TcpState[side.state.upper()] if is_tcp else 0,
        sum(BITS[letter] for letter in side.flags),
        int(side.fin is not None and side.acked >= side.fin),
    )  # fmt: skip


def told_by_core(frames: list[Frame], chosen: model.Limits) -> list[tuple[object, ...]]:
    half_open, closing, idle_tcp, idle_udp, idle_icmp = (n / SECOND for n in chosen.idle)
    options = FlowOptions(
        half_open=half_open, close_delay=closing, idle_tcp=idle_tcp, idle_udp=idle_udp,
        idle_icmp=idle_icmp, active_timeout=chosen.active and chosen.active / SECOND,
        update_interval=None, port_timeouts=(), max_flows=chosen.max_flows, event_slots=1024,
        max_fragmented=4,
    )  # fmt: skip
    with Reader(options) as reader:
        reader.add_replay(b"".join(frame.record() for frame in frames))
        assert reader.run() == 0  # so few events that nobody has to take them meanwhile
        assert reader.flush() == 0
        events = reader.take(1024)
        assert reader.statistics("replay", None, (), {}).balanced
    return [
        (e.reason.value, e.flow.key.proto_name, [e.flow.key.orig.text, e.flow.key.resp.text],
         e.flow.start, e.flow.history, e.flow.orig, e.flow.resp)
        for e in events if isinstance(e, FlowEnded)
    ]  # fmt: skip


@settings(max_examples=size(150, 10_000), deadline=None, suppress_health_check=list(HealthCheck))
@given(conversations, limits)
def test_the_core_agrees_with_the_model(
    operations: list[tuple[Any, ...]], chosen: model.Limits
) -> None:
    packets, frames, ts = [], [], START
    for operation in operations:
        ts = max(ts + operation[-1], 1)
        packet, frame = packet_of(operation, ts)
        packets.append(packet)
        frames.append(frame)
    assert told_by_core(frames, chosen) == told_by_model(packets, chosen)
