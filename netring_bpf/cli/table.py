"""Formats events as the lines of a table, for people."""

from __future__ import annotations

import io
import time

from rich.console import Console

from netring_bpf.errors import printable
from netring_bpf.events.event import (
    App,
    AppEvent,
    BackendChanged,
    CaptureError,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Endpoint,
    Event,
    FlowEnded,
    FlowEstablished,
    FlowStarted,
    Lagged,
    LinkDown,
    LinkUp,
    NeighbourSeen,
    SinkFailed,
    StatsUpdated,
)

__all__ = ["HEADER", "Table", "row"]

_LINE = "{:<15} {:<12} {:<6} {:<29} {:<29} {:>9} {:>12} {:>9} {:>12} {:>9}  {}"
HEADER = _LINE.format(
    "time", "event", "proto", "originator", "responder", "orig pkts", "orig bytes", "resp pkts",
    "resp bytes", "seconds", "how",
)  # fmt: skip


class Table:
    """Makes lines as bytes, in the colours of the terminal; NO_COLOR turns the colours off."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        # An IPv6 address may look like the name of an emoji (`:a:`).
        self._console = Console(
            file=self._text, force_terminal=True, highlight=False, markup=False, emoji=False
        )

    def header(self) -> bytes:
        """Return the names of the columns."""
        return self._rendered(HEADER, "bold")

    def line(self, event: Event) -> bytes:
        """Return the line of the event."""
        return self._rendered(*row(event))

    def _rendered(self, text: str, style: str) -> bytes:
        self._console.print(text, style=style, soft_wrap=True)
        rendered = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return rendered.encode(errors="backslashreplace")


def row(event: Event) -> tuple[str, str]:
    """Return the line of the event and its style, by rich's name."""
    match event:
        case Lagged(missed=missed):
            return f"{_clock(event.ts)} {missed} events were missed: the terminal is slow", "red"
        case LinkDown(interface=interface) | LinkUp(interface=interface):
            state = "up" if isinstance(event, LinkUp) else "down"
            return f"{_clock(event.ts)} {printable(interface)} is {state}", "yellow"
        case BackendChanged(interface=interface, backend=backend, reason=reason):
            told = f"{printable(interface)} is captured by {backend}: {printable(reason)}"
            return f"{_clock(event.ts)} {told}", "yellow"
        case CaptureError(error=error) | SinkFailed(error=error):
            return f"{_clock(event.ts)} {error}", "red"
        case NeighbourSeen(address=address, mac=mac, how=how, prefix_length=bits):
            told = f"{address} is at {mac}" if bits is None else f"{address}/{bits} is on the link"
            return f"{_clock(event.ts)} {told} ({how.value})", "cyan"
        case DeviceSeen(device=device) | DeviceChanged(device=device) | DeviceGone(device=device):
            state = {DeviceSeen: "new", DeviceChanged: "changed", DeviceGone: "gone"}[type(event)]
            known = ", ".join(filter(None, (device.name, device.vendor)))
            return f"{_clock(event.ts)} device {device.mac} {state} {printable(known)}", "cyan"
        case StatsUpdated(traffic=traffic):
            mbits = event.per_second(traffic.total.bytes * 8) / 1e6
            packets = event.per_second(traffic.total.packets)
            return f"{_clock(event.ts)} {mbits:.3f} Mbit/s, {packets:.0f} packets/s", "cyan"
    flow, key = event.flow, event.flow.key
    kind, style = _kind(event)
    ways = [flow.history] if flow.history else []
    if isinstance(event, FlowEnded):
        ways.append(event.reason.value)
    ways += _inside(event.app if isinstance(event, AppEvent) else flow.app, flow.resp.name)
    if flow.one_sided:
        ways.append("one-sided")
    if key.vlans:
        ways.append("vlan " + ".".join(map(str, key.vlans)))
    line = _LINE.format(
        _clock(event.ts),
        kind,
        key.proto_name,
        _endpoint(key.orig, key.proto),
        _endpoint(key.resp, key.proto),
        flow.orig.packets,
        flow.orig.bytes,
        flow.resp.packets,
        flow.resp.bytes,
        f"{flow.duration / 1e9:.3f}",
        " ".join(ways),
    )
    return line, style


def _inside(app: App | None, resp_name: str | None) -> list[str]:
    """Return the protocol inside and the name: ``["tls", "www.example.org"]``."""
    words = [] if app is None or not app.protocol else [app.protocol]
    name = resp_name if app is None or app.name is None else app.name
    if name:
        words.append(printable(name))
    return words


def _kind(event: Event) -> tuple[str, str]:
    if isinstance(event, FlowStarted):
        return "started", "green"
    if isinstance(event, FlowEstablished):
        return "established", "green"
    if isinstance(event, AppEvent):
        return "app", "cyan"
    return ("ended", "dim") if isinstance(event, FlowEnded) else ("updated", "none")


def _endpoint(endpoint: Endpoint, proto: int) -> str:
    # The "port" of ICMP is a type or a code, which would mislead as a port.
    return str(endpoint.addr) if proto in {1, 58} else str(endpoint)


def _clock(ts: int) -> str:
    return (
        time.strftime("%H:%M:%S", time.localtime(ts // 1_000_000_000))
        + f".{ts // 1000 % 1_000_000:06d}"
    )
