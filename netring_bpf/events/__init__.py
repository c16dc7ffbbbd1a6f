"""Flow events and packets as values, in batches, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.events.batch import EventBatch
    from netring_bpf.events.device import (
        Device,
        DeviceAddress,
        DeviceChanged,
        DeviceGone,
        DeviceName,
        DeviceSeen,
    )
    from netring_bpf.events.event import (
        BackendChanged,
        CaptureError,
        Event,
        FlowEnd,
        FlowEnded,
        FlowEstablished,
        FlowEvent,
        FlowStarted,
        FlowUpdated,
        Lagged,
        LinkDown,
        LinkUp,
        NeighbourBy,
        NeighbourSeen,
        Packet,
        SinkFailed,
    )
    from netring_bpf.events.flow import (
        Counters,
        FirstPacket,
        Flow,
        PacketStatistics,
        Spread,
        TcpState,
        Tunnel,
        TunnelKind,
    )
    from netring_bpf.events.key import Endpoint, FiveTuple
    from netring_bpf.events.select import Kinds

__all__ = [
    "BackendChanged",
    "CaptureError",
    "Counters",
    "Device",
    "DeviceAddress",
    "DeviceChanged",
    "DeviceGone",
    "DeviceName",
    "DeviceSeen",
    "Endpoint",
    "Event",
    "EventBatch",
    "FirstPacket",
    "FiveTuple",
    "Flow",
    "FlowEnd",
    "FlowEnded",
    "FlowEstablished",
    "FlowEvent",
    "FlowStarted",
    "FlowUpdated",
    "Kinds",
    "Lagged",
    "LinkDown",
    "LinkUp",
    "NeighbourBy",
    "NeighbourSeen",
    "Packet",
    "PacketStatistics",
    "SinkFailed",
    "Spread",
    "TcpState",
    "Tunnel",
    "TunnelKind",
]

__getattr__ = hand_on(
    __name__,
    {
        "BackendChanged": "netring_bpf.events.event",
        "CaptureError": "netring_bpf.events.event",
        "Counters": "netring_bpf.events.flow",
        "Device": "netring_bpf.events.device",
        "DeviceAddress": "netring_bpf.events.device",
        "DeviceChanged": "netring_bpf.events.device",
        "DeviceGone": "netring_bpf.events.device",
        "DeviceName": "netring_bpf.events.device",
        "DeviceSeen": "netring_bpf.events.device",
        "Endpoint": "netring_bpf.events.key",
        "Event": "netring_bpf.events.event",
        "EventBatch": "netring_bpf.events.batch",
        "FirstPacket": "netring_bpf.events.flow",
        "FiveTuple": "netring_bpf.events.key",
        "Flow": "netring_bpf.events.flow",
        "FlowEnd": "netring_bpf.events.event",
        "FlowEnded": "netring_bpf.events.event",
        "FlowEstablished": "netring_bpf.events.event",
        "FlowEvent": "netring_bpf.events.event",
        "FlowStarted": "netring_bpf.events.event",
        "FlowUpdated": "netring_bpf.events.event",
        "Kinds": "netring_bpf.events.select",
        "Lagged": "netring_bpf.events.event",
        "LinkDown": "netring_bpf.events.event",
        "LinkUp": "netring_bpf.events.event",
        "NeighbourBy": "netring_bpf.events.neighbour",
        "NeighbourSeen": "netring_bpf.events.neighbour",
        "Packet": "netring_bpf.events.event",
        "PacketStatistics": "netring_bpf.events.flow",
        "SinkFailed": "netring_bpf.events.event",
        "Spread": "netring_bpf.events.flow",
        "TcpState": "netring_bpf.events.flow",
        "Tunnel": "netring_bpf.events.flow",
        "TunnelKind": "netring_bpf.events.flow",
    },
)
