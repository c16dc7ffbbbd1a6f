"""An XDP program run on bytes (BPF_PROG_TEST_RUN): no interface, the kernel's own verdict."""

from __future__ import annotations

import ctypes
import os
import platform

_SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_BPF_PROG_TEST_RUN = 10
_libc = ctypes.CDLL(None, use_errno=True)


class _TestRun(ctypes.Structure):
    """The part of union bpf_attr that the command reads (linux/bpf.h)."""

    _fields_ = (
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("rest", ctypes.c_uint8 * 40),
    )


def run_xdp(program_fd: int, frame: bytes) -> int:
    """Return the program's XDP_* action on ``frame``, of at least 14 bytes."""
    data = ctypes.create_string_buffer(frame, len(frame))
    attributes = _TestRun(
        prog_fd=program_fd,
        data_size_in=len(frame),
        data_in=ctypes.addressof(data),
        repeat=1,
    )
    size = ctypes.sizeof(attributes)
    if _libc.syscall(_SYS_BPF, _BPF_PROG_TEST_RUN, ctypes.byref(attributes), size) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"BPF_PROG_TEST_RUN: {os.strerror(error)}")
    return int(attributes.retval)
