"""``netring-bpf filter``: shows the program of a filter, or counts its matches in a file."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from netring_bpf.bpf.engine_names import ENGINES
from netring_bpf.cli.flags import add_filter_file, add_messages, check_filter, tell, words_of
from netring_bpf.cli.parsers import Once, Parser
from netring_bpf.errors import CaptureFileError, FilterError

if TYPE_CHECKING:
    from netring_bpf.bpf.engines import Engine
    from netring_bpf.capture.file_reader import FileReader
    from netring_bpf.filter.filter import Filter

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

_LONGEST = 262_144  # bytes of a frame, to libpcap
_ETHERNET = 1
SUMMARY = "show the program of a filter, or count its matches in a file"
DESCRIPTION = (
    "Compile a filter and show its program, or count the frames of a capture file that match it."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add(
        "expression",
        nargs="*",
        metavar="FILTER",
        help="the words of a filter in tcpdump's language",
    )
    add_filter_file(parser)
    add(
        "-r",
        dest="files",
        action=Once,
        type=Path,
        metavar="FILE",
        help="count the matching frames of this file, packed or not; - reads standard input",
    )
    add(
        "-i",
        dest="interface",
        action=Once,
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
    add_messages(parser)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Run the command and return its exit status. Raises ``NetringError``."""
    if given.files is not None and given.interface is not None:
        parser.error("-r and -i exclude each other: a file is not live traffic")
    check_filter(parser, given)
    if not given.expression and given.filter_file is None:
        parser.error("give the words of a filter, or -F and a file that has them")
    from netring_bpf.cli.log import write_log

    write_log()
    given.count = given.count or not given.explain
    for text in _alone(given) if given.files is None else _on_file(given):
        print(text)
    return 0


def _alone(given: argparse.Namespace) -> Iterator[str]:
    from netring_bpf.filter.filter import Filter

    program = Filter(words_of(given))
    if given.interface is not None:
        program = program.for_interface(given.interface)
    if given.explain:
        yield program.explain()
    if given.count:
        yield str(len(program.instructions))


def _on_file(given: argparse.Namespace) -> Iterator[str]:
    from netring_bpf.capture.file_reader import FileReader

    frames = matches = 0
    damage: CaptureFileError | None = None
    with FileReader(given.files) as file, _Engines(given, file) as engines:
        try:
            for linktype, data, wire_length in file.frames():
                frames += 1
                engine = engines.of(linktype)
                if given.count and engine is not None and engine.matches(data, wire_length):
                    matches += 1
        except CaptureFileError as error:
            damage = error
        if damage is None or frames:
            programs = engines.programs()
            for linktype, program in programs.items() if given.explain else ():
                if len(programs) > 1:
                    yield f"link type {linktype}:"
                yield program.explain()
            if given.count:
                yield str(matches)
    if damage is not None:
        raise damage


class _Engines:
    """The filter for each link type of a file, which one engine runs. A context manager."""

    def __init__(self, given: argparse.Namespace, file: FileReader) -> None:
        self._expression = words_of(given)
        self._name = given.engine
        self._file = file
        self._engines: dict[int, Engine | None] = {}
        self._programs: dict[int, Filter] = {}
        self._errors: dict[int, FilterError] = {}
        self._stack = contextlib.ExitStack()

    def of(self, linktype: int) -> Engine | None:
        """Return the engine for frames of this link type, None if the filter is not for them."""
        if linktype not in self._engines:
            self._engines[linktype] = self._opened(linktype)
        return self._engines[linktype]

    def _opened(self, linktype: int) -> Engine | None:
        from netring_bpf.bpf.engines import open_engine
        from netring_bpf.capture.file_filter import dlt_of
        from netring_bpf.filter.filter import Filter

        told = self._file.interface(0)
        snaplen = told.snaplen if told is not None and 0 < told.snaplen <= _LONGEST else _LONGEST
        try:
            program = Filter(self._expression, linktype=dlt_of(linktype), snaplen=snaplen)
        except FilterError as error:
            self._errors[linktype] = error
            return None
        self._programs[linktype] = program
        return self._stack.enter_context(open_engine(self._name, program))

    def programs(self) -> dict[int, Filter]:
        """At the end of the file: return the filters. Raises ``FilterError`` if there is none."""
        if not self._engines:  # the file has no frame
            told = self._file.interface(0)
            self.of(told.linktype if told is not None else _ETHERNET)
        if not self._programs:
            raise next(iter(self._errors.values()))
        for linktype, error in self._errors.items():
            tell(f"frames of link type {linktype} are left out: {error}")
        return self._programs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
