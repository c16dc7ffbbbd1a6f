"""Live frames: the kernel runs an XDP program on one frame over and over, and redirects it.

This is BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES, of Linux 5.18. The module needs nothing
but Python, because the distribution's Python imports it too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

__all__ = ["LiveRun"]

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_RUN, _LIVE_FRAMES = 10, 2


class _Attr(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32), ("retval", ctypes.c_uint32),
        ("size_in", ctypes.c_uint32), ("size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64), ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32), ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32), ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64), ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32), ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


class LiveRun:
    """A loaded program, which the caller still owns, and its frame."""

    def __init__(self, program_fd: int, frame: bytes) -> None:
        self._program_fd = program_fd
        self._frame = ctypes.create_string_buffer(frame, len(frame))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def run(self, repeat: int, batch: int = 0) -> None:
        """Run it so often, or until a signal; ``batch`` frames at once, 0 for as many as fit."""
        attr = _Attr(
            prog_fd=self._program_fd,
            size_in=len(self._frame),
            data_in=ctypes.addressof(self._frame),
            repeat=repeat,
            flags=_LIVE_FRAMES,
            batch_size=batch,
        )
        number = _SYSCALL[platform.machine()]
        if self._libc.syscall(number, _RUN, ctypes.byref(attr), ctypes.sizeof(attr)):
            error = ctypes.get_errno()
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))
