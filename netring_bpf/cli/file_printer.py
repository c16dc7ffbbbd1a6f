"""Prints the events of capture files on standard output, without an event loop."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from netring_bpf.cli.blocking_output import BlockingOutput, Ending, UnreadError
from netring_bpf.cli.flags import has_rich
from netring_bpf.cli.lines import Lines, open_lines, up_to
from netring_bpf.cli.say import is_quiet, say, tell
from netring_bpf.cli.screen import is_apart
from netring_bpf.cli.signals import ending_signals
from netring_bpf.cli.summary import file_summary, reading
from netring_bpf.errors import ClosedError, NetringError, SyscallError
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import CaptureError, Event
from netring_bpf.loggers import logger
from netring_bpf.read.event_reader import EventReader

if TYPE_CHECKING:
    from types import FrameType

    from netring_bpf.capture.replay import Replay

__all__ = ["StoppedAgain", "print_file"]


class StoppedAgain(BaseException):
    """A second signal came while the command was ending."""


class _TextReader(EventReader):
    """Reads events that are only encoded as text, one batch at a time, so that none is copied."""

    def __init__(self, replay: Replay, duration: float | None) -> None:
        super().__init__(replay, duration=duration)
        self._replay = replay

    def _take(self, limit: int) -> EventBatch:
        return self._replay.lend(limit)

    def _finish(self, limit: int) -> Iterator[EventBatch]:
        return self._replay.finish(limit, lend=True)


def print_file(
    replay: Replay,
    format: str,
    *,
    compress_ipv6: bool,
    instead: Lines | None = None,
    expression: str | None,
    duration: float | None,
    count: int | None,
    stats_interval: float | None = None,
    with_names: bool = True,
) -> bool:
    """Read and print to the end of the files, or until a signal, the duration or the count.

    The parameters, and what is printed, are those of ``print_events``. Returns whether the capture
    ended without an error; the log has the error. Raises ``NetringError``, and ``StoppedAgain`` at
    a second SIGINT or SIGTERM.
    """
    is_decoded = format == "table"
    reader = EventReader(replay, duration=duration) if is_decoded else _TextReader(replay, duration)
    problem: SyscallError | None = None
    # Nothing of what the bar is drawn over may be a line of the output.
    is_alone = instead is not None or is_apart(sys.stdout.fileno())
    with Ending(reader.stop, duration) as ending, _signals(reader, ending):
        with reader:
            tell(reading(replay.interface, expression))
            with _progress(replay, is_alone), _reports(reader, stats_interval):
                events = reader.events()
                try:
                    lines = instead or open_lines(
                        format, compress_ipv6=compress_ipv6, with_names=with_names
                    )
                    _print(events, lines, ending, count)
                except BrokenPipeError:
                    pass  # the reader of the pipe has left (`| head`), which is no error
                except UnreadError:
                    say("nothing reads standard output: some events were not printed")
                except SyscallError as error:
                    problem = error
                reader.stop()
                for batch in events:  # read on, so that the books balance
                    _log_error(batch)
        tell(file_summary(reader.statistics()), prefix="")
    if problem is not None:
        raise problem
    return reader.error is None


def _print(
    events: Iterator[Sequence[Event]], lines: Lines, ending: Ending, left: int | None
) -> None:
    """Print up to ``left`` flow events."""
    with BlockingOutput(sys.stdout.fileno(), ending) as output, contextlib.closing(lines):
        output.write(lines.header())
        for batch in events:
            _log_error(batch)
            shown, left = up_to(batch, left)
            for part in lines.of(shown):
                output.write(part)
            if left == 0:
                return


def _log_error(batch: Sequence[Event]) -> None:
    if isinstance(batch, EventBatch):
        return
    for event in batch:
        if isinstance(event, CaptureError):
            logger("netring_bpf").error("%s", event.error, exc_info=event.error.__cause__)


@contextlib.contextmanager
def _signals(reader: EventReader, ending: Ending) -> Iterator[None]:
    """End the reading at a signal, and print the counters at SIGUSR1, within the block."""

    def on_end(number: int, _: FrameType | None) -> None:
        # A terminal that hangs up sends SIGHUP twice, and systemd may send it after SIGTERM.
        if ending.asked and number != signal.SIGHUP:
            raise StoppedAgain
        ending.ask()

    def on_report(_: int, __: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # it interrupts another message
            _report(reader)

    before = {number: signal.signal(number, on_end) for number in ending_signals()}
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, on_report)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(reader: EventReader) -> None:
    try:
        say(file_summary(reader.statistics(), laws=False), prefix="")
    except ClosedError:
        say("not capturing yet")
    except NetringError as error:
        say(str(error))


@contextlib.contextmanager
def _reports(reader: EventReader, interval: float | None) -> Iterator[None]:
    """Print the counters every ``interval`` seconds within the block."""
    if interval is None:
        yield
        return
    over = threading.Event()

    def run() -> None:
        while not over.wait(interval):
            with contextlib.suppress(NetringError):  # it is closing
                tell(file_summary(reader.statistics(), laws=False), prefix="")

    thread = threading.Thread(target=run, name="netring-reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _progress(replay: Replay, is_alone: bool) -> Iterator[None]:
    """Draw a bar on a terminal within the block."""
    if (
        sys.stderr is None
        or not sys.stderr.isatty()
        or not is_alone
        or is_quiet()
        or not has_rich()
    ):
        yield
        return
    from netring_bpf.cli.progress import show_progress

    with show_progress(lambda: replay.progress):
        yield
