"""``netring-bpf flows``: one Netring, one subscriber that prints, and a summary."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netring_bpf.broadcast.broadcast import BatchSubscriber
from netring_bpf.cli.lines import open_lines
from netring_bpf.cli.output import Output
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import CaptureError, Event
from netring_bpf.netring import Netring, NetringStatistics
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import TpacketOptions, XdpOptions

if TYPE_CHECKING:
    from netring_bpf.capture.backend import Backend
    from netring_bpf.sinks.base import Sink

__all__ = ["FlowsRequest", "print_flows"]

_PATIENCE = 1.0  # seconds for whoever reads standard output, once the capture is closed


@dataclass(frozen=True, slots=True)
class FlowsRequest:
    """The flags of the command."""

    interface: str | None
    file: Path | None
    expression: str | None
    format: str
    flow: FlowOptions
    xdp: XdpOptions
    tpacket: TpacketOptions
    backend: Backend
    steal: bool
    mqtt: str | None
    mqtt_credentials: Path | None
    duration: float | None
    count: int | None


async def print_flows(request: FlowsRequest) -> bool:
    """Capture and print until a signal, the duration or the count.

    Returns whether the capture ended as it should; what ended it otherwise is in the log.
    Raises ``NetringError``. A second signal cancels the closing.
    """
    ring = _open(request)
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(ring)
        events = await stack.enter_async_context(ring.subscribe_batches(name="stdout"))
        _say(_opening(ring, request.expression))
        if ring.progress is not None and sys.stderr.isatty():
            from netring_bpf.cli.progress import show_progress

            stack.enter_context(show_progress(ring))
        printer = asyncio.create_task(_print(events, request, stop))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), request.duration)
        await ring.close()
        try:
            await asyncio.wait_for(printer, _PATIENCE)
        except TimeoutError:
            _say("netring-bpf: nobody reads standard output: not all events were printed")
    _say(_summary(ring.statistics()))
    return ring.error is None


def _open(request: FlowsRequest) -> Netring:
    sinks = _sinks(request)
    if request.file is not None:
        return Netring.replay(
            request.file, filter=request.expression, sinks=sinks, flow=request.flow
        )
    assert request.interface is not None
    return Netring(
        request.interface,
        filter=request.expression,
        backend=request.backend,
        steal=request.steal,
        sinks=sinks,
        flow=request.flow,
        xdp=request.xdp,
        tpacket=request.tpacket,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and main is not None:
            main.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)


def _sinks(request: FlowsRequest) -> tuple[Sink, ...]:
    if request.mqtt is None:
        return ()
    from netring_bpf.sinks.mqtt import MqttOptions, MqttSink

    options = MqttOptions(credentials_file=request.mqtt_credentials)
    kinds = tuple(kind for kind in options.kinds if kind in request.flow.events)
    return (MqttSink(request.mqtt, dataclasses.replace(options, kinds=kinds)),)


async def _print(events: BatchSubscriber, request: FlowsRequest, stop: asyncio.Event) -> None:
    # One file gives the same bytes each time; two live captures have no identifier in common.
    salt = request.file.name if request.file is not None else os.urandom(8).hex()
    left = request.count
    try:
        with Output(sys.stdout.fileno()) as output:
            lines = open_lines(request.format, salt=salt)
            await output.write(lines.header())
            async for batch in events:
                # Past the count the rest is read, so that the books close, and not shown.
                shown, left = _up_to(batch, left)
                for part in lines.of(shown):
                    await output.write(part)
                if left == 0 or _has_error(batch):
                    stop.set()
    except BrokenPipeError:
        pass  # the reader of the pipe has left (`| head`): no error
    finally:
        stop.set()


def _is_of_flows(batch: Sequence[Event]) -> bool:
    """What is no flow event comes in a batch of its own."""
    return isinstance(batch, EventBatch)


def _has_error(batch: Sequence[Event]) -> bool:
    return not _is_of_flows(batch) and any(isinstance(event, CaptureError) for event in batch)


def _up_to(batch: Sequence[Event], left: int | None) -> tuple[Sequence[Event], int | None]:
    """The events up to and including the ``left``-th flow event, and how many are left then."""
    if left is None:
        return batch, None
    if left == 0 or not _is_of_flows(batch):
        return batch if left else (), left
    shown = batch[:left]
    return shown, left - len(shown)


def _opening(ring: Netring, expression: str | None) -> str:
    how = f"{ring.backend}, {ring.attach} XDP" if ring.attach else ring.backend
    what = f", filter {expression!r}" if expression else ""
    if ring.progress is not None:
        return f"netring-bpf: reading {ring.interface}{what}"
    return f"netring-bpf: capturing on {ring.interface} ({how}{what})"


def _summary(statistics: NetringStatistics) -> str:
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
    lines += [
        f"{capture.flows.started} flows started, {sum(capture.flows.ended.values())} ended",
    ]
    lines += [
        f"{sink.name}: {sink.accepted} flows accepted, {sink.acknowledged} acknowledged, "
        f"{sum(sink.dropped.values())} dropped, {sink.pending} pending, {stream.lagged} missed"
        for sink, stream in zip(statistics.sinks, statistics.streams, strict=True)
    ]
    lines += [f"books off: {law}" for law in statistics.equations() if not law.holds]
    return "\n".join(lines)
