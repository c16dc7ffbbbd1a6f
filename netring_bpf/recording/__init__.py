"""Records frames into pcapng files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.recording.recorder import Recorder, RecordOptions, RecordStatistics

__all__ = [
    "RecordOptions",
    "RecordStatistics",
    "Recorder",
]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "RecordOptions": "netring_bpf.recording.recorder",
            "RecordStatistics": "netring_bpf.recording.recorder",
            "Recorder": "netring_bpf.recording.recorder",
        },
    )
