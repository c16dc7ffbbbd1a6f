"""Frames from memory through the real C core: dissection, flow table and hand-off, no root."""

from __future__ import annotations

import queue
import select
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from netring_bpf import CaptureStatistics, FlowEnded, FlowEvent, FlowOptions, NetringError
from netring_bpf.capture.replay import Replay
from netring_bpf.events.batch import EventBatch
from netring_bpf.ring.reader import Reader

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@dataclass(frozen=True)
class Frame:
    """A frame as a source lends it; ``len`` None: nothing was cut; ``tag``: (tpid, tci)."""

    data: bytes
    ts: int = START
    len: int | None = None
    tag: tuple[int, int] | None = None

    def record(self) -> bytes:
        tpid, tci = self.tag or (0, 0)
        length = len(self.data) if self.len is None else self.len
        head = struct.pack("=QIIHHI", self.ts, len(self.data), length, tci, tpid, 0)
        return head + self.data + bytes(-len(self.data) % 8)


def replay(
    frames: Iterable[Frame | bytes], options: FlowOptions | None = None
) -> tuple[list[FlowEvent], CaptureStatistics]:
    """Read all frames, end the live flows, and return every event with the books."""
    records = b"".join(f.record() if isinstance(f, Frame) else Frame(f).record() for f in frames)
    with Reader(options or FlowOptions(update_interval=None)) as reader:
        reader.add_replay(records)
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(reader.run()))
        thread.start()
        events = _taken_while(thread, reader.take)
        assert results == [0]
        for batch in reader.finish(4096):
            events += batch
        return events, reader.statistics("replay", None, (), {})


def one_batch(frames: Iterable[Frame | bytes], options: FlowOptions | None = None) -> EventBatch:
    """Read all frames, end the live flows, and return every event as one batch, not decoded."""
    records = b"".join(f.record() if isinstance(f, Frame) else Frame(f).record() for f in frames)
    with Reader(options or FlowOptions(update_interval=None)) as reader:
        reader.add_replay(records)
        assert reader.run() == 0
        assert reader.flush() == 0
        return reader.take(4096)


def _taken_while(thread: threading.Thread, take: Callable[[int], EventBatch]) -> list[FlowEvent]:
    events: list[FlowEvent] = []
    while thread.is_alive():  # a replay waits for its consumer
        events += take(4096)
        thread.join(0.0005)
    return events


@dataclass(frozen=True)
class FileStory:
    """The outcome of a capture file: every batch, the books, and the file's error."""

    batches: Sequence[Sequence[FlowEvent]]
    books: CaptureStatistics
    error: NetringError | None

    @property
    def events(self) -> list[FlowEvent]:
        """Every event."""
        return [event for batch in self.batches for event in batch]

    @property
    def ended(self) -> list[FlowEnded]:
        """The flows, in the order in which they ended."""
        return [event for event in self.events if isinstance(event, FlowEnded)]


def replay_file(
    path: str | Path | Sequence[str | Path],
    options: FlowOptions | None = None,
    *,
    filter: str | None = None,
) -> FileStory:
    """Read capture files to their end, or to where they are broken."""
    source = Replay(path, filter=filter, flow=options or FlowOptions(update_interval=None))
    with source:
        done: queue.Queue[NetringError | None] = queue.Queue()
        source.start(done.put)
        batches: list[EventBatch] = []
        while done.empty():
            select.select([source.fileno()], [], [], 0.001)
            batches.append(source.take(4096))
        error = done.get()
        batches += source.finish(4096)
        books = source.statistics()
    assert [str(law) for law in books.equations() if not law.holds] == []
    return FileStory(batches, books, error)
