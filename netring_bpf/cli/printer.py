"""Prints the events of a ``Netring`` on standard output, and a summary at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

from netring_bpf.broadcast.broadcast import BatchSubscriber
from netring_bpf.cli.flags import has_rich, say
from netring_bpf.cli.lines import Lines, open_lines
from netring_bpf.cli.output import Output
from netring_bpf.cli.screen import is_apart
from netring_bpf.cli.signals import ending_signals
from netring_bpf.errors import ClosedError, NetringError, SyscallError, printable
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import CaptureError, Event, FlowEnd
from netring_bpf.events.select import Kinds
from netring_bpf.netring import Netring, NetringStatistics
from netring_bpf.statistics import CaptureStatistics

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
) -> bool:
    """Capture and print until a signal, the duration or the count.

    ``compress_ipv6``: EVE writes IPv6 addresses as in RFC 5952. ``kinds``: the events to print, if
    there are others too. ``instead``: makes the lines,
    whatever the format. ``expression`` is the filter, for the first message.

    Returns whether the capture ended without an error; the log has the error. Raises
    ``NetringError``. A second SIGINT or SIGTERM cancels the closing. SIGUSR1 prints the
    statistics so far.
    """
    problem: SyscallError | None = None
    stop = asyncio.Event()
    stop_on_signals(stop)
    _report_on_signal(ring)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(ring)
        events = await stack.enter_async_context(
            ring.subscribe_batches(kinds=kinds, errors="event", name="stdout")
        )
        say(opening(ring, expression))
        # Nothing of what the bar is drawn over may be a line of the output.
        is_alone = instead is not None or is_apart(sys.stdout.fileno())
        if ring.progress is not None and sys.stderr.isatty() and is_alone and has_rich():
            from netring_bpf.cli.progress import show_progress

            stack.enter_context(show_progress(ring))
        lines = instead or open_lines(
            format,
            interface=ring.interface if ring.progress is None else None,
            compress_ipv6=compress_ipv6,
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
    say(_summary(ring.statistics()), prefix="")
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


def _report_on_signal(ring: Netring) -> None:
    loop = asyncio.get_running_loop()

    def report() -> None:
        try:
            say(_summary(ring.statistics(), laws=False), prefix="")
        except ClosedError:
            say("not capturing yet")
        except NetringError as error:
            say(str(error))

    def on_signal(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(report)

    # The loop's own handlers would end with it, and the signal would kill then.
    signal.signal(signal.SIGUSR1, on_signal)


async def _print(
    events: BatchSubscriber, lines: Lines, left: int | None, stop: asyncio.Event
) -> None:
    try:
        with Output(sys.stdout.fileno()) as output, contextlib.closing(lines):
            await output.write(lines.header())
            async for batch in events:
                # Read on past the count without printing, so that the books balance.
                shown, left = _up_to(batch, left)
                for part in lines.of(shown):
                    await output.write(part)
                if left == 0 or _has_error(batch):
                    stop.set()
    except BrokenPipeError:
        pass  # the reader of the pipe has left (`| head`), which is no error
    finally:
        stop.set()


def _is_of_flows(batch: Sequence[Event]) -> bool:
    """Whether the batch has flow events; all other events come in batches of their own."""
    return isinstance(batch, EventBatch)


def _has_error(batch: Sequence[Event]) -> bool:
    return not _is_of_flows(batch) and any(isinstance(event, CaptureError) for event in batch)


def _up_to(batch: Sequence[Event], left: int | None) -> tuple[Sequence[Event], int | None]:
    """Return the events up to the ``left``-th flow event, and the number left after them."""
    if left is None:
        return batch, None
    if left == 0 or not _is_of_flows(batch):
        return batch if left else (), left
    shown = batch[:left]
    return shown, left - len(shown)


def opening(ring: Netring, expression: str | None) -> str:
    """Return the first message: the interface or file, and how it is read."""
    how = f"{ring.backend}, {ring.attach} XDP" if ring.attach else ring.backend
    what = f", filter {expression!r}" if expression else ""
    if ring.progress is not None:
        return f"reading {printable(ring.interface)}{what}"
    return f"capturing on {printable(ring.interface)} ({how}{what})"


def _summary(statistics: NetringStatistics, *, laws: bool = True) -> str:
    """Return the summary. ``laws``: of the end, when the books must balance."""
    capture = statistics.capture
    if capture.backend == "file":
        lines = [
            f"{capture.file_frames} frames read, {capture.file_filtered} filtered out, "
            f"{capture.keyed} with a flow"
        ]
    else:
        lines = [
            f"{capture.received} frames received, {capture.keyed} with a flow",
            f"{capture.seen} frames seen, {capture.passed} passed to the host",
            f"{capture.lost} frames dropped by the kernel, {capture.events_lost} events lost",
        ]
    lines += _without_a_flow(capture)
    lines += [
        f"{capture.flows.started} flows started, {sum(capture.flows.ended.values())} ended",
    ]
    if evicted := capture.flows.ended[FlowEnd.EVICTED.value]:
        lines.append(
            f"{evicted} flows evicted, as the table has room for {capture.flows.capacity}: "
            "--max-flows N gives it more"
        )
    lines += [
        f"{printable(sink.name)}: {sink.accepted} flows accepted, "
        f"{sink.acknowledged} acknowledged, {sum(sink.dropped.values())} dropped, "
        f"{sink.pending} pending, {stream.lagged} missed"
        for sink, stream in zip(statistics.sinks, statistics.streams, strict=True)
        if sink.takes_flows
    ]
    lines += [f"books off: {law}" for law in statistics.equations() if laws and not law.holds]
    return "\n".join(lines)


def _without_a_flow(capture: CaptureStatistics) -> list[str]:
    """Say why frames have no flow; docs/statistics.md explains the reasons."""
    reasons = [f"{count} {reason}" for reason, count in capture.not_keyed.items() if count]
    lines = [f"without a flow: {', '.join(reasons)}"] if reasons else []
    if sliced := capture.not_keyed["sliced"]:
        lines.append(
            f"{sliced} frames are shorter than their IP length says, as a mirror slices them: "
            "--sliced trust believes that length"
        )
    if capture.inner_not_keyed:
        lines.append(f"{capture.inner_not_keyed} packets inside of tunnels without a flow")
    return lines
