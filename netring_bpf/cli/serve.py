"""``netring-bpf serve``: its flags, and the page that they ask for."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    add_backend,
    add_filter,
    add_time,
    count,
    expression,
    filter_of,
    say,
)
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded, FlowStarted, FlowUpdated
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.web.listen import DEFAULT_LISTEN
from netring_bpf.web.token import TOKEN_VARIABLE, read_token

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.web.server import WebServer

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "serve a page about the traffic of an interface or of a capture file"
DESCRIPTION = (
    "Serve a page about the traffic of an interface or of a capture file: throughput and loss, "
    "devices, the largest hosts, names and services, flows as they end, and the health of the "
    "capture, live. /api/openapi.json tells of the same as JSON. Ctrl-C ends it."
)
_FRESH = 5.0  # seconds between two updates of a live flow, for the devices
_ROWS = 50  # of each table of the largest: the page adds up those of a minute


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
        help="read this capture file instead, packed or not; several files are read as one capture",
    )
    add(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="serve on this address; one that other machines can reach needs a token; port 0 is "
        "any free one [default: %(default)s]",
    )
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="ask for the token in this file, which nobody else must be able to read "
        f"[default: that of the environment's {TOKEN_VARIABLE}, if it has one]",
    )
    add(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="answer under this host name too, as edge.lan; may be given several times",
    )
    add(
        "--max-viewers",
        type=count,
        default=100,
        metavar="N",
        help="keep at most N pages live at one time [default: %(default)s]",
    )
    add(
        "--stats-interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="the time between two points of the page's charts [default: %(default)s]",
    )
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="load the devices of this file first, if it is there, and save them to it at the end "
        "and from time to time",
    )
    add_backend(parser)
    add_time(parser)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Serve until a signal, the duration or the end of the capture; returns the exit status.

    A capture file is shown on after its end. Raises ``NetringError``.
    """
    if (given.interface is None) == (given.files is None):
        parser.error("give either -i and an interface, or -r and a file")

    from netring_bpf.cli.log import write_log
    from netring_bpf.web.server import serve

    write_log()
    wanted = filter_of(given)
    token = read_token(given.token_file)
    try:
        ring = _netring(given, wanted)
        server = serve(
            ring, given.listen, token=token, names=given.name, max_viewers=given.max_viewers
        )
    except OptionError as error:
        parser.error(str(error))
    serving = _serve(ring, server, expression(wanted), given.duration)
    try:
        return 0 if asyncio.run(serving) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        serving.close()  # it has not begun if there can be no event loop


def _netring(given: argparse.Namespace, wanted: str | Filter | None) -> Netring:
    """Raises ``NetringError``."""
    from netring_bpf.netring import Netring

    devices = DeviceOptions(state=given.state)
    stats = StatsOptions(interval=given.stats_interval, top=_ROWS)
    if given.files is not None:
        files = given.files if len(given.files) > 1 else given.files[0]
        ended = FlowOptions(update_interval=None, events=(FlowEnded,))
        return Netring.replay(files, filter=wanted, flow=ended, devices=devices, stats=stats)
    return Netring(
        given.interface,
        filter=wanted,
        backend=given.backend,
        steal=given.steal,
        flow=FlowOptions(update_interval=_FRESH, events=(FlowStarted, FlowUpdated, FlowEnded)),
        devices=devices,
        stats=stats,
    )


async def _serve(
    ring: Netring, server: WebServer, filtered: str | None, duration: float | None
) -> bool:
    """Return whether the capture and the page ended without an error."""
    from netring_bpf.cli.printer import opening, stop_on_signals

    stop = asyncio.Event()
    stop_on_signals(stop)
    async with ring, server:
        say(opening(ring, filtered))
        say(f"listening on {', '.join(server.addresses)}")
        say(f"serving on {server.url}")
        waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(stop.wait())]
        if ring.progress is None:
            waiting.append(asyncio.ensure_future(server.wait_end()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return ring.error is None and server.error is None
