"""Packets and flows off a Linux interface at C speed, for asyncio and MQTT.

The floors of the house; a file imports only from lower ones, and each foreign thing has one
importer (tests/unit/test_imports.py holds this):

    F6  this file, cli/
    F5  netring.py (Netring), netring_statistics.py (all books), pump.py (a file's events),
        record.py (pcapng files), formats/ (Zeek, EVE, CSV), sinks/ (aiomqtt: mqtt.py;
        msgspec: encode.py)
    F4  rings.py (an open backend), af_xdp.py and tpacket.py (open one), backend.py (chooses),
        capture.py (the thread), replay.py (files), source.py (what Netring asks of both),
        engines.py
    F3  bpf/program.py (compile and load), bpf/slots.py, ring/readers.py (a reader a thread)
    F2  bpf/cbpf.py, bpf/compiler.py (bpf/helper.py, a process of its own, is BCC's place),
        bpf/maps.py, bpf/link.py, ring/decode.py, ring/batch.py, ring/books.py, ring/reader.py,
        ring/text.py (flow events as text), ring/columns.py (NumPy), ring/arrow.py (pyarrow)
    F1  filter.py, filter_set.py, live_programs.py, interface.py (pyroute2),
        kinds.py, stream.py, subscriber.py, flow_subscriber.py, batch_subscriber.py, broadcast.py,
        bpf/cache.py, ring/check.py, ring/options.py, ring/flow_options.py, ring/sizes.py,
        ring/explain.py, ring/verdict.py, ring/socket_filter.py
    F0  errors.py, records.py (the events), flow.py, flow_key.py, community_id.py, conn_state.py,
        statistics.py, filter_words.py, libpcap.py (libpcap), uid.py

The C core, netring_bpf._core, is used by bpf/link.py, bpf/maps.py, bpf/program.py,
ring/decode.py, ring/batch.py, ring/books.py, ring/columns.py, ring/reader.py,
ring/socket_filter.py, ring/text.py and ring/verdict.py.

What needs the C core or pyroute2 is loaded when it is first named: importing is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.broadcast.broadcast import (
    BatchSubscriber,
    BroadcastStatistics,
    FlowBroadcast,
    FlowSubscriber,
    SubscriberStatistics,
)
from netring_bpf.errors import NetringError
from netring_bpf.events.event import (
    CaptureError,
    Counters,
    Endpoint,
    Event,
    FirstPacket,
    FiveTuple,
    Flow,
    FlowEnd,
    FlowEnded,
    FlowEstablished,
    FlowEvent,
    FlowStarted,
    FlowUpdated,
    Lagged,
    LinkDown,
    LinkUp,
    Packet,
    PacketStatistics,
    Spread,
    TcpState,
    Tunnel,
    TunnelKind,
)
from netring_bpf.lazy import hand_on
from netring_bpf.ring.flow_options import FlowKey, FlowOptions, PortTimeout
from netring_bpf.ring.options import BusyPoll, TpacketOptions, XdpOptions
from netring_bpf.statistics import CaptureStatistics, Equation, FlowStatistics, QueueStatistics

if TYPE_CHECKING:
    from netring_bpf.capture.capture import Capture
    from netring_bpf.events.batch import EventBatch
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.netring_statistics import NetringStatistics
    from netring_bpf.recording.recorder import Recorder, RecordOptions, RecordStatistics
    from netring_bpf.sinks.base import Sink, SinkStatistics
    from netring_bpf.sinks.mqtt import MqttOptions, MqttSink

__version__ = "0.1.0"

__all__ = [
    "BatchSubscriber",
    "BroadcastStatistics",
    "BusyPoll",
    "Capture",
    "CaptureError",
    "CaptureStatistics",
    "Counters",
    "Endpoint",
    "Equation",
    "Event",
    "EventBatch",
    "Filter",
    "FirstPacket",
    "FiveTuple",
    "Flow",
    "FlowBroadcast",
    "FlowEnd",
    "FlowEnded",
    "FlowEstablished",
    "FlowEvent",
    "FlowKey",
    "FlowOptions",
    "FlowStarted",
    "FlowStatistics",
    "FlowSubscriber",
    "FlowUpdated",
    "Lagged",
    "LinkDown",
    "LinkUp",
    "MqttOptions",
    "MqttSink",
    "Netring",
    "NetringError",
    "NetringStatistics",
    "Packet",
    "PacketStatistics",
    "PortTimeout",
    "QueueStatistics",
    "RecordOptions",
    "RecordStatistics",
    "Recorder",
    "Sink",
    "SinkStatistics",
    "Spread",
    "SubscriberStatistics",
    "TcpState",
    "TpacketOptions",
    "Tunnel",
    "TunnelKind",
    "XdpMode",
    "XdpOptions",
    "__version__",
]

__getattr__ = hand_on(
    __name__,
    {
        "Capture": "netring_bpf.capture.capture",
        "EventBatch": "netring_bpf.events.batch",
        "Filter": "netring_bpf.filter.filter",
        "MqttOptions": "netring_bpf.sinks.mqtt",
        "MqttSink": "netring_bpf.sinks.mqtt",
        "Netring": "netring_bpf.netring",
        "RecordOptions": "netring_bpf.recording.recorder",
        "RecordStatistics": "netring_bpf.recording.recorder",
        "Recorder": "netring_bpf.recording.recorder",
        "NetringStatistics": "netring_bpf.netring_statistics",
        "Sink": "netring_bpf.sinks.base",
        "SinkStatistics": "netring_bpf.sinks.base",
    },
)
