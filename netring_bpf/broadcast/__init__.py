"""One publisher of events and any number of subscribers; none of them slows another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.broadcast.batch_subscriber import BatchSubscriber
    from netring_bpf.broadcast.broadcast import BroadcastStatistics, FlowBroadcast
    from netring_bpf.broadcast.event_subscriber import FlowSubscriber
    from netring_bpf.broadcast.subscriber import SubscriberStatistics

__all__ = [
    "BatchSubscriber",
    "BroadcastStatistics",
    "FlowBroadcast",
    "FlowSubscriber",
    "SubscriberStatistics",
]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "BatchSubscriber": "netring_bpf.broadcast.batch_subscriber",
            "BroadcastStatistics": "netring_bpf.broadcast.broadcast",
            "FlowBroadcast": "netring_bpf.broadcast.broadcast",
            "FlowSubscriber": "netring_bpf.broadcast.event_subscriber",
            "SubscriberStatistics": "netring_bpf.broadcast.subscriber",
        },
    )
