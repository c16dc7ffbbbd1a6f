"""``netring-bpf doctor``: prints what stands in the way of a capture, and what mends it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from netring_bpf import __version__
from netring_bpf.capture.backend import BACKENDS
from netring_bpf.errors import printable

if TYPE_CHECKING:
    from netring_bpf.doctor.finding import Asked, Finding

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "check what a capture needs, and name the commands that mend it"
DESCRIPTION = (
    "Check the machine, the process and an interface for what a capture needs, and send a frame "
    "through each backend on a cable in a network namespace of its own. Each line is good, or says "
    "what is wrong, with the command that mends it. Nothing is changed, and nothing is attached to "
    "the interface. The exit status is 0 if capturing works, and 1 if not."
)
_STDOUT: Final = 1
_SHAPE: Final = 1  # of the JSON; counts up if a field changes or goes
_STATE_WIDTH, _CHECK_WIDTH = 9, 16
_COLOURS: Final = {"good": "32", "warning": "33", "bad": "31", "unknown": "2"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    parser.add_argument(
        "--interface",
        "-i",
        metavar="IFACE",
        help="check this interface, too [default: the machine alone]",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        metavar="NAME",
        help=f"check what this one needs, out of {', '.join(BACKENDS)} [default: %(default)s]",
    )
    parser.add_argument(
        "--steal",
        action="store_true",
        help="check as for a capture that may take packets away from this host",
    )
    parser.add_argument(
        "--netns",
        metavar="NAME",
        help="check in this network namespace, a name of `ip netns` or a path as /proc/PID/ns/net "
        "[default: the one of this process]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Print the findings; returns 0 if capturing works, else 1. Raises ``NetringError``."""
    import logging

    from netring_bpf.cli.fold import write
    from netring_bpf.doctor.examine import examine, works
    from netring_bpf.doctor.finding import Asked
    from netring_bpf.interface import in_namespace

    # The findings tell what the library would log.
    logging.getLogger("netring_bpf").addHandler(logging.NullHandler())
    command = [_name_of_the_program(), "doctor"]
    asked = Asked(given.interface, given.backend, given.steal, command, given.netns)
    findings = []
    with in_namespace(given.netns):
        for finding in examine(asked):
            if not given.json:
                write(_lines(finding))
            findings.append(finding)
    it_works = works(findings)
    write(_as_json(asked, findings, it_works) if given.json else _summary(findings, it_works))
    return 0 if it_works else 1


def _name_of_the_program() -> str:
    """Return the word that starts this program, for any user and in any folder."""
    import shutil

    started = sys.argv[0]
    if not os.access(started, os.X_OK):
        return "netring-bpf"
    path = os.path.abspath(started)
    is_found = os.geteuid() == 0 and shutil.which(os.path.basename(path)) == path
    return os.path.basename(path) if is_found else path  # sudo has a PATH of its own


def _as_json(asked: Asked, findings: Iterable[Finding], works: bool) -> str:
    import json

    whole = {
        "shape": _SHAPE,
        "version": __version__,
        "interface": asked.interface,
        "backend": asked.backend,
        "steal": asked.steal,
        "netns": asked.netns,
        "works": works,
        "findings": [
            {
                "check": finding.check,
                "state": finding.state.value,
                "found": finding.found,
                "remedy": finding.remedy or None,
            }
            for finding in findings
        ],
    }
    return json.dumps(whole)


def _lines(finding: Finding) -> str:
    from netring_bpf.cli.fold import folded
    from netring_bpf.cli.screen import screen_of

    indent = _STATE_WIDTH + _CHECK_WIDTH
    told = folded(printable(finding.found), screen_of(_STDOUT).columns, indent)
    lines = f"{_coloured(finding.state.value)}{finding.check:<{_CHECK_WIDTH}}{told}"
    if finding.remedy:
        # The terminal folds it, so that it can be copied in one piece.
        lines += f"\n{' ' * _STATE_WIDTH}$ {finding.remedy}"
    return lines


def _coloured(state: str) -> str:
    from netring_bpf.cli.screen import has_colours

    if not has_colours(_STDOUT):
        return f"{state:<{_STATE_WIDTH}}"
    return f"\x1b[{_COLOURS[state]}m{state}\x1b[0m{' ' * (_STATE_WIDTH - len(state))}"


def _summary(findings: list[Finding], works: bool) -> str:
    states = [finding.state.value for finding in findings]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _COLOURS if state in states)
    return f"\n{'capturing works' if works else 'capturing does not work'}: {counts}"
