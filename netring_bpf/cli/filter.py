"""``netring-bpf filter``: shows the program of a filter, or counts its matches in a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from netring_bpf.bpf.engine_names import ENGINES

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "show the program of a filter, or count its matches in a file"
DESCRIPTION = (
    "Compile a filter and show its program, or count the frames of a capture file that match it."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add(
        "expression",
        nargs="+",
        metavar="FILTER",
        help="the words of a filter in tcpdump's language",
    )
    add("-r", dest="file", type=Path, metavar="FILE", help="count the matching frames of this file")
    add(
        "-i",
        dest="interface",
        metavar="IFACE",
        help="compile for live traffic of this interface",
    )
    add(
        "--engine",
        choices=ENGINES,
        default="python",
        help="run the filter on the frames of -r with this engine [default: %(default)s]",
    )
    add(
        "--count",
        action="store_true",
        help="print the number of matching frames, or without -r of instructions [default without "
        "--explain]",
    )
    add("--explain", action="store_true",
        help="list the instructions of the program, as tcpdump -d does")  # fmt: skip


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Run the command and return its exit status. Raises ``NetringError``."""
    if given.file is not None and given.interface is not None:
        parser.error("-r and -i exclude each other: a file is not live traffic")
    given.count = given.count or not given.explain
    for text in _alone(given) if given.file is None else _on_file(given):
        print(text)
    return 0


def _alone(given: argparse.Namespace) -> Iterator[str]:
    from netring_bpf.filter.filter import Filter

    program = Filter(" ".join(given.expression))
    if given.interface is not None:
        program = program.for_interface(given.interface)
    if given.explain:
        yield program.explain()
    if given.count:
        yield str(len(program.instructions))


def _on_file(given: argparse.Namespace) -> Iterator[str]:
    from netring_bpf.bpf.engines import open_engine
    from netring_bpf.filter.filter import Filter
    from netring_bpf.filter.libpcap import Savefile

    with Savefile(given.file) as savefile:
        program = Filter(
            " ".join(given.expression), linktype=savefile.linktype, snaplen=savefile.snaplen
        )
        if given.explain:
            yield program.explain()
        if given.count:
            with open_engine(given.engine, program) as engine:
                yield str(sum(engine.matches(*frame) for frame in savefile))
