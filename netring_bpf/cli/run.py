"""``netring-bpf run``: the captures, sinks and recorders of a configuration, in one process."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.say import say

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "run the captures, sinks and recorders of a configuration, as a service"
DESCRIPTION = (
    "Run all captures, sinks and recorders of a configuration (docs/run.md); the command config "
    "prints one. A capture that ends by an error does not end the others. SIGHUP reads the file "
    "again, and changes what is different in it: all else goes on. SIGUSR1 prints all counters, "
    "and writes the rings of recorders. SIGTERM and Ctrl-C end all, with a summary. The exit "
    "status is 2 for a file with mistakes, and 1 if at the end something did not run."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        required=True,
        metavar="FILE",
        help="the configuration, in TOML",
    )


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Run until a signal, or until nothing runs any more; returns the exit status.

    Raises ``NetringError``.
    """
    early: list[int] = []  # signals that ask for the file again, before there is a loop
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))

    import asyncio
    import os

    from netring_bpf.cli.log import write_log
    from netring_bpf.cli.service import Service
    from netring_bpf.config import read
    from netring_bpf.errors import ConfigError

    write_log()
    try:
        whole = read(given.config, os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            say(mistake, prefix="")
        return 2
    service = Service(given.config, whole)
    serving = service.serve(lambda: bool(early))
    try:
        return 0 if asyncio.run(serving) else 1
    except asyncio.CancelledError:
        say("stopped by a second signal, before everything was closed")
        return 1
    finally:
        serving.close()  # it has not begun if there can be no event loop
