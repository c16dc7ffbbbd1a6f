"""``netring-bpf flows``: its flags, and the ``Netring`` that they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    add_backend,
    add_bounds,
    add_filter,
    add_names,
    count,
    cpus,
    expression,
    filter_of,
    has_rich,
    names,
    number,
    say,
    tunnel_port,
)
from netring_bpf.cli.metrics_flags import add_metrics_flags, metrics_sinks
from netring_bpf.cli.mqtt_flags import add_mqtt_flags, check_mqtt_flags, mqtt_sinks
from netring_bpf.errors import OptionError, PackageMissingError
from netring_bpf.events.event import (
    AppEvent,
    BackendChanged,
    CoreEvent,
    FlowEnded,
    LinkDown,
    LinkUp,
    event_name,
)
from netring_bpf.formats.base import FORMATS
from netring_bpf.ring.flow_options import (
    DEFAULT_MAX_FLOWS,
    MAX_TUNNEL_DEPTH,
    SLICED,
    FlowKey,
    FlowOptions,
    TunnelPort,
)
from netring_bpf.ring.options import PRESETS, TpacketOptions, XdpOptions

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.sinks.base import Sink

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "flow_options", "ring_options", "run"]

SUMMARY = "print the flows of an interface or of a capture file"
DESCRIPTION = (
    "Print the flows of an interface or of a capture file as events: a flow starts, is updated, "
    "ends. Ctrl-C stops the capture and prints a summary."
)
_DEFAULT: Final = FlowOptions()
_EVENTS: Final = {event_name(kind): kind for kind in _DEFAULT.events}
_KEYS: Final = {key.value.replace("_", "-"): key for key in FlowKey}
_KEY: Final = next(name for name, key in _KEYS.items() if key is _DEFAULT.key)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add_filter(parser)
    add("--interface", "-i", metavar="IFACE", help="capture on this interface")
    add(
        "-r",
        dest="files",
        action="append",
        type=Path,
        metavar="FILE",
        help="read this capture file instead: pcap or pcapng, packed or not; - reads standard "
        "input; several files, by more -r, more names after it or a pattern as 'cap-*.pcap', are "
        "read as one capture, in the order of their times",
    )
    add(
        "--format",
        choices=("table", *FORMATS),
        help="the format of the output; zeek, zeek-json and csv print only ended flows, eve those "
        "and exchanges of the protocols inside, zeek-ssl and the like a log of Zeek's "
        "[default: table on a terminal, json elsewhere]",
    )
    add("--json", action="store_true", help="print JSON lines, as --format json does")
    add(
        "--zeek-logs",
        type=Path,
        metavar="DIR",
        help="print nothing, but write Zeek's conn, ssl, http, dns, quic, dhcp and ssh logs into "
        "this directory; no log that is there is overwritten",
    )
    add(
        "--compress-ipv6",
        action="store_true",
        help="write IPv6 addresses of --format eve in short, as Suricata's ipv6-compress does",
    )
    add(
        "--events",
        type=names(tuple(_EVENTS), "started,ended"),
        metavar="KIND,KIND,...",
        help=f"print and publish only these kinds of events, out of {', '.join(_EVENTS)}; "
        "--events ended gives one record per flow [default: all, or only ended where the format "
        "prints no others and --mqtt is absent]",
    )
    add_backend(parser)
    add_mqtt_flags(parser)
    add_metrics_flags(parser)
    add(
        "--stats-interval",
        type=float,
        metavar="SECONDS",
        help="make the statistics that --mqtt and --metrics publish of so many seconds "
        f"[default: {StatsOptions().interval:g}]",
    )
    add(
        "--key",
        choices=tuple(_KEYS),
        default=_KEY,
        help="the fields that the packets of a flow share [default: %(default)s]",
    )
    vlan = parser.add_mutually_exclusive_group()
    vlan.add_argument(
        "--ignore-vlan",
        action="store_const",
        const=True,
        help="count packets of different VLANs as one flow [default of zeek and zeek-json, as in "
        "Zeek]",
    )
    vlan.add_argument(
        "--key-vlan",
        dest="ignore_vlan",
        action="store_const",
        const=False,
        help="keep flows of different VLANs apart [default of the other formats]",
    )
    add("--directional", action="store_true", help="count each direction as a flow of its own")
    add(
        "--no-server-ports",
        action="store_true",
        help="take the sender of a flow's first packet for the originator, even if it sends from a "
        "server's port",
    )
    add(
        "--tunnel-depth",
        type=number(MAX_TUNNEL_DEPTH),
        default=_DEFAULT.tunnel_depth,
        metavar="N",
        help=f"look into up to N nested tunnels, 0 to {MAX_TUNNEL_DEPTH} [default: %(default)s]",
    )
    add(
        "--tunnel-port",
        type=tunnel_port,
        action="append",
        default=[],
        metavar="KIND=PORT",
        help="look for tunnels of this kind on this port of UDP too, as vxlan=8472, or with "
        "none=PORT for no tunnels there; may be given several times "
        f"[default: {_ports_by_kind()}]",
    )
    add(
        "--verify-checksums",
        action="store_true",
        help="verify checksums: a packet with a wrong one is counted, but its content ignored",
    )
    add(
        "--active-timeout",
        type=float,
        metavar="SECONDS",
        help="end a flow that has lasted this long, and continue it as a new one",
    )
    add(
        "--half-open",
        type=float,
        default=_DEFAULT.half_open,
        metavar="SECONDS",
        help="end a TCP flow this long after its first SYN, if nothing but SYNs has come "
        "[default: %(default)s]",
    )
    add(
        "--one-sided",
        action="store_true",
        help="say in each flow that only one direction of the traffic is seen here",
    )
    add(
        "--max-flows",
        type=count,
        metavar="N",
        help="keep at most N live flows [default: "
        f"{DEFAULT_MAX_FLOWS} of an interface; of a file as many as fit into half of the memory]",
    )
    add(
        "--sliced",
        choices=SLICED,
        default=_DEFAULT.sliced,
        help="refuse frames that a mirror has sliced, or trust their IP length "
        "[default: %(default)s]",
    )
    add_names(parser)
    add(
        "--preset",
        choices=PRESETS,
        default="default",
        help="tune the rings for this goal; docs/tuning.md has the values [default: %(default)s]",
    )
    add(
        "--threads",
        type=count,
        default=TpacketOptions().threads,
        metavar="N",
        help="capture with N threads; AF_XDP needs --symmetric-rss for more than one "
        "[default: %(default)s]",
    )
    add("--cpus", type=cpus, metavar="N,N,...", help="run each thread on its CPU, as 2,3")
    add(
        "--symmetric-rss",
        action="store_true",
        help="assume that the network card brings both directions of a flow to one queue",
    )
    add_bounds(parser, "flow events")


def _ports_by_kind() -> str:
    return " ".join(f"{tunnel.kind.value}={tunnel.port}" for tunnel in _DEFAULT.tunnel_ports)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Print flow events until a signal, the duration or the count; returns the exit status.

    Raises ``NetringError``.
    """
    if sys.stdout is None:
        say("standard output is closed, so the events cannot be printed")
        return 1
    shown = _format(parser, given)
    if shown == "table" and not has_rich():
        raise PackageMissingError(
            'print a table: rich is not installed; pip install "netring-bpf[cli]", or choose '
            "--format json",
            package="rich",
        )

    import asyncio

    from netring_bpf.cli.log import write_log
    from netring_bpf.cli.printer import print_events

    write_log()
    try:
        flow = flow_options(given, shown)
        xdp, tpacket = ring_options(given)
        stats = _stats_options(given)
    except OptionError as error:
        parser.error(str(error))
    wanted = filter_of(given)
    logs = None
    if given.zeek_logs is not None:
        from netring_bpf.cli.zeek_logs import ZeekLogs

        logs = ZeekLogs(given.zeek_logs)
    printing = print_events(
        _netring(given, wanted, flow, xdp, tpacket, stats, metrics_sinks(parser, given)),
        shown,
        compress_ipv6=given.compress_ipv6,
        # The sink has events made that are for nobody else.
        kinds=(*flow.events, LinkDown, LinkUp, BackendChanged)
        if given.mqtt or given.metrics
        else None,
        instead=logs,
        expression=expression(wanted),
        duration=given.duration,
        count=given.count,
    )
    try:
        return 0 if asyncio.run(printing) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        printing.close()  # it has not begun if there can be no event loop


