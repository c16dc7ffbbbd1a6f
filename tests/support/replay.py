"""Frames from memory through the real C core: dissection, flow table and hand-off, no root."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from netring_bpf import CaptureStatistics, FlowEvent, FlowOptions
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
    events: list[FlowEvent] = []
    with Reader(options or FlowOptions(update_interval=None)) as reader:
        reader.add_replay(records)
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.append(reader.run()))
        thread.start()
        while thread.is_alive():  # a replay waits for its consumer
            events += reader.take(4096)
            thread.join(0.0005)
        assert results == [0]
        left = 1
        while left or (batch := reader.take(4096)):
            if not left:
                events += batch
                continue
            left = reader.flush()
            events += reader.take(4096)
        return events, reader.statistics("replay", None, (), {})
