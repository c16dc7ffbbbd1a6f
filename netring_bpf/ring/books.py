"""Adds up the books of the C readers, and returns them as ``CaptureStatistics``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netring_bpf._core import ffi, lib
from netring_bpf.events.layout import ENDS
from netring_bpf.statistics import CaptureStatistics, FlowStatistics, QueueStatistics

__all__ = ["capture_statistics", "sum_books"]

_REASONS = {
    lib.NR_CUT_LINK: "cut_link",
    lib.NR_NOT_IP: "not_ip",
    lib.NR_TOO_MANY_TAGS: "too_many_tags",
    lib.NR_CUT_NETWORK: "cut_network",
    lib.NR_BAD_NETWORK: "bad_network",
    lib.NR_TOO_MANY_EXT: "too_many_extensions",
    lib.NR_CUT_TRANSPORT: "cut_transport",
    lib.NR_BAD_TRANSPORT: "bad_transport",
    lib.NR_BAD_CHECKSUM: "bad_checksum",
    lib.NR_UNKNOWN_LINK: "unknown_link",
    lib.NR_SLICED: "sliced",
}
_PARTS = {
    lib.NR_FRAGMENT: "fragment",
    lib.NR_CUT_TRANSPORT: "cut_transport",
    lib.NR_BAD_TRANSPORT: "bad_transport",
}
_MISSED = {
    lib.NR_MISSED_TOO_LONG: "too_long",
    lib.NR_MISSED_POOL_FULL: "pool_full",
    lib.NR_MISSED_CUT: "cut",
    lib.NR_MISSED_GAP: "gap",
    lib.NR_MISSED_STORE_FULL: "store_full",
    lib.NR_MISSED_LEFT_OUT: "left_out",
    lib.NR_MISSED_HANDOFF_FULL: "handoff_full",
    lib.NR_MISSED_NOT_OPENED: "not_opened",
    lib.NR_MISSED_NOT_PRINTED: "not_fingerprinted",
}
_WORDS = ffi.sizeof("nr_statistics") // 8  # all members are uint64_t


def sum_books(parts: Iterable[Any]) -> Any:
    """Return the sum of several ``nr_statistics``; the equations hold for it as well."""
    total = ffi.new("nr_statistics *")
    words = ffi.cast("uint64_t *", total)
    for part in parts:
        steps = max(total.time_step, part.time_step)
        for i, word in enumerate(ffi.unpack(ffi.cast("uint64_t *", part), _WORDS)):
            words[i] += word
        total.time_step = steps  # all readers look at one clock
    return total


def capture_statistics(
    s: Any,
    backend: str,
    attach: str | None,
    queues: tuple[QueueStatistics, ...],
    matches: Mapping[str, int],
) -> CaptureStatistics:
    """Return an ``nr_statistics`` as ``CaptureStatistics``.

    The other arguments are fields that the C core does not know.
    """
    flows = FlowStatistics(
        started=s.flows_started,
        established=s.flows_established,
        ended={end.value: s.flows_ended[i] for i, end in ENDS.items()},
        live=s.flows_live,
        peak=s.flows_peak,
        capacity=s.flows_capacity,
        ended_packets=s.ended_packets,
        ended_bytes=s.ended_bytes,
        live_packets=s.live_packets,
        live_bytes=s.live_bytes,
    )
    return CaptureStatistics(
        backend=backend,
        attach=attach,
        queues=queues,
        matches=matches,
        rx_dropped=s.xsk_rx_dropped,
        rx_ring_full=s.xsk_rx_ring_full,
        fill_ring_empty=s.xsk_fill_ring_empty,
        tp_packets=s.tp_packets,
        tp_drops=s.tp_drops,
        in_ring=s.in_ring,
        received=s.received,
        received_bytes=s.received_bytes,
        keyed=s.keyed,
        keyed_bytes=s.keyed_bytes,
        not_keyed={name: s.not_keyed[i] for i, name in _REASONS.items()},
        partly_read={name: s.partly_read[i] for i, name in _PARTS.items()},
        handed_out=s.handed_out,
        inner=s.inner,
        inner_bytes=s.inner_bytes,
        inner_not_keyed=s.inner_not_keyed,
        fragments=s.fragments,
        fragments_waiting=s.fragments_waiting,
        fragment_overlaps=s.fragment_overlaps,
        neighbours=s.neighbours,
        neighbours_repeated=s.neighbours_repeated,
        file_frames=s.file_frames,
        file_filtered=s.file_filtered,
        file_overlong=s.file_overlong,
        flows=flows,
        events_produced=s.events_produced,
        events_taken=s.events_taken,
        events_lost=s.events_lost,
        link_errors=s.link_errors,
        time_step=s.time_step,
        time_stray=s.time_stray,
        names_read=s.names_read,
        names_missed={name: s.names_missed[i] for i, name in _MISSED.items()},
    )