def _format(parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """Check the flags against each other, and return the name of the format."""
    if (given.interface is None) == (given.files is None):
        parser.error("give either -i and an interface, or -r and a file")
    if given.json and given.format not in {None, "json"}:
        parser.error("--json and --format exclude each other")
    if given.zeek_logs is not None:
        for flag, value in (
            ("format", given.format),
            ("json", given.json),
            ("events", given.events),
        ):
            if value:
                parser.error(f"--zeek-logs and --{flag} exclude each other")
        check_mqtt_flags(parser, given)
        return "zeek"
    shown: str = given.format or ("table" if sys.stdout.isatty() and not given.json else "json")
    if given.compress_ipv6 and shown != "eve":
        parser.error("--compress-ipv6 is of --format eve; the other formats do so always")
    if given.events and not _prints_all(shown):
        printed = {event_name(kind) for kind in FORMATS[shown].kinds}
        others = set(given.events) - printed
        if not printed & set(given.events) or (others and not given.mqtt):
            wanted = ",".join(name for name in _EVENTS if name in printed)
            parser.error(f"--format {shown} prints only {wanted}: --events {wanted}")
    check_mqtt_flags(parser, given)
    if given.mqtt and given.events:
        from netring_bpf.sinks.mqtt_options import MqttOptions

        published = [name for name, kind in _EVENTS.items() if kind in MqttOptions().kinds]
        if not set(published) & set(given.events):
            parser.error(f"--mqtt publishes {' and '.join(published)}, and --events chooses others")
    return shown


def _prints_all(shown: str) -> bool:
    """Whether the format prints all kinds of events, as the table does."""
    return shown not in FORMATS or set(FORMATS[shown].kinds) == set(_EVENTS.values())


def _kinds(given: argparse.Namespace, shown: str) -> tuple[type[CoreEvent], ...]:
    """Return the kinds of events that the output is made of."""
    return FORMATS[shown].kinds if given.zeek_logs is None else (FlowEnded, AppEvent)


def flow_options(given: argparse.Namespace, shown: str) -> FlowOptions:
    """Return the options of the flow table for this format. Raises ``OptionError``."""
    if given.events is not None:
        events = tuple(_EVENTS[name] for name in given.events)
    else:
        events = _DEFAULT.events if given.mqtt or _prints_all(shown) else _kinds(given, shown)
    tunnels = {tunnel.port: tunnel for tunnel in _DEFAULT.tunnel_ports}
    for kind, port in given.tunnel_port:
        tunnels.pop(port, None)
        if kind is not None:
            tunnels[port] = TunnelPort(kind, port)
    ignore_vlan = shown.startswith("zeek") if given.ignore_vlan is None else given.ignore_vlan
    return FlowOptions(
        key=_KEYS[given.key],
        key_vlan=not ignore_vlan,
        reassembled=shown.startswith("zeek"),
        directional=given.directional,
        server_ports=not given.no_server_ports,
        tunnel_depth=given.tunnel_depth,
        tunnel_ports=tuple(tunnels.values()),
        verify_checksums=given.verify_checksums,
        active_timeout=given.active_timeout,
        half_open=given.half_open,
        one_sided=given.one_sided,
        max_flows=given.max_flows,
        sliced=given.sliced,
        names=given.names,
        events=events,
    )


def _stats_options(given: argparse.Namespace) -> StatsOptions | None:
    """Return the options of the aggregates; None: they are made if somebody publishes them.

    Raises ``OptionError``.
    """
    return None if given.stats_interval is None else StatsOptions(interval=given.stats_interval)


def ring_options(given: argparse.Namespace) -> tuple[XdpOptions, TpacketOptions]:
    """Return the options of each backend's rings. Raises ``OptionError``.

    AF_XDP runs several threads only with symmetric RSS.
    """
    threads = given.threads if given.symmetric_rss else 1
    cpus = None if given.cpus is None else given.cpus[:threads]
    return (
        XdpOptions.preset(
            given.preset, threads=threads, cpus=cpus, symmetric_rss=given.symmetric_rss
        ),
        TpacketOptions.preset(given.preset, threads=given.threads, cpus=given.cpus),
    )


def _netring(
    given: argparse.Namespace,
    wanted: str | Filter | None,
    flow: FlowOptions,
    xdp: XdpOptions,
    tpacket: TpacketOptions,
    stats: StatsOptions | None,
    metrics: tuple[Sink, ...],
) -> Netring:
    """Raises ``NetringError``."""
    from netring_bpf.netring import Netring

    sinks = (*mqtt_sinks(given, flow.events), *metrics)
    if given.files is not None:
        files = given.files if len(given.files) > 1 else given.files[0]
        return Netring.replay(
            files,
            filter=wanted,
            sinks=sinks,
            flow=flow,
            devices=given.home_assistant,
            stats=stats,
        )
    return Netring(
        given.interface,
        filter=wanted,
        backend=given.backend,
        steal=given.steal,
        sinks=sinks,
        flow=flow,
        xdp=xdp,
        tpacket=tpacket,
        devices=given.home_assistant,
        stats=stats,
    )
