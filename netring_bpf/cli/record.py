"""``netring-bpf record``: writes the frames of an interface, or of a file, into pcapng files."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.cli.flags import (
    add_bounds,
    add_capture,
    add_filter,
    add_messages,
    add_source,
    add_stats_interval,
    capture_of,
    check_source,
    filter_of,
    say,
    tell,
)
from netring_bpf.cli.parsers import Parser
from netring_bpf.cli.signals import Listener, ending_signals
from netring_bpf.cli.summary import loss_lines
from netring_bpf.cli.values import OptionReader
from netring_bpf.errors import CaptureFileError, ClosedError, NetringError, OptionError
from netring_bpf.recording.options import RecordOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from netring_bpf.recording.file_cut import FileCut
    from netring_bpf.recording.recorder import Recorder, RecordStatistics

__all__ = ["DESCRIPTION", "SUMMARY", "USAGE", "add_flags", "run", "summary"]

SUMMARY = "write the frames of an interface into pcapng files, or cut a file to some of its frames"
USAGE = "%(prog)s (-i IFACE | -r FILE) -w FILE [FLAGS] [FILTER ...]"
DESCRIPTION = (
    "Write the frames of an interface into pcapng files, with times in nanoseconds and counts of "
    "dropped frames. Or, with -r, copy the frames of a capture file that match, with all that the "
    "file has beside its frames. No file that is there is overwritten. Ctrl-C stops the capture "
    "and prints a summary; SIGUSR1 prints the counts so far."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add_source(parser, several=False)
    parser.add_argument(
        "-w",
        dest="file",
        required=True,
        type=Path,
        metavar="FILE",
        help="write this pcapng file, or a pcap file if its name ends in .pcap; - writes pcapng to "
        "standard output",
    )
    add_bounds(parser, "frames")
    add_filter(parser)
    group = parser.add_argument_group("files")
    add = group.add_argument
    add(
        "--rotate-size",
        type=OptionReader(_one_option, "rotate_size", int),
        metavar="BYTES",
        help="start a new file before one grows beyond this size",
    )
    add(
        "--rotate-time",
        type=OptionReader(_one_option, "rotate_time", float),
        metavar="SECONDS",
        help="start a new file after this long",
    )
    add(
        "--max-files",
        type=OptionReader(_one_option, "max_files", int),
        metavar="N",
        help="keep only the latest N of these files",
    )
    add(
        "--ring-time",
        type=OptionReader(_one_option, "ring_time", float),
        metavar="SECONDS",
        help="keep the last SECONDS in memory; SIGUSR1 writes them to a new file",
    )
    add(
        "--ring-bytes",
        type=OptionReader(_ring_bytes, "ring_bytes", int),
        metavar="BYTES",
        help="keep at most so many bytes of them; the oldest make room [default: "
        f"{RecordOptions().ring_size}]",
    )
    add_stats_interval(group)
    add_messages(parser)
    add_capture(parser, threads=False)


def run(parser: Parser, given: argparse.Namespace) -> int:
    """Record until a signal, the duration or the count; returns the exit status.

    SIGUSR1 writes the ring to a file with ``--ring-time``, else it prints the counts. Raises
    ``NetringError``.
    """
    check_source(parser, given)
    return _cut(parser, given) if given.files is not None else _record(parser, given)


def _one_option(**option: float) -> RecordOptions:
    """Check the range of one option; whether it has the others that it needs is checked later."""
    if "max_files" in option:
        return RecordOptions(rotate_time=1.0, max_files=int(option["max_files"]))
    return RecordOptions(**option)  # type: ignore[arg-type]


def _ring_bytes(*, ring_bytes: int) -> RecordOptions:
    return RecordOptions(ring_size=ring_bytes)


def _record(parser: Parser, given: argparse.Namespace) -> int:
    from netring_bpf.cli.log import write_log
    from netring_bpf.recording.recorder import Recorder

    if given.ring_bytes is not None and given.ring_time is None:
        parser.error("--ring-bytes needs --ring-time")
    write_log()
    capture = capture_of(given)
    if given.cpus is not None:
        _run_on(given.cpus)
    try:
        options = RecordOptions(
            rotate_size=given.rotate_size,
            rotate_time=given.rotate_time,
            max_files=given.max_files,
            ring_time=given.ring_time,
            **({} if given.ring_bytes is None else {"ring_size": given.ring_bytes}),
        )
        recorder = Recorder(capture, given.file, options)
    except OptionError as error:
        parser.option_error(error)
    asked = _report if options.ring_time is None else _trigger
    actions: dict[signal.Signals, Callable[[], object]] = {signal.SIGUSR1: lambda: asked(recorder)}
    actions.update(dict.fromkeys(ending_signals(), recorder.stop))
    opened = False
    try:
        with (
            Listener(actions, every=given.stats_interval, report=lambda: _repeat(recorder)),
            recorder,
        ):
            opened = True
            how = f"{capture.backend}, {capture.attach} XDP" if capture.attach else capture.backend
            tell(f"recording {given.interface} ({how})")
            recorder.run(duration=given.duration, count=given.count)
    except CaptureFileError as error:
        # A reader of the pipe that has left (`| head`) is no error.
        if not (opened and isinstance(error.__cause__, BrokenPipeError)):
            raise
    finally:
        if opened:
            for line in summary(recorder.statistics()):
                tell(line)
    return 0


def _run_on(cpus: tuple[int, ...]) -> None:
    """Let this thread, which reads the rings, run on these CPUs. Raises ``OptionError``."""
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, OverflowError, ValueError) as error:
        raise OptionError(
            f"cpus={cpus!r}: none of these CPUs is here and allowed (there are "
            f"{', '.join(map(str, sorted(os.sched_getaffinity(0))))})",
            option="cpus",
        ) from error


# -- a file --


def _cut(parser: Parser, given: argparse.Namespace) -> int:
    from netring_bpf.cli.log import write_log
    from netring_bpf.recording.file_cut import FileCut

    for flag in ("rotate_size", "rotate_time", "max_files", "ring_time", "ring_bytes"):
        if getattr(given, flag) is not None:
            parser.error(f"--{flag.replace('_', '-')} is for an interface: -r writes one file")
    write_log()
    try:
        cut = FileCut(given.files, given.file, filter_of(given))
    except OptionError as error:
        parser.option_error(error)
    actions: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGUSR1: lambda: say(_cut_summary(cut))
    }
    actions.update(dict.fromkeys(ending_signals(), cut.stop))
    with cut:
        try:
            with Listener(
                actions, every=given.stats_interval, report=lambda: tell(_cut_summary(cut))
            ):
                tell(f"reading {given.files}")
                cut.run(duration=given.duration, count=given.count)
        except CaptureFileError as error:
            if not isinstance(error.__cause__, BrokenPipeError):
                raise
        finally:
            tell(_cut_summary(cut))
    return 0


def _cut_summary(cut: FileCut) -> str:
    books = cut.statistics()
    return f"{books.written} of {books.read} frames written, {books.bytes} bytes"


# -- an interface --


def _trigger(recorder: Recorder) -> None:
    recorder.trigger(
        lambda path: say(f"wrote {path}"), lambda error: say(f"{error}; the ring is kept")
    )


def _repeat(recorder: Recorder) -> None:
    """Print the counts unless there are none yet."""
    with contextlib.suppress(NetringError):
        for line in summary(recorder.statistics(), laws=False):
            tell(line)


def _report(recorder: Recorder) -> None:
    try:
        books = recorder.statistics()
    except ClosedError:
        say("not recording yet")
        return
    except NetringError as error:
        say(str(error))
        return
    for line in summary(books, laws=False):
        say(line)


def summary(books: RecordStatistics, *, laws: bool = True) -> list[str]:
    """Return the summary. ``laws``: of the end, when the books must balance."""
    lines = [
        f"{books.written} frames written to {books.files} files, {books.bytes} bytes",
        f"{books.capture.seen} frames seen, {books.capture.lost} dropped by the kernel",
        *loss_lines(books.capture, with_flows=False),
    ]
    if books.unwritten:
        lines.append(f"{books.unwritten} frames could not be written")
    if books.overwritten or books.held:
        lines.append(f"{books.overwritten + books.held} frames left the ring unwritten")
    lines += [f"books off: {law}" for law in books.equations() if laws and not law.holds]
    return lines
