"""Reads the records of a capture file as they are, without the flow table."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from netring_bpf.capture.replay import Replay
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.reader import FRAMES, Copied, FileInterface
from netring_bpf.statistics import CaptureStatistics

if TYPE_CHECKING:
    from netring_bpf.filter.filter_set import FilterLike

__all__ = ["FileFrame", "FileReader"]

_POLL = 0.1  # seconds until a reader that waits looks for the end
_MANY = 1 << 20  # frames
_HEAD = struct.Struct("=4I")  # of a frame in the form FRAMES
_NO_FLOWS = FlowOptions(max_flows=1, event_slots=1024)  # the table has nothing to do


class FileFrame(NamedTuple):
    """A frame: its link type (tcpdump.org/linktypes.html), its bytes, its length on the wire."""

    linktype: int
    data: bytes
    wire_length: int


class FileReader:
    """Reads one capture file, a pipe too, as a replay does.

    ``filter``: of the frames that are given. A context manager, for one thread; any thread may call
    ``stop()``. Raises ``CaptureFileError``, ``FilterError``.
    """

    def __init__(self, path: Path, *, filter: FilterLike = None) -> None:
        self._replay = Replay(path, filter=filter, flow=_NO_FLOWS)
        self.ended: bool = False  #: there is no more to read

    def frames(self) -> Iterator[FileFrame]:
        """Yield all frames. Raises ``CaptureFileError`` where the file is damaged."""
        while not self.ended:
            data, at = self.copy(FRAMES, _MANY).data, 0
            while at < len(data):
                linktype, size, wire_length, _ = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                yield FileFrame(linktype, data[at : at + size], max(wire_length, size))
                at += size + -size % 4
        self.check()

    def copy(self, form: int, limit: int) -> Copied:
        """Return records, as ``Reader.copy()``, or none after a moment without any."""
        copied = self._replay.copy(form, limit, _POLL)
        self.ended = self.ended or copied.ended
        return copied

    def interface(self, number: int) -> FileInterface | None:
        """Return an interface that the file has described by now."""
        return self._replay.file_interface(number)

    def check(self) -> None:
        """At the end: raise ``CaptureFileError`` if the file is damaged there."""
        problem = self._replay.problem()
        if problem is not None:
            raise problem

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after the end of the block."""
        return self._replay.statistics()

    def stop(self) -> None:
        """End the reading; what a pipe has brought by now is read first. From any thread."""
        if not self._replay.end():
            self.ended = True

    def __enter__(self) -> Self:
        self._replay.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._replay.close()
