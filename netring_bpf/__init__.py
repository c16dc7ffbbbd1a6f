"""Packets and flows off a Linux interface at C speed, for asyncio and MQTT.

Rooms, from the wire to the user (tests/support/house.py: who may use whom):

    bpf         the XDP program: compiled, loaded, attached
    ring        the C core (sources, dissector, flow table, loop, text) and its Python owner
    filter      tcpdump's language, as values and as classic BPF
    events      flow events and packets as values, in batches, as columns
    capture     opens an interface or a capture file, and hands out what is read
    aggregate   sums, rates and the largest of each kind, of all flows
    devices     the stations behind a link, made of its flow events
    recording   frames into pcapng files
    read        flows of files and interfaces without an event loop, and as tables
    broadcast   one publisher, any number of subscribers
    formats     events as text for people and tools
    sinks       events to elsewhere: MQTT
    config      the file of netring-bpf run: its tables, read and checked
    web         a page for people, and the same as JSON, over HTTP
    doctor      what stands in the way of a capture, and the command that mends it
    cli         the command netring-bpf

``netring.py`` is the front door. Names that need the C core, asyncio or pyroute2 load on first use.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if sys.platform != "linux":  # before an import of something that only Linux has
    from netring_bpf.errors import PlatformError

    raise PlatformError(sys.platform)

from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.errors import (
    AddressInUseError,
    AddressUnavailableError,
    AttachError,
    BccMissingError,
    CaptureFileError,
    ClosedError,
    CompileError,
    DeviceFileError,
    EventLoopError,
    FilterError,
    ForkError,
    InterfaceDownError,
    InterfaceError,
    InterfaceGoneError,
    InterfaceInUseError,
    InterfaceNotFoundError,
    InternalError,
    KernelFeatureError,
    LibpcapMissingError,
    ListenError,
    MemlockError,
    NetringError,
    OptionError,
    OutboxError,
    OutboxInUseError,
    PackageMissingError,
    PermissionDeniedError,
    PlatformError,
    ProgramError,
    QueueBusyError,
    ResourceLimitError,
    SinkError,
    SyscallError,
    TokenFileError,
    UnavailableError,
    VerifierError,
    XdpBusyError,
)
from netring_bpf.events.app import (
    App,
    DhcpDetails,
    DnsAnswer,
    DnsDetails,
    HttpDetails,
    MqttDetails,
    SsdpDetails,
    SshDetails,
    TlsDetails,
)
from netring_bpf.events.capture_info import CaptureInfo
from netring_bpf.events.event import (
    AppEvent,
    BackendChanged,
    CaptureError,
    Counters,
    Device,
    DeviceAddress,
    DeviceChanged,
    DeviceGone,
    DeviceName,
    DeviceSeen,
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
    Health,
    Lagged,
    LinkDown,
    LinkUp,
    NeighbourBy,
    NeighbourSeen,
    NeverHidden,
    Packet,
    PacketStatistics,
    SelectableEvent,
    SinkFailed,
    Spread,
    StatsUpdated,
    Sums,
    TcpState,
    Top,
    TopRow,
    Traffic,
    Tunnel,
    TunnelKind,
)
from netring_bpf.events.select import Kinds
from netring_bpf.lazy import hand_on
from netring_bpf.ring.flow_options import FlowKey, FlowOptions, PortTimeout, TunnelPort
from netring_bpf.ring.options import BusyPoll, TpacketOptions, XdpOptions
from netring_bpf.statistics import CaptureStatistics, Equation, FlowStatistics, QueueStatistics
from netring_bpf.version import __version__

if TYPE_CHECKING:
    from netring_bpf.aggregate import StatsOptions
    from netring_bpf.broadcast.broadcast import (
        BatchSubscriber,
        BroadcastStatistics,
        FlowBroadcast,
        FlowSubscriber,
        SubscriberStatistics,
    )
    from netring_bpf.capture.capture import Capture
    from netring_bpf.devices import DeviceOptions, DeviceStatistics, DeviceTable
    from netring_bpf.events.batch import EventBatch
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.netring_statistics import NetringStatistics
    from netring_bpf.read.flow_reader import FlowReader
    from netring_bpf.read.sources import live_flows, read_flows
    from netring_bpf.recording.recorder import Recorder, RecordOptions, RecordStatistics
    from netring_bpf.ring.names import AddressName, AddressNames, NamesStatistics
    from netring_bpf.sinks.base import Sink, SinkStatistics, TopicStatistics
    from netring_bpf.sinks.home_assistant import HomeAssistantOptions
    from netring_bpf.sinks.metrics import MetricsSink
    from netring_bpf.sinks.mqtt import MqttOptions, MqttSink
    from netring_bpf.sinks.mqtt_topics import TopicOptions
    from netring_bpf.sinks.outbox import OutboxStatistics

__all__ = [
    "AddressInUseError",
    "AddressName",
    "AddressNames",
    "AddressUnavailableError",
    "App",
    "AppEvent",
    "AttachError",
    "BackendChanged",
    "BatchSubscriber",
    "BccMissingError",
    "BroadcastStatistics",
    "BusyPoll",
    "Capture",
    "CaptureError",
    "CaptureFileError",
    "CaptureInfo",
    "CaptureStatistics",
    "ClosedError",
    "CompileError",
    "Counters",
    "Device",
    "DeviceAddress",
    "DeviceChanged",
    "DeviceFileError",
    "DeviceGone",
    "DeviceName",
    "DeviceOptions",
    "DeviceSeen",
    "DeviceStatistics",
    "DeviceTable",
    "DhcpDetails",
    "DnsAnswer",
    "DnsDetails",
    "Endpoint",
    "Equation",
    "Event",
    "EventBatch",
    "EventLoopError",
    "Filter",
    "FilterError",
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
    "FlowReader",
    "FlowStarted",
    "FlowStatistics",
    "FlowSubscriber",
    "FlowUpdated",
    "ForkError",
    "Health",
    "HomeAssistantOptions",
    "HttpDetails",
    "InterfaceDownError",
    "InterfaceError",
    "InterfaceGoneError",
    "InterfaceInUseError",
    "InterfaceNotFoundError",
    "InternalError",
    "KernelFeatureError",
    "Kinds",
    "Lagged",
    "LibpcapMissingError",
    "LinkDown",
    "LinkUp",
    "ListenError",
    "MemlockError",
    "MetricsSink",
    "MqttDetails",
    "MqttOptions",
    "MqttSink",
    "NamesStatistics",
    "NeighbourBy",
    "NeighbourSeen",
    "Netring",
    "NetringError",
    "NetringStatistics",
    "NeverHidden",
    "OptionError",
    "OutboxError",
    "OutboxInUseError",
    "OutboxStatistics",
    "PackageMissingError",
    "Packet",
    "PacketStatistics",
    "PermissionDeniedError",
    "PlatformError",
    "PortTimeout",
    "ProgramError",
    "QueueBusyError",
    "QueueStatistics",
    "RecordOptions",
    "RecordStatistics",
    "Recorder",
    "ResourceLimitError",
    "SelectableEvent",
    "Sink",
    "SinkError",
    "SinkFailed",
    "SinkStatistics",
    "Spread",
    "SsdpDetails",
    "SshDetails",
    "StatsOptions",
    "StatsUpdated",
    "SubscriberStatistics",
    "Sums",
    "SyscallError",
    "TcpState",
    "TlsDetails",
    "TokenFileError",
    "Top",
    "TopRow",
    "TopicOptions",
    "TopicStatistics",
    "TpacketOptions",
    "Traffic",
    "Tunnel",
    "TunnelKind",
    "TunnelPort",
    "UnavailableError",
    "VerifierError",
    "XdpBusyError",
    "XdpMode",
    "XdpOptions",
    "__version__",
    "live_flows",
    "read_flows",
]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "AddressName": "netring_bpf.ring.names",
            "AddressNames": "netring_bpf.ring.names",
            "BatchSubscriber": "netring_bpf.broadcast.broadcast",
            "BroadcastStatistics": "netring_bpf.broadcast.broadcast",
            "FlowBroadcast": "netring_bpf.broadcast.broadcast",
            "FlowReader": "netring_bpf.read.flow_reader",
            "FlowSubscriber": "netring_bpf.broadcast.broadcast",
            "NamesStatistics": "netring_bpf.ring.names",
            "SubscriberStatistics": "netring_bpf.broadcast.broadcast",
            "Capture": "netring_bpf.capture.capture",
            "DeviceOptions": "netring_bpf.devices.options",
            "DeviceStatistics": "netring_bpf.devices.table",
            "DeviceTable": "netring_bpf.devices.table",
            "EventBatch": "netring_bpf.events.batch",
            "Filter": "netring_bpf.filter.filter",
            "HomeAssistantOptions": "netring_bpf.sinks.home_assistant",
            "MetricsSink": "netring_bpf.sinks.metrics",
            "MqttOptions": "netring_bpf.sinks.mqtt",
            "MqttSink": "netring_bpf.sinks.mqtt",
            "Netring": "netring_bpf.netring",
            "RecordOptions": "netring_bpf.recording.recorder",
            "RecordStatistics": "netring_bpf.recording.recorder",
            "Recorder": "netring_bpf.recording.recorder",
            "NetringStatistics": "netring_bpf.netring_statistics",
            "OutboxStatistics": "netring_bpf.sinks.outbox",
            "Sink": "netring_bpf.sinks.base",
            "SinkStatistics": "netring_bpf.sinks.base",
            "StatsOptions": "netring_bpf.aggregate.options",
            "TopicOptions": "netring_bpf.sinks.mqtt_topics",
            "TopicStatistics": "netring_bpf.sinks.base",
            "live_flows": "netring_bpf.read.sources",
            "read_flows": "netring_bpf.read.sources",
        },
    )
