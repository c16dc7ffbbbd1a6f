"""``netring-bpf flows``: one Netring, one subscriber that prints, and a summary."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from netring_bpf.backend import Backend
from netring_bpf.broadcast import FlowSubscriber
from netring_bpf.cli.table import HEADER, row
from netring_bpf.netring import Netring, NetringStatistics
from netring_bpf.records import (
    CaptureError,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    FlowUpdated,
)
from netring_bpf.sinks.base import Sink
from netring_bpf.sinks.encode import encode_event

__all__ = ["FlowsRequest", "print_flows"]

_FLOW_EVENTS = (FlowStarted, FlowEstablished, FlowUpdated, FlowEnded)


@dataclass(frozen=True, slots=True)
class FlowsRequest:
    """The flags of the command."""

    interface: str
    expression: str | None
    json: bool
    backend: Backend
    steal: bool
    mqtt: str | None
    mqtt_credentials: Path | None
    duration: float | None
    count: int | None


async def print_flows(request: FlowsRequest) -> None:
    """Capture and print until a signal, the duration or the count; raises ``NetringError``."""
    ring = Netring(
        request.interface,
        filter=request.expression,
        backend=request.backend,
        steal=request.steal,
        sinks=_sinks(request),
    )
    messages = Console(stderr=True, highlight=False)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with ring, ring.subscribe(name="stdout") as events:
        messages.print(_opening(ring, request.expression), markup=False)
        printer = loop.create_task(_print(events, request, stop))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), request.duration)
        await ring.close()
        await printer
    messages.print(_summary(ring.statistics()), markup=False)
    if ring.error is not None:
        raise ring.error


def _sinks(request: FlowsRequest) -> tuple[Sink, ...]:
    if request.mqtt is None:
        return ()
    from netring_bpf.sinks.mqtt import MqttOptions, MqttSink

    return (MqttSink(request.mqtt, MqttOptions(credentials_file=request.mqtt_credentials)),)


async def _print(events: FlowSubscriber, request: FlowsRequest, stop: asyncio.Event) -> None:
    write = _json_writer() if request.json else _table_writer()
    left = request.count
    try:
        async for event in events:
            if left == 0:
                continue  # the rest is read, so that the books close, and not shown
            write(event)
            if left is not None and isinstance(event, _FLOW_EVENTS):
                left -= 1
            if left == 0 or isinstance(event, CaptureError):
                stop.set()
    except BrokenPipeError:
        # The reader of the pipe has left (`| head`): no error, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        stop.set()


def _json_writer() -> Callable[[Event], None]:
    stream = sys.stdout.buffer

    def write(event: Event) -> None:
        stream.write(encode_event(event) + b"\n")
        stream.flush()

    return write


def _table_writer() -> Callable[[Event], None]:
    console = Console(highlight=False, soft_wrap=True)
    console.print(HEADER, style="bold", markup=False)

    def write(event: Event) -> None:
        text, style = row(event)
        console.print(text, style=style, markup=False)

    return write


def _opening(ring: Netring, expression: str | None) -> str:
    how = f"{ring.backend}, {ring.attach} XDP" if ring.attach else ring.backend
    what = f", filter {expression!r}" if expression else ""
    return f"netring-bpf: capturing on {ring.interface} ({how}{what})"


def _summary(statistics: NetringStatistics) -> str:
    capture = statistics.capture
    lines = [
        f"{capture.received} frames received, {capture.keyed} with a flow",
        f"{capture.seen} frames seen, {capture.passed} passed to the host",
        f"{capture.lost} frames dropped by the kernel, {capture.events_lost} events lost",
        f"{capture.flows.started} flows started, {sum(capture.flows.ended.values())} ended",
    ]
    lines += [
        f"{sink.name}: {sink.accepted} flows accepted, {sink.acknowledged} acknowledged, "
        f"{sum(sink.dropped.values())} dropped, {sink.pending} pending, {stream.lagged} missed"
        for sink, stream in zip(statistics.sinks, statistics.streams, strict=True)
    ]
    lines += [f"books off: {law}" for law in statistics.equations() if not law.holds]
    return "\n".join(lines)
