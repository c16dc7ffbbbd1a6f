"""The options of a recording: frozen, and validated here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netring_bpf.errors import OptionError

__all__ = ["RecordOptions"]

_SMALLEST: Final = 4096  # bytes


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """The options of a ``Recorder``.

    ``rotate_size``: a file has at most so many bytes (but at least one batch of frames);
    ``rotate_time``: a file takes in frames for at most so many seconds. Either names the files
    ``NAME-00001.SUFFIX`` and so on, after the numbers that there are; ``max_files``: the recorder
    keeps only so many of its own, the latest.
    ``ring_time``: the recorder writes nothing until ``trigger()``, which writes the frames of the
    last so many seconds before the latest frame, as far as ``ring_size`` bytes hold them. It
    excludes rotation. All seconds are those of the monotonic clock.
    """

    rotate_size: int | None = None
    rotate_time: float | None = None
    max_files: int | None = None
    ring_time: float | None = None
    ring_size: int = 1 << 28

    def __post_init__(self) -> None:
        for option, least in (
            ("rotate_size", _SMALLEST), ("rotate_time", 0.001), ("max_files", 1),
            ("ring_time", 0.001), ("ring_size", _SMALLEST),
        ):  # fmt: skip
            value = getattr(self, option)
            if value is not None and not value >= least:  # NaN is not
                raise OptionError(f"{option}={value!r}: must be at least {least}", option=option)
        rotates = self.rotate_size is not None or self.rotate_time is not None
        if self.max_files is not None and not rotates:
            raise OptionError("max_files: needs rotate_size or rotate_time", option="max_files")
        if self.ring_time is not None and rotates:
            raise OptionError(
                "ring_time: excludes rotate_size and rotate_time: a trigger makes the files",
                option="ring_time",
            )

    @property
    def numbered(self) -> bool:
        """Whether there can be several files."""
        return any(v is not None for v in (self.rotate_size, self.rotate_time, self.ring_time))
