"""The tables that only the file has, and the whole of it: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.capture.backend import Backend
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.recording.options import RecordOptions
from netring_bpf.ring.check import check
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import TpacketOptions, XdpOptions
from netring_bpf.sinks.metrics import MetricsSink
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions

__all__ = [
    "FLAT",
    "CaptureConfig",
    "Configuration",
    "MetricsConfig",
    "MqttConfig",
    "RecorderConfig",
    "RestartOptions",
    "RunConfig",
]

#: Marks a field whose options stand in the table itself, not in a table below it.
FLAT: Final = MappingProxyType({"flat": True})
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Options of the whole process.

    ``report_interval``: print the counters of all captures and recorders every so many seconds, as
    SIGUSR1 does; None for never.
    """

    report_interval: float | None = None

    def __post_init__(self) -> None:
        every = self.report_interval
        good = every is None or 1 <= every <= _DAY
        check("report_interval", every, good, "1 to 86400 seconds, or None")


@dataclass(frozen=True, slots=True)
class RestartOptions:
    """Options of beginning again.

    ``restart``: begin again after an error, or when it could not begin, as for want of the
    interface. ``restart_delay``: the seconds before the first attempt; each pause is twice as long
    as the one before. ``restart_max``: the longest pause, in seconds; what has run for so long
    begins with the first pause again.
    """

    restart: bool = True
    restart_delay: float = 1.0
    restart_max: float = 60.0

    def __post_init__(self) -> None:
        delay, most = self.restart_delay, self.restart_max
        check("restart_delay", delay, 0.1 <= delay <= 3600, "0.1 to 3600 seconds")
        check("restart_max", most, delay <= most <= _DAY, "from restart_delay to 86400 seconds")


@dataclass(frozen=True, slots=True)
class CaptureConfig:
    """A capture: the flows of one interface, for the sinks.

    ``interface``: the name of the interface. ``netns``: its network namespace, by name or path; by
    default that of the process. ``filter``: capture only what matches this expression of tcpdump's
    language. ``hosts``: take only packets from or to the addresses in these files, one in a line.
    ``nets``: the same, of networks and addresses.
    ``backend``: capture by this means; ``"auto"`` takes AF_XDP where possible, else TPACKET_V3.
    ``steal``: let AF_XDP take matching packets away from the network stack of this host.
    ``buffer``: the number of events kept for sinks that are behind.
    """

    interface: str
    netns: str | None = None
    filter: str | None = None
    hosts: tuple[Path, ...] = ()
    nets: tuple[Path, ...] = ()
    backend: Backend = "auto"
    steal: bool = False
    buffer: int = 4096
    restart: RestartOptions = field(default=RestartOptions(), metadata=FLAT)
    stats: StatsOptions = field(default=StatsOptions())
    devices: DeviceOptions | None = None
    flow: FlowOptions = field(default=FlowOptions())
    xdp: XdpOptions = field(default=XdpOptions())
    tpacket: TpacketOptions = field(default=TpacketOptions())

    def __post_init__(self) -> None:
        _check_interface(self.interface)
        check("buffer", self.buffer, 2 <= self.buffer <= 1 << 24, "2 to 16777216")


@dataclass(frozen=True, slots=True)
class RecorderConfig:
    """A recorder: the frames of one interface, in pcapng files.

    ``interface``: the name of the interface. ``path``: the file, as ``/var/log/net/all.pcapng``,
    or a pcap file if its name ends in ``.pcap``; no file that is there is overwritten.
    ``netns``, ``filter``, ``hosts``, ``nets``, ``backend``, ``steal``: as of a capture.
    """

    interface: str
    path: Path
    netns: str | None = None
    filter: str | None = None
    hosts: tuple[Path, ...] = ()
    nets: tuple[Path, ...] = ()
    backend: Backend = "auto"
    steal: bool = False
    options: RecordOptions = field(default=RecordOptions(), metadata=FLAT)
    restart: RestartOptions = field(default=RestartOptions(), metadata=FLAT)

    def __post_init__(self) -> None:
        _check_interface(self.interface)
        check("path", str(self.path), self.path.name not in {"", "-"}, "the name of a file")


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """A broker to which captures publish.

    ``url``: ``mqtt://HOST[:PORT]``, ``mqtts://`` with TLS, ``ws://HOST[:PORT]/PATH`` or ``wss://``.
    ``captures``: the captures that publish there; empty: all of them.
    """

    url: str
    captures: tuple[str, ...] = ()
    options: MqttOptions = field(default=MqttOptions(), metadata=FLAT)

    def __post_init__(self) -> None:
        Broker.parse(self.url)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """An address at which Prometheus finds the counters of one capture.

    ``address``: as ``127.0.0.1:9560``. ``capture``: the capture; by default the only one.
    """

    address: str
    capture: str | None = None

    def __post_init__(self) -> None:
        MetricsSink.check_address(self.address)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A whole file, checked. Each mapping is by the name that the file gives."""

    run: RunConfig = RunConfig()
    captures: Mapping[str, CaptureConfig] = field(default_factory=lambda: MappingProxyType({}))
    recorders: Mapping[str, RecorderConfig] = field(default_factory=lambda: MappingProxyType({}))
    mqtt: Mapping[str, MqttConfig] = field(default_factory=lambda: MappingProxyType({}))
    metrics: Mapping[str, MetricsConfig] = field(default_factory=lambda: MappingProxyType({}))

    def sinks_of(self, capture: str) -> dict[str, MqttConfig | MetricsConfig]:
        """Return the sinks of a capture, by their tables' names, as ``mqtt.hub``."""
        found: dict[str, MqttConfig | MetricsConfig] = {}
        for name, broker in self.mqtt.items():
            if not broker.captures or capture in broker.captures:
                found[f"mqtt.{name}"] = broker
        for name, metrics in self.metrics.items():
            if (metrics.capture or next(iter(self.captures))) == capture:
                found[f"metrics.{name}"] = metrics
        return found


def _check_interface(name: str) -> None:
    good = bool(name) and name.isprintable() and not set(name) & set("/ \t") and len(name) < 128
    check("interface", name, good, "the name of a network interface")
