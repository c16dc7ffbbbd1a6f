"""``netring-bpf config``: prints a configuration, or checks one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.say import say, tell

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "print a configuration for run, with all defaults, or check one"
DESCRIPTION = (
    "Print a configuration for the command run: one capture, and every key that there is as a "
    "comment, with its default. Or, with --check, read a configuration as run does, and print the "
    "line and the key of each mistake; the exit status is 2 if there is one."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="check this file instead; it starts nothing"
    )


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Print the default configuration or check a file; returns the exit status."""
    from netring_bpf.cli.fold import write
    from netring_bpf.config import default_text, read
    from netring_bpf.errors import ConfigError

    if given.check is None:
        if sys.stdout is None:
            say("standard output is closed, so the configuration cannot be printed")
            return 1
        write(default_text().removesuffix("\n"))
        return 0
    try:
        whole = read(given.check)
    except ConfigError as error:
        for mistake in error.mistakes:
            say(mistake, prefix="")
        return 2
    kinds = (
        (len(whole.captures), "captures"),
        (len(whole.mqtt) + len(whole.metrics), "sinks"),
        (len(whole.recorders), "recorders"),
    )
    tell(f"{given.check}: good: {', '.join(f'{count} {kind}' for count, kind in kinds)}")
    return 0
