"""Frames read in one run, each of which makes flows of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from netring_bpf import CaptureStatistics, Flow, FlowEnded, FlowEvent, FlowOptions
from tests.support.replay import SECOND, START, Frame, replay, replay_file
from tests.support.savefiles import Interface, section

__all__ = ["alone", "alone_in_a_file"]

# A flow ends before the next frame, which comes a second later.
_ALONE = FlowOptions(
    idle_tcp=0.001, idle_udp=0.001, idle_icmp=0.001, idle_other=0.001, half_open=0.001,
    close_delay=0.0, port_timeouts=(), update_interval=None, fragment_timeout=0.001,
)  # fmt: skip


def alone(
    frames: Iterable[bytes | Frame], **options: object
) -> tuple[list[list[Flow]], CaptureStatistics]:
    """Return the flows of each frame, with the books."""
    chosen = dataclasses.replace(_ALONE, **options)  # type: ignore[arg-type]
    apart = [_at(n, frame) for n, frame in enumerate(frames)]
    events, books = replay(apart, chosen)
    assert books.balanced
    return _by_frame(events, len(apart)), books


def alone_in_a_file(
    folder: Path, frames: Sequence[tuple[int, bytes | Frame]], **options: object
) -> tuple[list[list[Flow]], CaptureStatistics]:
    """Return the flows of each frame of a file, given with its LINKTYPE_, with the books."""
    chosen = dataclasses.replace(_ALONE, **options)  # type: ignore[arg-type]
    linktypes = sorted({linktype for linktype, _ in frames})
    path = folder / "file"
    path.write_bytes(
        section(
            [Interface(linktype, 9) for linktype in linktypes],
            [(linktypes.index(link), _at(n, frame)) for n, (link, frame) in enumerate(frames)],
        )
    )
    story = replay_file(path, chosen)
    assert story.error is None
    assert story.books.balanced
    return _by_frame(story.events, len(frames)), story.books


def _at(n: int, frame: bytes | Frame) -> Frame:
    frame = frame if isinstance(frame, Frame) else Frame(frame)
    return dataclasses.replace(frame, ts=START + n * SECOND)


def _by_frame(events: Iterable[FlowEvent], count: int) -> list[list[Flow]]:
    found: list[list[Flow]] = [[] for _ in range(count)]
    for event in events:
        if isinstance(event, FlowEnded):
            found[(event.flow.start - START) // SECOND].append(event.flow)
    return found
