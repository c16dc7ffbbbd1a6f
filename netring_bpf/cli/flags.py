"""Parsers, the flags that several commands share, and readers of values."""

from __future__ import annotations

import argparse
import contextlib
import functools
import glob
import importlib.util
import math
import operator
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from netring_bpf.capture.backend import BACKENDS
from netring_bpf.errors import printable
from netring_bpf.events.flow import TunnelKind
from netring_bpf.ring.flow_options import NAMES, TUNNELS_OVER_UDP, FlowOptions

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter

__all__ = [
    "CommandParser",
    "Formatter",
    "OverviewFormatter",
    "Parser",
    "add_backend",
    "add_bounds",
    "add_filter",
    "add_names",
    "add_time",
    "count",
    "cpus",
    "expression",
    "filter_of",
    "has_rich",
    "names",
    "number",
    "say",
    "tunnel_port",
]

_T = TypeVar("_T")


def say(text: str, *, prefix: str = "netring-bpf: ") -> None:
    """Print a message on standard error; nothing fails if nobody reads it."""
    if sys.stderr is None:
        return
    shown = "\n".join(map(printable, text.split("\n")))
    try:
        sys.stderr.write(f"{prefix}{shown}\n")  # in one piece: other threads write to it, too
        sys.stderr.flush()
    except OSError:  # keep the interpreter from flushing once more
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def has_rich() -> bool:
    """Whether the package is installed that draws tables and progress bars."""
    return importlib.util.find_spec("rich") is not None


# -- parsers --


class Parser(argparse.ArgumentParser):
    """Quotes the words of the command line so that a terminal obeys none of them."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with 2."""
        super().error(printable(message))


class CommandParser(Parser):
    """Parses the words of one command; a filter's words may stand between flags.

    Where ``-r`` may be given several times, more files may follow the one after it.
    """

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words, or exit with a message that names this command."""
        # Some versions of argparse call this method again to parse intermixed words.
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        if isinstance(self._option_string_actions.get("-r"), argparse._AppendAction):  # noqa: SLF001
            args = _with_a_flag_each(args or [])
        try:
            return self.parse_intermixed_args(args, namespace), []
        finally:
            self._intermixing = False


def _with_a_flag_each(words: Sequence[str]) -> list[str]:
    """Return the words with an ``-r`` before each file that follows another."""
    spread: list[str] = []
    follows = False  # a file after -r, directly
    for n, word in enumerate(words):
        if word == "--":
            return [*spread, *words[n:]]
        is_value = n > 0 and words[n - 1] == "-r"
        if follows and not is_value and _is_file(word):
            spread.append("-r")
        elif not is_value:
            follows = word.startswith("-r") and len(word) > len("-r")
        else:
            follows = True
        spread.append(word)
    return spread


def _is_file(word: str) -> bool:
    """Whether it is no word of a filter, but the name of a file or a pattern of names."""
    if word.startswith("-") or word.isalnum():
        return False
    return os.path.lexists(word) or ("*" in word and bool(glob.glob(word)))


class Formatter(argparse.HelpFormatter):
    """Writes ``Usage:`` with a capital letter."""

    def add_usage(self, usage, actions, groups, prefix="Usage: "):  # type: ignore[no-untyped-def]
        """Add the usage line."""
        super().add_usage(usage, actions, groups, prefix or "Usage: ")


class OverviewFormatter(Formatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples, and lists the commands without a line above them."""

    def _format_action(self, action: argparse.Action) -> str:
        if action.nargs != argparse.PARSER:
            return super()._format_action(action)
        self._dedent()  # the commands indent themselves
        listed = "".join(map(self._format_action, self._iter_indented_subactions(action)))
        self._indent()
        return listed


