"""The layout of an event in memory, which ``EventBatch.raw`` shows."""

from __future__ import annotations

import pytest

from netring_bpf._core import ffi, lib

# (field, offset, bytes)
NR_EVENT = [
    ("ts", 0, 8), ("flow_id", 8, 8), ("start_ts", 16, 8), ("parent_id", 24, 8),
    ("orig", 32, 96), ("resp", 128, 96),
    ("orig_h", 224, 16), ("resp_h", 240, 16),
    ("tunnel_orig_h", 256, 16), ("tunnel_resp_h", 272, 16),
    ("tunnel_orig_p", 288, 2), ("tunnel_resp_p", 290, 2), ("tunnel_id", 292, 4),
    ("orig_p", 296, 2), ("resp_p", 298, 2), ("vlan", 300, 4), ("icmp_id", 304, 2),
    ("family", 306, 1), ("proto", 307, 1), ("kind", 308, 1), ("end_reason", 309, 1),
    ("tunnel_kind", 310, 1), ("tunnel_family", 311, 1),
    ("network", 312, 4), ("icmp_errors", 316, 4),
    ("icmp_error_type", 320, 1), ("icmp_error_code", 321, 1),
    ("first_packets", 322, 1), ("one_sided", 323, 1),
    ("app_protocol", 324, 1), ("has_macs", 325, 1), ("how", 326, 1),
    ("prefix_length", 327, 1),
    ("app_at", 328, 4), ("app_size", 332, 4), ("app_count", 336, 4), ("mac_changes", 340, 4),
    ("orig_mac", 344, 6), ("resp_mac", 350, 6), ("reserved2", 356, 4), ("history", 360, 40),
]  # fmt: skip
NR_EVENT_SIDE = [
    ("packets", 0, 8), ("bytes", 8, 8), ("ip_bytes", 16, 8), ("payload", 24, 8),
    ("first_ts", 32, 8), ("last_ts", 40, 8), ("rtt_ns", 48, 8), ("missing_bytes", 56, 8),
    ("retransmitted", 64, 4), ("out_of_order", 68, 4), ("gaps", 72, 4), ("zero_windows", 76, 4),
    ("bad_checksums", 80, 4), ("implausible", 84, 4), ("tcp_state", 88, 1), ("tcp_flags", 89, 1),
    ("fin_acked", 90, 1), ("reserved", 91, 1), ("fragments", 92, 4),
]  # fmt: skip
NR_PACKET_STATISTICS = [
    ("size_mean", 0, 8), ("size_m2", 8, 8), ("gap_mean_ns", 16, 8), ("gap_m2", 24, 8),
    ("gap_min_ns", 32, 8), ("gap_max_ns", 40, 8), ("size_min", 48, 4), ("size_max", 52, 4),
]  # fmt: skip
NR_FIRST_PACKET = [("gap_ns", 0, 8), ("size", 8, 4), ("reserved", 12, 4)]


def layout(name: str) -> list[tuple[str, int, int]]:
    fields = ffi.typeof(name).fields
    return [(field, at.offset, ffi.sizeof(at.type)) for field, at in fields]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("nr_event", NR_EVENT),
        ("nr_event_side", NR_EVENT_SIDE),
        ("nr_packet_statistics", NR_PACKET_STATISTICS),
        ("nr_first_packet", NR_FIRST_PACKET),
    ],
)
def test_the_layout_of_an_event_in_api_h_is_the_one_above(
    name: str, fields: list[tuple[str, int, int]]
) -> None:
    assert layout(name) == fields


def test_the_structs_of_an_event_have_nothing_behind_their_last_field() -> None:
    for name in ("nr_event", "nr_event_side", "nr_packet_statistics", "nr_first_packet"):
        _, offset, size = layout(name)[-1]
        assert ffi.sizeof(name) == offset + size


def test_fields_in_another_order_than_in_memory_are_refused() -> None:
    from netring_bpf.events.layout import format_of

    assert format_of("nr_event", ("orig_p", "resp_p")).format == "=296x2H100x"
    with pytest.raises(ImportError, match=r"nr_event of .* has orig_p where .* reads resp_p"):
        format_of("nr_event", ("resp_p", "orig_p"))
    with pytest.raises(ImportError, match=r"has nothing where .* reads no_such_field"):
        format_of("nr_event", ("ts", "no_such_field"))


def test_each_value_is_decoded_under_its_own_name() -> None:
    from netring_bpf import (
        Counters,
        Endpoint,
        EventBatch,
        FiveTuple,
        Flow,
        FlowEnd,
        FlowEnded,
        Tunnel,
        TunnelKind,
    )
    from netring_bpf.events.layout import Layout

    def side(first: int) -> dict[str, int]:
        values = {name: first + place for place, (name, _, _) in enumerate(NR_EVENT_SIDE)}
        return values | {"tcp_state": lib.NR_STATE_CLOSED}

    native = ffi.new(
        "nr_event *",
        {
            "ts": 1, "flow_id": 2, "start_ts": 3, "parent_id": 4, "orig": side(100),
            "resp": side(200), "orig_h": b"orig", "resp_h": b"resp", "tunnel_orig_h": b"from",
            "tunnel_resp_h": b"to..", "tunnel_orig_p": 5, "tunnel_resp_p": 6, "tunnel_id": 7,
            "orig_p": 8, "resp_p": 9, "vlan": [10, 11], "icmp_id": 12, "family": 4, "proto": 13,
            "kind": lib.NR_EVENT_ENDED, "end_reason": lib.NR_END_IDLE,
            "tunnel_kind": lib.NR_TUNNEL_GTPU, "tunnel_family": 4, "network": 15,
            "icmp_errors": 16, "icmp_error_type": 17, "icmp_error_code": 18, "one_sided": 1,
            "history": b"history",
        },
    )  # fmt: skip
    batch = EventBatch(bytes(ffi.buffer(native)), Layout(ffi.sizeof("nr_event"), False, 0), 1)

    def counters(first: int) -> Counters:
        return Counters(
            packets=first, bytes=first + 1, ip_bytes=first + 2, payload=first + 3,
            first=first + 4, last=first + 5, rtt=first + 6, missing_bytes=first + 7,
            retransmitted=first + 8, out_of_order=first + 9, gaps=first + 10,
            zero_windows=first + 11, bad_checksums=first + 12, implausible=first + 13,
            state=lib.NR_STATE_CLOSED, tcp_flags=first + 15, fin_acked=first + 16,
            fragments=first + 18,
        )  # fmt: skip

    assert batch[0] == FlowEnded(
        ts=1,
        flow=Flow(
            id=2,
            key=FiveTuple(
                13, Endpoint(b"orig", 8), Endpoint(b"resp", 9), (10, 11), icmp_id=12, network=14
            ),
            start=3,
            last=205,
            orig=counters(100),
            resp=counters(200),
            history="history",
            tunnel=Tunnel(
                TunnelKind.GTPU, 7, Endpoint(b"from", 5), Endpoint(b"to..", 6), flow_id=4
            ),
            icmp_errors=16,
            icmp_error=(17, 18),
            one_sided=True,
            reason=FlowEnd.IDLE,
        ),
        reason=FlowEnd.IDLE,
    )
    assert batch.last_ts == 1
    assert batch.kinds == bytes([lib.NR_EVENT_ENDED])
