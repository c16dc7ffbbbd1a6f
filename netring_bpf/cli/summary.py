"""Lines that a command prints about a capture: how it is read, and its counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from netring_bpf.errors import printable

if TYPE_CHECKING:
    from netring_bpf.netring_statistics import NetringStatistics
    from netring_bpf.statistics import CaptureStatistics

__all__ = ["capture_lines", "file_summary", "filter_shown", "loss_lines", "reading", "summary"]

_LONGEST: Final = 400  # characters of a filter

# A remedy for each loss; docs/tuning.md says more.
_REMEDIES: Final = {
    "rx_ring_full": "the reader came too late; --preset throughput or --ring-size N gives it more "
    "room, --cpus N a CPU of its own",
    "rx_dropped": "no chunk was free, or a frame was longer than one; --chunks N makes more of "
    "them, --chunk-size 4096 larger ones",
    "tp_drops": "no block was free; --preset throughput makes more of them, --threads N more "
    "readers",
    "events_lost": "nobody took the events in time; --event-slots N keeps more of them, "
    "--update-interval never makes fewer",
}


def summary(statistics: NetringStatistics, *, laws: bool = True) -> str:
    """Return the counters of a capture and its sinks.

    ``laws``: of the end, when the books must balance.
    """
    lines = capture_lines(statistics.capture)
    lines += [
        f"{printable(sink.name)}: {sink.accepted} flows accepted, "
        f"{sink.acknowledged} acknowledged, {sum(sink.dropped.values())} dropped, "
        f"{sink.pending} pending, {stream.lagged} missed"
        for sink, stream in zip(statistics.sinks, statistics.streams, strict=True)
        if sink.takes_flows
    ]
    lines += [f"books off: {law}" for law in statistics.equations() if laws and not law.holds]
    return "\n".join(lines)


def file_summary(capture: CaptureStatistics, *, laws: bool = True) -> str:
    """Return the counters of a file that is read without an event loop. ``laws``: as above."""
    off = [f"books off: {law}" for law in capture.equations() if laws and not law.holds]
    return "\n".join([*capture_lines(capture), *off])


def reading(name: str, expression: str | None) -> str:
    """Return the first message of a file."""
    return f"reading {printable(name)}{filter_shown(expression)}"


def filter_shown(expression: str | None) -> str:
    """Return as much of a filter as a message has room for: one from a file may be long."""
    if not expression:
        return ""
    short = expression if len(expression) <= _LONGEST else f"{expression[: _LONGEST - 1]}…"
    return f", filter {short!r}"


def capture_lines(capture: CaptureStatistics) -> list[str]:
    """Return the counters of a capture alone."""
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
            *loss_lines(capture),
        ]
    lines += _without_a_flow(capture)
    lines += [
        f"{capture.flows.started} flows started, {sum(capture.flows.ended.values())} ended",
    ]
    if evicted := capture.flows.ended["evicted"]:
        lines.append(
            f"{evicted} flows evicted, as the table has room for {capture.flows.capacity}: "
            "--max-flows N gives it more"
        )
    return lines


def loss_lines(capture: CaptureStatistics, *, with_flows: bool = True) -> Iterator[str]:
    """Yield all counters of losses by their names, and what to do about those that there are.

    ``with_flows``: those of the flow table and its events, too.
    """
    counters = {
        "rx_ring_full": capture.rx_ring_full,
        "rx_dropped": capture.rx_dropped,
        "fill_ring_empty": capture.fill_ring_empty,
        "tp_drops": capture.tp_drops,
    }
    if with_flows:
        counters["events_lost"] = capture.events_lost
        counters["evicted"] = capture.flows.ended["evicted"]
    yield "losses: " + ", ".join(f"{count} {name}" for name, count in counters.items())
    for name, remedy in _REMEDIES.items():
        if counters.get(name):
            yield f"{name}: " + (remedy if with_flows else remedy.partition(", --threads")[0])


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