# -- flags --


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the words of a filter, which are optional."""
    parser.add_argument(
        "expression",
        nargs="*",
        metavar="FILTER",
        help="the words of a filter in tcpdump's language, as tcp port 443 [default: all packets]",
    )
    for name, things in (("hosts", "addresses"), ("nets", "networks and addresses")):
        parser.add_argument(
            f"--{name}",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help=f"take only packets from or to the {things} in this file, one in a line; # and ; "
            "begin a comment; may be given several times",
        )


def filter_of(given: argparse.Namespace) -> str | Filter | None:
    """Return the filter: the words, and the addresses of the files. Raises ``OptionError``."""
    words = " ".join(given.expression) or None
    if not given.hosts and not given.nets:
        return words
    from netring_bpf.filter.filter import Filter

    sets = [*map(Filter.hosts, given.hosts), *map(Filter.nets, given.nets)]
    # The words come first: a set looks behind the tag that `vlan` asks for.
    return Filter.deferred(words or "") & functools.reduce(operator.or_, sets)


def expression(wanted: str | Filter | None) -> str | None:
    """Return the filter as one text, None without a filter."""
    return wanted if wanted is None or isinstance(wanted, str) else wanted.expression


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the backend."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="capture by this means; auto takes AF_XDP where possible, else TPACKET_V3 "
        "[default: %(default)s]",
    )
    parser.add_argument(
        "--steal",
        action="store_true",
        help="let AF_XDP take matching packets away from the network stack of this host",
    )


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says how much of the payload is read."""
    parser.add_argument(
        "--names",
        choices=NAMES,
        default=FlowOptions().names,
        help="read the protocol of each flow and the names in it, or the protocol (service) alone, "
        "or look at no byte of payload [default: %(default)s]",
    )


def add_time(parser: argparse.ArgumentParser) -> None:
    """Add the flag that limits the time of a capture."""
    parser.add_argument(
        "--duration", type=_duration, metavar="SECONDS", help="stop after this long"
    )


def add_bounds(parser: argparse.ArgumentParser, things: str) -> None:
    """Add the flags that limit a capture. ``things``: the plural of the things that -c counts."""
    add_time(parser)
    parser.add_argument("-c", dest="count", type=count, metavar="N", help=f"stop after N {things}")


# -- values --


def count(text: str) -> int:
    """Return a number of things, at least one."""
    return _value(text, int, lambda value: value >= 1, "a number, at least 1")


def cpus(text: str) -> tuple[int, ...]:
    """Return the numbers of CPUs."""
    return _value(text, _numbers, lambda cpus: min(cpus) >= 0, "numbers of CPUs, as 2,3")


def number(highest: int) -> Callable[[str], int]:
    """Return a reader of numbers from 0 to ``highest``."""
    rule = f"a number from 0 to {highest}"
    return lambda text: _value(text, int, lambda value: 0 <= value <= highest, rule)


def names(known: tuple[str, ...], example: str) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of one or more of the known names."""
    rule = f"some of {','.join(known)}, as {example}"
    return lambda text: _value(text, _words, lambda words: set(words) <= set(known), rule)


def tunnel_port(text: str) -> tuple[TunnelKind | None, int]:
    """Return a kind of tunnel, None for ``none``, and a port of UDP."""
    kinds = ", ".join(kind.value for kind in TUNNELS_OVER_UDP)
    return _value(
        text,
        _kind_and_port,
        lambda pair: (pair[0] is None or pair[0] in TUNNELS_OVER_UDP) and 1 <= pair[1] <= 65_535,
        f"KIND=PORT, as vxlan=8472, where KIND is {kinds} or none",
    )


def _duration(text: str) -> float:
    return _value(
        text, float, lambda value: 0 <= value < math.inf, "a number of seconds, 0 or more"
    )


def _value(text: str, read: Callable[[str], _T], holds: Callable[[_T], bool], rule: str) -> _T:
    # A ValueError would make argparse show the name of the reader.
    with contextlib.suppress(ValueError):
        value = read(text)
        if holds(value):
            return value
    raise argparse.ArgumentTypeError(f"{text}: must be {rule}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _kind_and_port(text: str) -> tuple[TunnelKind | None, int]:
    kind, _, port = text.partition("=")
    return None if kind == "none" else TunnelKind(kind), int(port)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
