"""The whole command line: one parser with a subparser for each command.

Only the flags of the command that runs are loaded here; it loads what it needs when it runs.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

from netring_bpf import __version__
from netring_bpf.cli.interfaces import LIST_HELP, ListInterfaces
from netring_bpf.cli.parsers import CommandParser, Formatter, OverviewFormatter, Parser
from netring_bpf.cli.say import QUIET, say, set_volume
from netring_bpf.errors import NetringError, limits_explained

__all__ = ["COMMANDS", "parser", "run"]

_PROG: Final = "netring-bpf"
_EXAMPLES: Final = """\
for example:
  netring-bpf flows -i eth1 tcp port 443
  netring-bpf flows -r file.pcap --format zeek
  netring-bpf devices -i eth1
  netring-bpf top -i eth1
  netring-bpf record -i eth1 -w file.pcapng udp
  netring-bpf serve -i eth1
  netring-bpf run -c /etc/netring-bpf/netring.toml

netring-bpf COMMAND --help explains the flags of a command."""


class _Command(Protocol):
    """A file of this folder that has a command."""

    SUMMARY: str  #: for the list of commands
    DESCRIPTION: str  #: for its own help

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags of the command."""

    def run(self, parser: Parser, given: argparse.Namespace) -> int:
        """Run the command and return its exit status. Raises ``NetringError``.

        ``parser`` reports wrong usage.
        """


#: The commands, in the order of the help. Each is a file of this folder of the same name.
COMMANDS: Final = (
    "flows",
    "devices",
    "top",
    "filter",
    "record",
    "serve",
    "run",
    "config",
    "mqtt",
    "interfaces",
    "doctor",
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default the process's own; returns its exit status.

    Exits with 2 for wrong usage.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = words[0] if words else None
    if name in COMMANDS:  # the flags of other commands would take time to add
        given = _filled(CommandParser(**_about(name)), name).parse_args(words[1:])
    else:
        whole = parser()
        given = whole.parse_args(words)
        name = given.command
        if name is None:
            whole.print_help(sys.stderr)
            return 2
    set_volume(QUIET if getattr(given, "quiet", False) else getattr(given, "verbose", 0))
    try:
        with limits_explained(name):
            status: int = given.run(given)
    except NetringError as error:
        say(str(error))
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Tools make man pages and shell completion from it."""
    whole = Parser(
        prog=_PROG,
        description="Turn the packets of a Linux interface into flows, filtered in the kernel.",
        epilog=_EXAMPLES,
        formatter_class=OverviewFormatter,
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"{_PROG} {__version__}")
    whole.add_argument("-D", action=ListInterfaces, help=LIST_HELP)
    commands = whole.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        prog=whole.prog,
        parser_class=CommandParser,
    )
    for name in COMMANDS:
        added = commands.add_parser(name, help=_command(name).SUMMARY, **_about(name))
        _filled(added, name)
    return whole


def _command(name: str) -> _Command:
    # Unlike importlib, this is seen by `-X importtime`.
    return cast("_Command", __import__(f"netring_bpf.cli.{name}", fromlist=("run",)))


def _about(name: str) -> dict[str, Any]:
    """Return what the parser of a command is made with."""
    return {
        "prog": f"{_PROG} {name}",
        "usage": getattr(_command(name), "USAGE", None),
        "description": _command(name).DESCRIPTION,
        "formatter_class": Formatter,
        "allow_abbrev": False,
    }


def _filled(added: Parser, name: str) -> Parser:
    """Return the parser with the flags of the command."""
    command = _command(name)
    command.add_flags(added)
    added.set_defaults(run=functools.partial(command.run, added))
    return added
