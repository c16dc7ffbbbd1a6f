"""``netring-bpf top``: its flags, and what it shows."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from netring_bpf.aggregate.options import StatsOptions
from netring_bpf.cli.flags import (
    add_capture,
    add_filter,
    add_flow_options,
    add_messages,
    add_no_names,
    add_source,
    add_time,
    check_source,
    check_updates,
    expression,
    filter_of,
    flow_options,
    netring_of,
    say,
)
from netring_bpf.cli.log import log_level
from netring_bpf.cli.mqtt_flags import add_broker_flags, broker_options
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.values import OptionReader
from netring_bpf.errors import OptionError, PackageMissingError, printable

if TYPE_CHECKING:
    from netring_bpf.cli.top_app import _TopApp
    from netring_bpf.cli.top_model import TopModel
    from netring_bpf.cli.top_source import TopSource

__all__ = ["DESCRIPTION", "SUMMARY", "USAGE", "add_flags", "run"]

SUMMARY = "show live what goes on: throughput, devices, names, services, flows"
USAGE = "%(prog)s (-i IFACE | -r FILE | --mqtt URL) [FLAGS] [FILTER ...]"
DESCRIPTION = (
    "Show on the terminal what goes on, as it changes: throughput with its history, the largest "
    "devices, hosts, names, services, ports and prefixes, the flows, and the books. A file is read "
    "as fast as it can be, and times are those of the file. ? explains the keys, q ends it."
)
_INTERVAL: Final = 1.0  # seconds
_FRESH: Final = 2.0  # seconds between two updates of a live flow
_ROWS: Final = 100
_OF_THE_SCREEN: Final = ("duration", "no_names", "quiet", "verbose")
_STDIN: Final = 0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_source(parser, reads=", and keys come from the terminal itself")
    add_time(parser)
    add_filter(parser)
    group = parser.add_argument_group("a capture elsewhere")
    add = group.add_argument
    add(
        "--mqtt",
        metavar="URL",
        help="show instead what a capture elsewhere publishes to this broker: mqtt://HOST[:PORT], "
        "mqtts:// with TLS, ws://HOST[:PORT]/PATH and wss:// over WebSocket",
    )
    add_broker_flags(group)
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
    parser.add_argument(
        "--interval",
        "--stats-interval",
        dest="stats_interval",
        type=OptionReader(StatsOptions, "interval", float),
        metavar="SECONDS",
        help=f"sum up so long, by the time of the capture [default: {_INTERVAL:g}]",
    )
    add_no_names(parser)
    add_messages(parser)
    add_capture(parser)
    add_flow_options(parser, update_interval=_FRESH)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Show the screen until it is closed; returns the exit status. Raises ``NetringError``."""
    ways = (given.interface, given.files, given.mqtt)
    if sum(way is not None for way in ways) != 1:
        parser.error("give one of -i and an interface, -r and a file, or --mqtt and a URL")
    if given.mqtt is None:
        _check_here(parser, given)
    else:
        _check_elsewhere(parser, given)
    if given.files is not None:
        given.files = _without_standard_input(given.files)
    if not (_is_terminal(sys.__stdin__) and _is_terminal(sys.__stderr__)):
        say("top needs a terminal; flows and devices print lines anywhere")
        return 1
    if importlib.util.find_spec("textual") is None:
        raise PackageMissingError(
            'show the screen: textual is not installed; pip install "netring-bpf[top]"',
            package="textual",
        )
    from netring_bpf.cli.top_model import TopModel

    source = _elsewhere(parser, given) if given.mqtt is not None else _here(parser, given)
    model = TopModel(keeps_all=given.files is not None, with_names=not given.no_names)
    try:
        return 0 if asyncio.run(_show(source, model, given.duration)) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1


def _check_here(parser: Parser, given: argparse.Namespace) -> None:
    """Exit with a message for flags that make no sense for a capture of our own."""
    check_source(parser, given)
    for name, flag in parser.given(given):
        if name.startswith("mqtt"):
            parser.error(f"{flag} needs --mqtt and a URL")


def _check_elsewhere(parser: Parser, given: argparse.Namespace) -> None:
    """Exit with a message for a flag that a capture elsewhere would have to be given."""
    for name, flag in parser.given(given):
        if not name.startswith("mqtt") and name not in _OF_THE_SCREEN:
            parser.error(f"--mqtt shows what was captured elsewhere: {flag} is set there")


def _without_standard_input(files: list[Path]) -> list[Path]:
    """Return the files with another descriptor for ``-``: keys come by standard input."""
    if Path("-") not in files or os.isatty(_STDIN):
        return files
    with contextlib.suppress(OSError):  # there is no terminal, which is told later
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        capture = os.dup(_STDIN)
        os.dup2(terminal, _STDIN)
        os.close(terminal)
        return [Path(f"/dev/fd/{capture}") if file == Path("-") else file for file in files]
    return files


def _is_terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)())


def _elsewhere(parser: Parser, given: argparse.Namespace) -> TopSource:
    """Raises ``NetringError``."""
    from netring_bpf.cli.top_remote import BrokerSource

    try:
        return BrokerSource(given.mqtt, broker_options(given))
    except OptionError as error:
        parser.error(str(error))


def _here(parser: Parser, given: argparse.Namespace) -> TopSource:
    """Raises ``NetringError``."""
    from netring_bpf.cli.top_source import KINDS_LIVE, KINDS_OF_A_FILE, RingSource

    events = KINDS_LIVE if given.files is None else KINDS_OF_A_FILE
    check_updates(parser, given, events)
    interval = _INTERVAL if given.stats_interval is None else given.stats_interval
    try:
        flow = flow_options(
            given, events=events, update_interval=_FRESH if given.files is None else None
        )
    except OptionError as error:
        parser.option_error(error)
    wanted = filter_of(given)
    stats = StatsOptions(interval=interval, top=_ROWS)
    ring = netring_of(given, wanted, flow, devices=True, stats=stats)
    return RingSource(ring, expression(wanted))


async def _show(source: TopSource, model: TopModel, duration: float | None) -> bool:
    """Show the screen; returns whether the capture ended without an error."""
    from netring_bpf.cli.printer import stop_on_signals
    from netring_bpf.cli.top_app import _TopApp

    stop = asyncio.Event()
    stop_on_signals(stop)
    with _Log(model):
        async with source:
            app = _TopApp(model, source)
            ending = asyncio.create_task(_end(app, stop, duration))
            try:
                await app.run_async()
            finally:
                ending.cancel()
    if source.error is not None:
        say(str(source.error))
    return source.error is None and not app.return_code


async def _end(app: _TopApp, stop: asyncio.Event, duration: float | None) -> None:
    """End the screen at a signal, or after so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), duration)
    app.exit()


class _Log(logging.Handler):
    """Shows warnings and errors of the library among the events, not over the screen."""

    def __init__(self, model: TopModel) -> None:
        super().__init__(log_level())
        self._model = model

    def emit(self, record: logging.LogRecord) -> None:
        self._model.note(int(record.created * 1e9), printable(record.getMessage()))

    def __enter__(self) -> Self:
        log = logging.getLogger("netring_bpf")
        log.setLevel(log_level())
        log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("netring_bpf").removeHandler(self)
