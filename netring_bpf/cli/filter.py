"""``netring-bpf filter``: shows what an expression compiles to, or counts a file's matches."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from netring_bpf.bpf.engine_names import ENGINES

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "show what a filter compiles to, or count its matches in a file"
DESCRIPTION = "Show what a filter compiles to, or how many frames of a file match it."


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add("expression", nargs="+", metavar="FILTER", help="a filter in tcpdump's language")
    add("-r", dest="file", type=Path, metavar="FILE", help="count the frames of this capture file")
    add(
        "-i",
        dest="interface",
        metavar="IFACE",
        help="compile as for live traffic of this interface",
    )
    add(
        "--engine",
        choices=ENGINES,
        default="python",
        help="what runs the filter on the frames of -r [default: python]",
    )
    add(
        "--count",
        action="store_true",
        help="print the number of matching frames; of instructions without -r. The default; "
        "beside --explain it must be asked for",
    )
    add("--explain", action="store_true",
        help="list the compiled program, as tcpdump -d does")  # fmt: skip


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
