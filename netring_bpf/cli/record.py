"""``netring-bpf record``: one capture into pcapng files, until a signal."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from netring_bpf.capture.backend import Backend
from netring_bpf.capture.capture import Capture
from netring_bpf.recording.recorder import Recorder, RecordOptions, RecordStatistics

__all__ = ["RecordRequest", "run_record"]


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """The flags of the command."""

    interface: str
    file: Path
    expression: str | None
    backend: Backend
    steal: bool
    options: RecordOptions
    duration: float | None
    count: int | None


def run_record(request: RecordRequest) -> None:
    """Record until SIGINT or SIGTERM, the duration or the count. Raises ``NetringError``.

    SIGUSR1 writes the ring to a file, where there is one.
    """
    capture = Capture(
        request.interface,
        filter=request.expression,
        backend=request.backend,
        steal=request.steal,
    )
    recorder = Recorder(capture, request.file, request.options)
    with recorder:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: recorder.stop())
        if request.options.ring_time is not None:
            signal.signal(signal.SIGUSR1, lambda *_: recorder.trigger(_say_written))
        how = f"{capture.backend}, {capture.attach} XDP" if capture.attach else capture.backend
        _say(f"recording {request.interface} ({how})")
        recorder.run(duration=request.duration, count=request.count)
    _say(_summary(recorder.statistics()))


def _say(text: str) -> None:
    print(f"netring-bpf: {text}", file=sys.stderr, flush=True)


def _say_written(path: Path) -> None:
    _say(f"wrote {path}")


def _summary(books: RecordStatistics) -> str:
    lines = [
        f"{books.written} frames written to {books.files} files, {books.bytes} bytes",
        f"{books.capture.seen} frames seen, {books.capture.lost} dropped by the kernel",
    ]
    if books.overwritten or books.held:
        lines.append(f"{books.overwritten + books.held} frames left the ring unwritten")
    lines += [f"books off: {law}" for law in books.equations() if not law.holds]
    return "\nnetring-bpf: ".join(lines)
