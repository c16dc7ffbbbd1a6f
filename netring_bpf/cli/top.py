"""``netring-bpf top``: its flags, and what it shows."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    add_backend,
    add_filter,
    add_names,
    add_time,
    expression,
    filter_of,
    say,
)
from netring_bpf.cli.mqtt_flags import add_broker_flags, broker_options
from netring_bpf.errors import OptionError, PackageMissingError, printable
from netring_bpf.ring.flow_options import FlowOptions

if TYPE_CHECKING:
    from netring_bpf.cli.top_app import TopApp
    from netring_bpf.cli.top_model import TopModel
    from netring_bpf.cli.top_source import TopSource

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "show live what goes on: throughput, devices, names, services, flows"
DESCRIPTION = (
    "Show on the terminal what goes on, as it changes: throughput with its history, the largest "
    "devices, hosts, names, services, ports and prefixes, the flows, and the books. A file is read "
    "as fast as it can be, and times are those of the file. ? explains the keys, q ends it."
)
_INTERVAL: Final = 1.0  # seconds
_FRESH: Final = 2.0  # seconds between two updates of a live flow
_ROWS: Final = 100


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
        "--mqtt",
        metavar="URL",
        help="show instead what a capture elsewhere publishes to this broker: mqtt://HOST[:PORT], "
        "mqtts:// with TLS, ws://HOST[:PORT]/PATH and wss:// over WebSocket",
    )
    add_broker_flags(parser)
    add(
        "--mqtt-node",
        metavar="NAME",
        help="show the capture of this name [default: the first that the broker tells of; n turns "
        "to the next]",
    )
    add(
        "--mqtt-prefix",
        metavar="PREFIX",
        help="its topics begin with this instead of netring",
    )
    add(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="sum up so long, by the time of the capture [default: 1]",
    )
    add_names(parser)
    add_backend(parser)
    add_time(parser)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Show the screen until it is closed; returns the exit status. Raises ``NetringError``."""
    ways = (given.interface, given.files, given.mqtt)
    if sum(way is not None for way in ways) != 1:
        parser.error("give one of -i and an interface, -r and a file, or --mqtt and a URL")
    if not (_is_terminal(sys.__stdin__) and _is_terminal(sys.__stderr__)):
        say("top needs a terminal; flows and devices print lines anywhere")
        return 1
    if importlib.util.find_spec("textual") is None:
        raise PackageMissingError(
            'show the screen: textual is not installed; pip install "netring-bpf[top]"',
            package="textual",
        )
    from netring_bpf.cli.top_model import TopModel

    source = _source(parser, given)
    model = TopModel(keeps_all=given.files is not None)
    try:
        return 0 if asyncio.run(_show(source, model, given.duration)) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1


def _is_terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)())


def _source(parser: argparse.ArgumentParser, given: argparse.Namespace) -> TopSource:
    """Raises ``NetringError``."""
    try:
        options = broker_options(given)
        stats = StatsOptions(
            interval=_INTERVAL if given.interval is None else given.interval, top=_ROWS
        )
    except OptionError as error:
        parser.error(str(error))
    if given.mqtt is not None:
        for name in ("expression", "hosts", "nets", "interval"):
            if getattr(given, name):
                parser.error("--mqtt shows what was captured: filters and --interval are set there")
        from netring_bpf.cli.top_remote import BrokerSource

        return BrokerSource(given.mqtt, options)

    from netring_bpf.cli.top_source import KINDS_LIVE, KINDS_OF_A_FILE, RingSource
    from netring_bpf.netring import Netring

    wanted = filter_of(given)
    if given.files is not None:
        files = given.files if len(given.files) > 1 else given.files[0]
        flow = FlowOptions(update_interval=None, events=KINDS_OF_A_FILE, names=given.names)
        ring = Netring.replay(files, filter=wanted, flow=flow, devices=True, stats=stats)
    else:
        ring = Netring(
            given.interface,
            filter=wanted,
            backend=given.backend,
            steal=given.steal,
            flow=FlowOptions(update_interval=_FRESH, events=KINDS_LIVE, names=given.names),
            devices=True,
            stats=stats,
        )
    return RingSource(ring, expression(wanted))


async def _show(source: TopSource, model: TopModel, duration: float | None) -> bool:
    """Show the screen; returns whether the capture ended without an error."""
    from netring_bpf.cli.printer import stop_on_signals
    from netring_bpf.cli.top_app import TopApp

    stop = asyncio.Event()
    stop_on_signals(stop)
    with _Log(model):
        async with source:
            app = TopApp(model, source)
            ending = asyncio.create_task(_end(app, stop, duration))
            try:
                await app.run_async()
            finally:
                ending.cancel()
    if source.error is not None:
        say(str(source.error))
    return source.error is None and not app.return_code


async def _end(app: TopApp, stop: asyncio.Event, duration: float | None) -> None:
    """End the screen at a signal, or after so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), duration)
    app.exit()


class _Log(logging.Handler):
    """Shows warnings and errors of the library among the events, not over the screen."""

    def __init__(self, model: TopModel) -> None:
        super().__init__(logging.WARNING)
        self._model = model

    def emit(self, record: logging.LogRecord) -> None:
        self._model.note(int(record.created * 1e9), printable(record.getMessage()))

    def __enter__(self) -> Self:
        logging.getLogger("netring_bpf").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("netring_bpf").removeHandler(self)
