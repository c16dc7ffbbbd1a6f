"""``netring-bpf serve``: its flags, and the page that they ask for."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    USAGE,
    add_capture,
    add_filter,
    add_flow_options,
    add_messages,
    add_source,
    add_stats_interval,
    add_time,
    check_source,
    check_updates,
    expression,
    filter_of,
    flow_options,
    netring_of,
    say,
    tell,
)
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.values import count
from netring_bpf.devices.options import DeviceOptions
from netring_bpf.errors import OptionError
from netring_bpf.events.event import FlowEnded, FlowStarted, FlowUpdated
from netring_bpf.web.listen import DEFAULT_LISTEN
from netring_bpf.web.token import TOKEN_VARIABLE, read_token

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter
    from netring_bpf.netring import Netring
    from netring_bpf.ring.flow_options import FlowOptions
    from netring_bpf.web.server import WebServer

__all__ = ["DESCRIPTION", "SUMMARY", "USAGE", "add_flags", "run"]

SUMMARY = "serve a page about the traffic of an interface or of a capture file"
DESCRIPTION = (
    "Serve a page about the traffic of an interface or of a capture file: throughput and loss, "
    "devices, the largest hosts, names and services, flows as they end, and the health of the "
    "capture, live. /api/openapi.json tells of the same as JSON. Ctrl-C ends it."
)
_FRESH = 5.0  # seconds between two updates of a live flow, for the devices
_LIVE = (FlowStarted, FlowUpdated, FlowEnded)
_POINT = 1.0  # seconds between two points of the charts
_ROWS = 50  # of each table of the largest: the page adds up those of a minute


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_source(parser)
    add_time(parser)
    add_filter(parser)
    group = parser.add_argument_group("page")
    add = group.add_argument
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
        "--state",
        type=Path,
        metavar="FILE",
        help="load the devices of this file first, if it is there, and save them to it at the end "
        "and from time to time",
    )
    add_stats_interval(
        group,
        does=f", and let the page's charts have a point as often, instead of each {_POINT:g}",
    )
    add_messages(parser)
    add_capture(parser)
    add_flow_options(parser, update_interval=_FRESH)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Serve until a signal, the duration or the end of the capture; returns the exit status.

    A capture file is shown on after its end. Raises ``NetringError``.
    """
    check_source(parser, given)

    from netring_bpf.cli.log import write_log
    from netring_bpf.web.server import serve

    write_log()
    events = (FlowEnded,) if given.files is not None else _LIVE
    check_updates(parser, given, events)
    wanted = filter_of(given)
    token = read_token(given.token_file)
    try:
        flow = flow_options(
            given, events=events, update_interval=_FRESH if given.files is None else None
        )
        ring = _netring(given, wanted, flow)
        server = serve(
            ring, given.listen, token=token, names=given.name, max_viewers=given.max_viewers
        )
    except OptionError as error:
        parser.option_error(error)
    serving = _serve(ring, server, expression(wanted), given.duration, given.stats_interval)
    try:
        return 0 if asyncio.run(serving) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        serving.close()  # it has not begun if there can be no event loop


def _netring(given: argparse.Namespace, wanted: str | Filter | None, flow: FlowOptions) -> Netring:
    """Raises ``NetringError``."""
    interval = _POINT if given.stats_interval is None else given.stats_interval
    return netring_of(
        given,
        wanted,
        flow,
        devices=DeviceOptions(state=given.state),
        stats=StatsOptions(interval=interval, top=_ROWS),
    )


async def _serve(
    ring: Netring,
    server: WebServer,
    filtered: str | None,
    duration: float | None,
    stats_interval: float | None,
) -> bool:
    """Return whether the capture and the page ended without an error."""
    from netring_bpf.cli.printer import opening, stop_on_signals
    from netring_bpf.cli.reports import reported
    from netring_bpf.cli.summary import summary

    stop = asyncio.Event()
    stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(reported(ring, stats_interval))
        await stack.enter_async_context(ring)
        await stack.enter_async_context(server)
        tell(opening(ring, filtered))
        tell(f"listening on {', '.join(server.addresses)}")
        tell(f"serving on {server.url}")
        waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(stop.wait())]
        if ring.progress is None:
            waiting.append(asyncio.ensure_future(server.wait_end()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    tell(summary(ring.statistics()), prefix="")
    return ring.error is None and server.error is None
