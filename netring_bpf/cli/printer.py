"""Prints the events of a ``Netring`` on standard output, and a summary at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

from netring_bpf.broadcast.broadcast import BatchSubscriber
from netring_bpf.cli.flags import has_rich
from netring_bpf.cli.lines import Lines, open_lines, up_to
from netring_bpf.cli.output import Output
from netring_bpf.cli.reports import reported
from netring_bpf.cli.say import is_quiet, say, tell
from netring_bpf.cli.screen import is_apart
from netring_bpf.cli.signals import ending_signals
from netring_bpf.cli.summary import filter_shown, reading, summary
from netring_bpf.errors import SyscallError, printable
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import CaptureError, Event
from netring_bpf.events.select import Kinds
from netring_bpf.netring import Netring

__all__ = ["opening", "print_events", "stop_on_signals"]

_PATIENCE = 1.0  # seconds for the reader of standard output, once the capture is closed


async def print_events(
    ring: Netring,
    format: str,
    *,
    compress_ipv6: bool,
    kinds: Kinds = None,
    instead: Lines | None = None,
    expression: str | None,
    duration: float | None,
    count: int | None,
    stats_interval: float | None = None,
    with_names: bool = True,
) -> bool:
    """Capture and print until a signal, the duration or the count.

    ``compress_ipv6``: EVE writes IPv6 addresses as in RFC 5952. ``kinds``: the events to print, if
    there are others too. ``instead``: makes the lines, whatever the format. ``expression`` is the
    filter, for the first message. ``stats_interval``: the seconds between two prints of the
    counters. ``with_names``: the table has names of hosts.

    Returns whether the capture ended without an error; the log has the error. Raises
    ``NetringError``. A second SIGINT or SIGTERM cancels the closing. SIGUSR1 prints the
    statistics so far.
    """
    problem: SyscallError | None = None
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(reported(ring, stats_interval))
        await stack.enter_async_context(ring)
        events = await stack.enter_async_context(
            ring.subscribe_batches(kinds=kinds, errors="event", name="stdout")
        )
        tell(opening(ring, expression))
        # Nothing of what the bar is drawn over may be a line of the output.
        is_alone = instead is not None or is_apart(sys.stdout.fileno())
        if (
            ring.progress is not None
            and sys.stderr.isatty()
            and is_alone
            and has_rich()
            and not is_quiet()
        ):
            from netring_bpf.cli.progress import show_progress

            stack.enter_context(show_progress(lambda: ring.progress or (0, 0)))
        lines = instead or open_lines(
            format,
            interface=ring.interface if ring.progress is None else None,
            compress_ipv6=compress_ipv6,
            with_names=with_names,
        )
        printer = asyncio.create_task(_print(events, lines, count, stop))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), duration)
        await ring.close()
        try:
            await asyncio.wait_for(printer, _PATIENCE)
        except TimeoutError:
            say("nothing reads standard output: some events were not printed")
        except SyscallError as error:
            problem = error
    tell(summary(ring.statistics()), prefix="")
    if problem is not None:
        raise problem
    return ring.error is None


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at the first signal that ends a command; the second one cancels this task."""
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()

    def on_signal(number: signal.Signals) -> None:
        # A terminal that hangs up sends SIGHUP twice, and systemd may send it after SIGTERM.
        if stop.is_set() and main is not None and number != signal.SIGHUP:
            main.cancel()
        stop.set()

    for number in ending_signals():
        loop.add_signal_handler(number, on_signal, number)


async def _print(
    events: BatchSubscriber, lines: Lines, left: int | None, stop: asyncio.Event
) -> None:
    try:
        with Output(sys.stdout.fileno()) as output, contextlib.closing(lines):
            await output.write(lines.header())
            async for batch in events:
                # Read on past the count without printing, so that the books balance.
                shown, left = up_to(batch, left)
                for part in lines.of(shown):
                    await output.write(part)
                if left == 0 or _has_error(batch):
                    stop.set()
    except BrokenPipeError:
        pass  # the reader of the pipe has left (`| head`), which is no error
    finally:
        stop.set()


def _has_error(batch: Sequence[Event]) -> bool:
    return not isinstance(batch, EventBatch) and any(
        isinstance(event, CaptureError) for event in batch
    )


def opening(ring: Netring, expression: str | None) -> str:
    """Return the first message: the interface or file, and how it is read."""
    how = f"{ring.backend}, {ring.attach} XDP" if ring.attach else ring.backend
    if ring.progress is not None:
        return reading(ring.interface, expression)
    return f"capturing on {printable(ring.interface)} ({how}{filter_shown(expression)})"
