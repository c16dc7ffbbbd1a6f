"""``netring-bpf flows``: its flags, and the ``Netring`` that they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    USAGE,
    add_bounds,
    add_capture,
    add_filter,
    add_flow_options,
    add_messages,
    add_no_names,
    add_source,
    add_stats_interval,
    check_source,
    check_updates,
    expression,
    filter_of,
    flow_options,
    has_rich,
    netring_of,
    say,
)
from netring_bpf.cli.interfaces import LIST_HELP, ListInterfaces
from netring_bpf.cli.metrics_flags import add_metrics_flags, metrics_sinks
from netring_bpf.cli.mqtt_flags import add_mqtt_flags, check_mqtt_flags, mqtt_sinks
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.say import volume
from netring_bpf.cli.values import names
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
from netring_bpf.loggers import prepare_first
from netring_bpf.ring.flow_options import FlowOptions

if TYPE_CHECKING:
    from netring_bpf.cli.lines import Lines
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.sinks.base import Sink

__all__ = ["DESCRIPTION", "SUMMARY", "USAGE", "add_flags", "flow_options_of", "run"]

SUMMARY = "print the flows of an interface or of a capture file"
DESCRIPTION = (
    "Print the flows of an interface or of a capture file as events: a flow starts, is updated, "
    "ends. Ctrl-C stops the capture and prints a summary."
)
_ALL: Final = FlowOptions().events
_EVENTS: Final = {event_name(kind): kind for kind in _ALL}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_source(parser)
    add_bounds(parser, "flow events")
    add_filter(parser)
    group = parser.add_argument_group("output")
    add = group.add_argument
    add("-D", action=ListInterfaces, help=LIST_HELP)
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
    add_no_names(group)
    add_stats_interval(
        group, does=", and let --mqtt and --metrics publish statistics of so many seconds"
    )
    add_messages(parser)
    add_capture(parser)
    add_flow_options(parser, by_format=True)
    add_mqtt_flags(parser)
    add_metrics_flags(parser)


def run(parser: Parser, given: argparse.Namespace) -> int:
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

    try:
        flow = flow_options_of(given, shown)
    except OptionError as error:
        parser.option_error(error)
    check_updates(parser, given, flow.events)
    wanted = filter_of(given)
    logs = None
    if given.zeek_logs is not None:
        from netring_bpf.cli.zeek_logs import ZeekLogs

        logs = ZeekLogs(given.zeek_logs)
    metrics = metrics_sinks(parser, given)
    if given.files is not None and not given.mqtt and not metrics:
        return _print_files(given, wanted, flow, shown, logs)

    import asyncio

    from netring_bpf.cli.log import write_log
    from netring_bpf.cli.printer import print_events

    write_log()
    printing = print_events(
        _netring(given, wanted, flow, metrics),
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
        stats_interval=given.stats_interval,
        with_names=not given.no_names,
    )
    try:
        return 0 if asyncio.run(printing) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        printing.close()  # it has not begun if there can be no event loop


def _print_files(
    given: argparse.Namespace,
    wanted: str | Filter | None,
    flow: FlowOptions,
    shown: str,
    logs: Lines | None,
) -> int:
    """Print without an event loop, which takes time to load; returns the exit status."""
    from netring_bpf.capture.replay import Replay
    from netring_bpf.cli.file_printer import StoppedAgain, print_file

    if wanted is None and volume() <= 0:
        prepare_first(_write_log)
    else:  # others write records, too
        _write_log()
    files = given.files if len(given.files) > 1 else given.files[0]
    try:
        is_whole = print_file(
            Replay(files, filter=wanted, flow=flow),
            shown,
            compress_ipv6=given.compress_ipv6,
            instead=logs,
            expression=expression(wanted),
            duration=given.duration,
            count=given.count,
            stats_interval=given.stats_interval,
            with_names=not given.no_names,
        )
    except StoppedAgain:
        say("stopped by a second signal, before everything was closed")
        return 1
    return 0 if is_whole else 1


def _write_log() -> None:
    from netring_bpf.cli.log import write_log

    write_log()


def _format(parser: Parser, given: argparse.Namespace) -> str:
    """Check the flags against each other, and return the name of the format."""
    check_source(parser, given)
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


def flow_options_of(given: argparse.Namespace, shown: str) -> FlowOptions:
    """Return the options of the flow table for this format. Raises ``OptionError``."""
    if given.events is not None:
        events = tuple(_EVENTS[name] for name in given.events)
    else:
        events = _ALL if given.mqtt or _prints_all(shown) else _kinds(given, shown)
    return flow_options(given, events=events, like_zeek=shown.startswith("zeek"))


def _stats_options(given: argparse.Namespace) -> StatsOptions | None:
    """Return the options of the aggregates; None: they are made if somebody publishes them."""
    return None if given.stats_interval is None else StatsOptions(interval=given.stats_interval)


def _netring(
    given: argparse.Namespace,
    wanted: str | Filter | None,
    flow: FlowOptions,
    metrics: tuple[Sink, ...],
) -> Netring:
    """Raises ``NetringError``."""
    published = given.mqtt or metrics
    return netring_of(
        given,
        wanted,
        flow,
        sinks=(*mqtt_sinks(given, flow.events), *metrics),
        devices=given.home_assistant,
        stats=_stats_options(given) if published else None,
    )
