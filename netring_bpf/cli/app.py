"""The whole command line: one parser with a subparser for each command.

Only the flags are loaded here; a command loads what it needs when it runs.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import netring_bpf
from netring_bpf.cli import devices, flows, mqtt, record, serve, top
from netring_bpf.cli import filter as filter_command
from netring_bpf.cli.flags import CommandParser, Formatter, OverviewFormatter, Parser, say
from netring_bpf.errors import NetringError, limits_explained

__all__ = ["parser", "run"]

_EXAMPLES: Final = """\
for example:
  netring-bpf flows -i eth1 tcp port 443
  netring-bpf flows -r file.pcap --format zeek
  netring-bpf devices -i eth1
  netring-bpf top -i eth1
  netring-bpf record -i eth1 -w file.pcapng udp
  netring-bpf serve -i eth1

netring-bpf COMMAND --help explains the flags of a command."""


class _Command(Protocol):
    """A file of this folder that has a command."""

    SUMMARY: str  #: for the list of commands
    DESCRIPTION: str  #: for its own help

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags of the command."""

    def run(self, parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
        """Run the command and return its exit status. Raises ``NetringError``.

        ``parser`` reports wrong usage.
        """


_COMMANDS: Final[Mapping[str, _Command]] = {
    "flows": flows,
    "devices": devices,
    "top": top,
    "filter": filter_command,
    "record": record,
    "serve": serve,
    "mqtt": mqtt,
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's own; returns its exit status.

    Exits with 2 for wrong usage.
    """
    whole = parser()
    given = whole.parse_args(arguments)
    if given.command is None:
        whole.print_help(sys.stderr)
        return 2
    try:
        with limits_explained(given.command):
            status: int = given.run(given)
    except NetringError as error:
        say(str(error))
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Tools make man pages and shell completion from it."""
    whole = Parser(
        prog="netring-bpf",
        description="Turn the packets of a Linux interface into flows, filtered in the kernel.",
        epilog=_EXAMPLES,
        formatter_class=OverviewFormatter,
        allow_abbrev=False,
    )
    whole.add_argument(
        "--version", action="version", version=f"netring-bpf {netring_bpf.__version__}"
    )
    commands = whole.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        prog=whole.prog,
        parser_class=CommandParser,
    )
    for name, command in _COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            formatter_class=Formatter,
            allow_abbrev=False,
        )
        command.add_flags(added)
        added.set_defaults(run=functools.partial(command.run, added))
    return whole
