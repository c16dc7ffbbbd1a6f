"""Prints the devices of a ``Netring``: as a table, as JSON, or as events."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

from netring_bpf.broadcast.broadcast import BatchSubscriber
from netring_bpf.cli import units
from netring_bpf.cli.output import Output
from netring_bpf.cli.printer import opening, stop_on_signals
from netring_bpf.cli.reports import reported
from netring_bpf.cli.say import tell
from netring_bpf.cli.summary import summary
from netring_bpf.errors import printable
from netring_bpf.events.event import (
    CaptureError,
    Device,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
)
from netring_bpf.netring import Netring

__all__ = ["HEADER", "print_devices", "row"]

_LINE = "{:<17}  {:<15}  {:<24}  {:<24}  {:>9}  {:>9}  {:>6}  {:<8}  {}"
HEADER = _LINE.format(
    "mac", "address", "name", "vendor", "sent", "received", "flows", "last", "and"
).rstrip()
_INTERVAL = 1.0  # seconds between two drawings of the table


async def print_devices(
    ring: Netring,
    shown: str,
    *,
    live: bool,
    expression: str | None,
    duration: float | None,
    stats_interval: float | None = None,
    with_names: bool = True,
) -> bool:
    """Capture and print until a signal, the duration, or the end of the file.

    ``shown``: ``"table"``, ``"json"`` or ``"events"``. ``live``: draw the table as it changes.
    ``stats_interval``: the seconds between two prints of the counters. ``with_names``: the table
    has names and vendors.
    Returns whether the capture ended without an error. Raises ``NetringError``.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    kinds = (DeviceSeen, DeviceChanged, DeviceGone)
    with Output(sys.stdout.fileno()) as output, reported(ring, stats_interval):
        async with ring:
            events = ring.subscribe_batches(kinds=kinds, errors="event", name="stdout")
            tell(opening(ring, expression))
            reading = asyncio.create_task(
                _read(events, output if shown == "events" else None, stop)
            )
            with _drawn(ring, with_names) if live else contextlib.nullcontext():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), duration)
                await ring.close()
                await reading
        if shown != "events":
            with contextlib.suppress(BrokenPipeError):
                await output.write("".join(_lines(ring, shown, with_names)).encode())
    tell(summary(ring.statistics()), prefix="")
    return ring.error is None


async def _read(events: BatchSubscriber, output: Output | None, stop: asyncio.Event) -> None:
    """Read to the end, as a file waits for its subscribers, and print if there is an output."""
    try:
        async for batch in events:
            if output is not None:
                lines = "".join(f"{event.to_json()}\n" for event in batch)
                await output.write(lines.encode())
            if any(isinstance(event, CaptureError) for event in batch):
                stop.set()
    except BrokenPipeError:
        pass  # the reader of the pipe has left (`| head`), which is no error
    finally:
        events.close()
        stop.set()


def _lines(ring: Netring, shown: str, with_names: bool) -> Iterator[str]:
    devices = _sorted(ring)
    if shown == "json":
        return (f"{device.to_json()}\n" for device in devices)
    return (f"{line}\n" for line in (HEADER, *(row(one, with_names) for one in devices)))


def _sorted(ring: Netring) -> list[Device]:
    """Return the devices, the busiest first."""
    return sorted(ring.devices, key=lambda device: -(device.sent + device.received))


def row(device: Device, with_names: bool = True) -> str:
    """Return the line of a device; what came from the network is escaped."""
    addresses = [known.address for known in device.addresses]
    first = next((a for a in addresses if a.version == 4), addresses[0] if addresses else "")
    notes = ["gateway"] if device.is_gateway else []
    notes += [f"+{len(addresses) - 1}"] if len(addresses) > 1 else []
    return _LINE.format(
        device.mac,
        str(first),
        _short((with_names and device.name) or "", 24),
        _vendor(device) if with_names else "",
        units.size(device.sent),
        units.size(device.received),
        device.flows,
        time.strftime("%H:%M:%S", time.localtime(device.last // 1_000_000_000)),
        " ".join(notes),
    ).rstrip()


def _vendor(device: Device) -> str:
    return "random" if device.random else _short(device.vendor or "", 24)


def _short(text: str, width: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


@contextlib.contextmanager
def _drawn(ring: Netring, with_names: bool) -> Iterator[None]:
    """Draw the table on the terminal from time to time. Needs a running event loop."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(emoji=False, highlight=False)

    def drawing() -> Text:
        rows = _sorted(ring)[: max(1, console.height - 3)]
        lines: Iterable[str] = (HEADER, *(row(device, with_names) for device in rows))
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    async def follow() -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            view.update(drawing(), refresh=True)

    with Live(drawing(), console=console, auto_refresh=False, transient=True) as view:
        task = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            task.cancel()
