"""``netring-bpf record``: writes the frames of an interface into pcapng files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.cli.flags import add_backend, add_bounds, add_filter, expression, say
from netring_bpf.errors import OptionError

if TYPE_CHECKING:
    from netring_bpf.recording.recorder import RecordStatistics

__all__ = ["DESCRIPTION", "SUMMARY", "add_flags", "run"]

SUMMARY = "write the frames of an interface into pcapng files"
DESCRIPTION = (
    "Write the frames of an interface into pcapng files, with times in nanoseconds and counts of "
    "dropped frames. Ctrl-C stops the capture and prints a summary."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    add = parser.add_argument
    add_filter(parser)
    add("--interface", "-i", required=True, metavar="IFACE", help="capture on this interface")
    add("-w", dest="file", required=True, type=Path, metavar="FILE", help="write this pcapng file")
    add_backend(parser)
    add(
        "--rotate-size",
        type=int,
        metavar="BYTES",
        help="start a new file before one grows beyond this size",
    )
    add("--rotate-time", type=float, metavar="SECONDS", help="start a new file after this long")
    add("--max-files", type=int, metavar="N", help="keep only the latest N files")
    add(
        "--ring-time",
        type=float,
        metavar="SECONDS",
        help="keep the last SECONDS in memory, and write them to a file on SIGUSR1",
    )
    add_bounds(parser, "frames")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Record until SIGINT or SIGTERM, the duration or the count; returns the exit status.

    With ``--ring-time``, SIGUSR1 writes the ring to a file. Raises ``NetringError``.
    """
    import signal

    from netring_bpf.capture.capture import Capture
    from netring_bpf.cli.log import write_log
    from netring_bpf.recording.recorder import Recorder, RecordOptions

    write_log()
    try:
        options = RecordOptions(
            rotate_size=given.rotate_size,
            rotate_time=given.rotate_time,
            max_files=given.max_files,
            ring_time=given.ring_time,
        )
    except OptionError as error:
        parser.error(str(error))
    capture = Capture(
        given.interface, filter=expression(given), backend=given.backend, steal=given.steal
    )
    recorder = Recorder(capture, given.file, options)
    with recorder:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: recorder.stop())
        if options.ring_time is not None:
            signal.signal(
                signal.SIGUSR1,
                lambda *_: recorder.trigger(lambda path: say(f"wrote {path}")),
            )
        how = f"{capture.backend}, {capture.attach} XDP" if capture.attach else capture.backend
        say(f"recording {given.interface} ({how})")
        recorder.run(duration=given.duration, count=given.count)
    for line in _summary(recorder.statistics()):
        say(line)
    return 0


def _summary(books: RecordStatistics) -> list[str]:
    lines = [
        f"{books.written} frames written to {books.files} files, {books.bytes} bytes",
        f"{books.capture.seen} frames seen, {books.capture.lost} dropped by the kernel",
    ]
    if books.overwritten or books.held:
        lines.append(f"{books.overwritten + books.held} frames left the ring unwritten")
    lines += [f"books off: {law}" for law in books.equations() if not law.holds]
    return lines
