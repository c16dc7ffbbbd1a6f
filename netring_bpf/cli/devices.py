"""``netring-bpf devices``: its flags, and the ``Netring`` that they ask for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.cli.flags import (
    add_backend,
    add_filter,
    add_names,
    add_time,
    count,
    expression,
    filter_of,
    has_rich,
    say,
)
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded, FlowStarted, FlowUpdated
from netring_bpf.ring.flow_options import FlowOptions

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "print the devices behind an interface, or in a capture file"
DESCRIPTION = (
    "Print the devices behind an interface, or in a capture file: MAC address and vendor, IP "
    "addresses, names, and traffic. On a terminal the table is drawn again as it changes. Ctrl-C "
    "stops the capture and prints the table a last time."
)
_FRESH = 2.0  # seconds between two updates of a live flow


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
        help="read this capture file instead, packed or not; - reads standard input; several "
        "files are read as one capture",
    )
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
        type=count,
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
    add_names(parser)
    add_backend(parser)
    add_time(parser)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Print devices until a signal or the duration; returns the exit status.

    Raises ``NetringError``.
    """
    if sys.stdout is None:
        say("standard output is closed, so the devices cannot be printed")
        return 1
    if (given.interface is None) == (given.files is None):
        parser.error("give either -i and an interface, or -r and a file")
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
    except OptionError as error:
        parser.error(str(error))
    wanted = filter_of(given)
    shown = "events" if given.events else "json" if given.json else "table"
    printing = print_devices(
        _netring(given, wanted, devices),
        shown,
        live=shown == "table" and given.files is None and sys.stdout.isatty() and has_rich(),
        expression=expression(wanted),
        duration=given.duration,
    )
    try:
        return 0 if asyncio.run(printing) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        printing.close()  # it has not begun if there can be no event loop


def _netring(
    given: argparse.Namespace, wanted: str | Filter | None, devices: DeviceOptions
) -> Netring:
    """Raises ``NetringError``."""
    from netring_bpf.netring import Netring

    if given.files is not None:
        files = given.files if len(given.files) > 1 else given.files[0]
        flow = FlowOptions(update_interval=None, events=(FlowEnded,), names=given.names)
        return Netring.replay(files, filter=wanted, flow=flow, devices=devices)
    return Netring(
        given.interface,
        filter=wanted,
        backend=given.backend,
        steal=given.steal,
        flow=FlowOptions(
            update_interval=_FRESH,
            events=(FlowStarted, FlowUpdated, FlowEnded),
            names=given.names,
        ),
        devices=devices,
    )
