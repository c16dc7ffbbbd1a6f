"""``netring-bpf record``: writes the frames of an interface, or of a file, into pcapng files."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.cli.flags import add_backend, add_bounds, add_filter, filter_of, say
from netring_bpf.cli.signals import Listener, ending_signals
from netring_bpf.errors import CaptureFileError, ClosedError, NetringError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from netring_bpf.recording.file_cut import FileCut
    from netring_bpf.recording.recorder import Recorder, RecordStatistics

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "write the frames of an interface into pcapng files, or cut a file to some of its frames"
DESCRIPTION = (
    "Write the frames of an interface into pcapng files, with times in nanoseconds and counts of "
    "dropped frames. Or, with -r, copy the frames of a capture file that match, with all that the "
    "file has beside its frames. No file that is there is overwritten. Ctrl-C stops the capture "
    "and prints a summary; SIGUSR1 prints the counts so far."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add_filter(parser)
    add("--interface", "-i", metavar="IFACE", help="capture on this interface")
    add(
        "-r",
        dest="source",
        type=Path,
        metavar="FILE",
        help="read this capture file instead, packed or not; - reads standard input",
    )
    add(
        "-w",
        dest="file",
        required=True,
        type=Path,
        metavar="FILE",
        help="write this pcapng file, or a pcap file if its name ends in .pcap; - writes pcapng to "
        "standard output",
    )
    add_backend(parser)
    add(
        "--rotate-size",
        type=int,
        metavar="BYTES",
        help="start a new file before one grows beyond this size",
    )
    add("--rotate-time", type=float, metavar="SECONDS", help="start a new file after this long")
    add("--max-files", type=int, metavar="N", help="keep only the latest N of these files")
    add(
        "--ring-time",
        type=float,
        metavar="SECONDS",
        help="keep the last SECONDS in memory; SIGUSR1 writes them to a new file",
    )
    add_bounds(parser, "frames")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Record until a signal, the duration or the count; returns the exit status.

    SIGUSR1 writes the ring to a file with ``--ring-time``, else it prints the counts. Raises
    ``NetringError``.
    """
    if (given.interface is None) == (given.source is None):
        parser.error("give either -i and an interface, or -r and a file")
    return _cut(parser, given) if given.source is not None else _record(parser, given)


def _record(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from netring_bpf.capture.capture import Capture
    from netring_bpf.cli.log import write_log
    from netring_bpf.recording.recorder import Recorder, RecordOptions

    write_log()
    capture = Capture(
        given.interface, filter=filter_of(given), backend=given.backend, steal=given.steal
    )
    try:
        options = RecordOptions(
            rotate_size=given.rotate_size,
            rotate_time=given.rotate_time,
            max_files=given.max_files,
            ring_time=given.ring_time,
        )
        recorder = Recorder(capture, given.file, options)
    except OptionError as error:
        parser.error(str(error))
    asked = _report if options.ring_time is None else _trigger
    actions: dict[signal.Signals, Callable[[], object]] = {signal.SIGUSR1: lambda: asked(recorder)}
    actions.update(dict.fromkeys(ending_signals(), recorder.stop))
    opened = False
    try:
        with Listener(actions), recorder:
            opened = True
            how = f"{capture.backend}, {capture.attach} XDP" if capture.attach else capture.backend
            say(f"recording {given.interface} ({how})")
            recorder.run(duration=given.duration, count=given.count)
    except CaptureFileError as error:
        # A reader of the pipe that has left (`| head`) is no error.
        if not (opened and isinstance(error.__cause__, BrokenPipeError)):
            raise
    finally:
        if opened:
            for line in _summary(recorder.statistics()):
                say(line)
    return 0


# -- a file --


def _cut(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    from netring_bpf.cli.log import write_log
    from netring_bpf.recording.file_cut import FileCut

    for flag in ("rotate_size", "rotate_time", "max_files", "ring_time"):
        if getattr(given, flag) is not None:
            parser.error(f"--{flag.replace('_', '-')} is for an interface: -r writes one file")
    write_log()
    try:
        cut = FileCut(given.source, given.file, filter_of(given))
    except OptionError as error:
        parser.error(str(error))
    actions: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGUSR1: lambda: say(_cut_summary(cut))
    }
    actions.update(dict.fromkeys(ending_signals(), cut.stop))
    with cut:
        try:
            with Listener(actions):
                say(f"reading {given.source}")
                cut.run(duration=given.duration, count=given.count)
        except CaptureFileError as error:
            if not isinstance(error.__cause__, BrokenPipeError):
                raise
        finally:
            say(_cut_summary(cut))
    return 0


def _cut_summary(cut: FileCut) -> str:
    books = cut.statistics()
    return f"{books.written} of {books.read} frames written, {books.bytes} bytes"


# -- an interface --


def _trigger(recorder: Recorder) -> None:
    recorder.trigger(
        lambda path: say(f"wrote {path}"), lambda error: say(f"{error}; the ring is kept")
    )


def _report(recorder: Recorder) -> None:
    try:
        books = recorder.statistics()
    except ClosedError:
        say("not recording yet")
        return
    except NetringError as error:
        say(str(error))
        return
    for line in _summary(books, laws=False):
        say(line)


def _summary(books: RecordStatistics, *, laws: bool = True) -> list[str]:
    """Return the summary. ``laws``: of the end, when the books must balance."""
    lines = [
        f"{books.written} frames written to {books.files} files, {books.bytes} bytes",
        f"{books.capture.seen} frames seen, {books.capture.lost} dropped by the kernel",
    ]
    if books.unwritten:
        lines.append(f"{books.unwritten} frames could not be written")
    if books.overwritten or books.held:
        lines.append(f"{books.overwritten + books.held} frames left the ring unwritten")
    lines += [f"books off: {law}" for law in books.equations() if laws and not law.holds]
    return lines
