"""Cuts a capture file to the frames that match a filter.

The C core copies the records. From pcapng to pcapng, and from pcap to pcap, they stay as they are,
byte by byte, with all that the file has beside them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from netring_bpf.capture.file_reader import FileReader
from netring_bpf.errors import CaptureFileError
from netring_bpf.recording.capture_file import CaptureFile, refuse_packed
from netring_bpf.recording.pcap_records import PcapRecords
from netring_bpf.recording.pcapng_blocks import (
    ETHERNET,
    NANOSECONDS,
    InterfaceCounts,
    PcapngBlocks,
)
from netring_bpf.ring.reader import AS_IS, PCAP, PCAPNG, Blocks, Copied, FileInterface

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter

__all__ = ["CutStatistics", "FileCut"]

_MOST = 1 << 30  # frames
_SNAPLEN = 262_144  # no frame that others read is longer
_MICROSECONDS = 6


@dataclass(frozen=True, slots=True)
class CutStatistics:
    """``read``: frames of the file so far; ``written``: those in the new one, of ``bytes``."""

    read: int
    written: int
    bytes: int


class FileCut:
    """Copies the frames of ``source`` that match to ``target``: ``run()``, inside of ``with``.

    ``source``: a capture file as ``Netring.replay`` takes it; ``target``: as a ``Recorder`` takes
    it. A target that ends in ``.pcap`` is pcap, any other pcapng. A damaged source gives what is
    before the damage, and then the error. Any thread may call ``stop()`` and ``statistics()``.
    Raises ``CaptureFileError``, whose cause is a ``BrokenPipeError`` if the reader of a pipe has
    left, ``FilterError``, ``OptionError``.
    """

    def __init__(self, source: Path, target: Path, filter: str | Filter | None = None) -> None:
        refuse_packed(target)
        self._reader = FileReader(source, filter=filter)
        self._target = target
        given = "" if filter is None else filter
        self._expression = given if isinstance(given, str) else given.expression
        self._copied = _Copied()
        self._stack = contextlib.ExitStack()
        self._file: CaptureFile | None = None
        self._has_head = False
        self._stopped = False
        self._deadline: float | None = None

    def run(self, *, duration: float | None = None, count: int | None = None) -> None:
        """Copy to the end, until ``stop()``, for ``duration`` seconds, or ``count`` frames."""
        self._deadline = None if duration is None else time.monotonic() + duration
        form = self._begin()
        left = _MOST if count is None else count
        while form is not None and not self._reader.ended and left > 0:
            copied = self._reader.copy(form, left)
            self._write(copied, form)
            left -= copied.frames if count is not None else 0
            self._stop_in_time()
        self._end(form)
        if left > 0:
            self._reader.check()

    def stop(self) -> None:
        """Make ``run()`` return soon, with what a pipe has brought by now. From any thread."""
        self._stopped = True
        self._reader.stop()

    def statistics(self) -> CutStatistics:
        """Return the current books. From any thread."""
        read = self._reader.statistics().file_frames
        file = self._file
        return CutStatistics(read, file.count if file else 0, file.size if file else 0)

    # -- the beginning --

    def _begin(self) -> int | None:
        """Read as far as the format, and return the form of the copies; None: there are none."""
        while True:
            copied = self._reader.copy(AS_IS, 0)
            if copied.is_pcap or copied.is_pcapng:
                break
            if self._reader.ended:
                return None
            self._stop_in_time()
        to_pcap = self._target.suffix.lower() == ".pcap"
        if to_pcap and copied.is_pcapng:
            return PCAP  # the link type of the head is that of the first frame
        if copied.is_pcap and not to_pcap:
            self._put(self._pcapng_head())
            return PCAPNG
        self._write(copied, AS_IS)
        return AS_IS

    def _stop_in_time(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stop()

    def _pcapng_head(self) -> bytes:
        interface = self._interface()
        return PcapngBlocks(
            "",
            snaplen=interface.snaplen,
            expression=self._expression,
            application=f"netring_bpf {importlib.metadata.version('netring-bpf')}",
            linktype=interface.linktype,
            resolution=NANOSECONDS if interface.has_ns else _MICROSECONDS,
        ).head()

    def _interface(self) -> FileInterface:
        return self._reader.interface(0) or FileInterface(ETHERNET, 0, has_ns=False)

    # -- writing --

    def _write(self, copied: Copied, form: int) -> None:
        if form == PCAP and copied.linktype is not None:
            self._put_pcap_head(copied.linktype)
        if copied.data:
            self._put(copied.data, copied.frames)
        self._copied.open, self._copied.open_frame = copied.open, copied.open_frame
        if copied.other_linktype is not None:
            raise CaptureFileError(
                f"write capture file {self._target}: a pcap file has one link type, but frames of "
                f"the link types {copied.linktype} and {copied.other_linktype} match; choose a "
                "name that ends in .pcapng",
                path=self._target,
            )

    def _put_pcap_head(self, linktype: int) -> None:
        if not self._has_head:
            self._has_head = True
            self._put(PcapRecords(snaplen=_SNAPLEN, linktype=linktype).head())

    def _put(self, data: bytes, frames: int = 0) -> None:
        assert self._file is not None
        self._file.add(Blocks(data, frames, 0, 0), 0.0)

    def _end(self, form: int | None) -> None:
        assert self._file is not None
        if form == PCAP:
            self._put_pcap_head(self._interface().linktype)
        self._file.take_back(self._copied.open, int(self._copied.open_frame))
        self._file.close()
        if form is None:
            self._file.discard()

    # -- life --

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self._reader)
            self._file = CaptureFile(
                self._target, self._copied, must_be_new=False, is_over=lambda: self._stopped
            )
            undo.callback(self._file.close)
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class _Copied:
    """The records as they come. Of a chunk that is written in part, nothing is kept.

    ``open``: bytes of a record that was begun before; ``open_frame``: it is a frame.
    """

    def __init__(self) -> None:
        self.open = 0
        self.open_frame = False

    def head(self) -> bytes:
        return b""

    def body(self, blocks: bytes) -> bytes:
        return blocks

    def whole(self, body: bytes, size: int) -> tuple[int, int]:
        return -self.open, -int(self.open_frame)

    def tail(self, counts: InterfaceCounts) -> bytes:
        return b""
