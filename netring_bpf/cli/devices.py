"""``netring-bpf devices``: its flags, and the ``Netring`` that they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from netring_bpf.cli.flags import (
    USAGE,
    add_capture,
    add_filter,
    add_flow_options,
    add_messages,
    add_no_names,
    add_source,
    add_stats_interval,
    add_time,
    check_source,
    check_updates,
    expression,
    filter_of,
    flow_options,
    has_rich,
    netring_of,
    say,
)
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.values import OptionReader
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded, FlowStarted, FlowUpdated

__all__ = ["DESCRIPTION", "SUMMARY", "USAGE", "add_flags", "run"]

SUMMARY = "print the devices behind an interface, or in a capture file"
DESCRIPTION = (
    "Print the devices behind an interface, or in a capture file: MAC address and vendor, IP "
    "addresses, names, and traffic. On a terminal the table is drawn again as it changes. Ctrl-C "
    "stops the capture and prints the table a last time."
)
_FRESH = 2.0  # seconds between two updates of a live flow
_LIVE = (FlowStarted, FlowUpdated, FlowEnded)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_source(parser)
    add_time(parser)
    add_filter(parser)
    group = parser.add_argument_group("output")
    add = group.add_argument
    add("--json", action="store_true", help="print a JSON object for each device, at the end")
    add(
        "--events",
        action="store_true",
        help="print what happens as JSON lines instead, as it happens: a device is new, changed "
        "or gone",
    )
    add(
        "--prefix",
        action="append",
        default=[],
        metavar="NET",
        help="take the addresses of this network, as 192.168.1.0/24, for those of the link; may be "
        "given several times [default: learned from ARP, neighbour discovery and routers]",
    )
    add(
        "--max-devices",
        type=OptionReader(DeviceOptions, "max_devices", int),
        default=DeviceOptions().max_devices,
        metavar="N",
        help="keep at most N devices [default: %(default)s]",
    )
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="load the devices of this file first, if it is there, and save them to it at the end "
        "and from time to time",
    )
    add_no_names(group)
    add_stats_interval(group)
    add_messages(parser)
    add_capture(parser)
    add_flow_options(parser, update_interval=_FRESH)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Print devices until a signal or the duration; returns the exit status.

    Raises ``NetringError``.
    """
    if sys.stdout is None:
        say("standard output is closed, so the devices cannot be printed")
        return 1
    check_source(parser, given)
    if given.json and given.events:
        parser.error("--json and --events exclude each other")

    import asyncio

    from netring_bpf.cli.device_printer import print_devices
    from netring_bpf.cli.log import write_log

    write_log()
    try:
        devices = DeviceOptions(
            max_devices=given.max_devices, prefixes=given.prefix, state=given.state
        )
        events = (FlowEnded,) if given.files is not None else _LIVE
        check_updates(parser, given, events)
        flow = flow_options(
            given, events=events, update_interval=_FRESH if given.files is None else None
        )
    except OptionError as error:
        parser.option_error(error)
    wanted = filter_of(given)
    shown = "events" if given.events else "json" if given.json else "table"
    printing = print_devices(
        netring_of(given, wanted, flow, devices=devices),
        shown,
        live=shown == "table" and given.files is None and sys.stdout.isatty() and has_rich(),
        expression=expression(wanted),
        duration=given.duration,
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
