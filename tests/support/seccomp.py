"""Denies system calls to this process, as the seccomp filter of a container or service does."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

__all__ = ["BPF", "SOCKET", "deny"]

_MACHINES: Final = {"x86_64": (321, 41, 317), "aarch64": (280, 198, 277)}
BPF, SOCKET, _SECCOMP = _MACHINES.get(platform.machine(), (-1, -1, -1))
_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _FOR_ALL_THREADS = 38, 1, 1
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16  # of struct seccomp_data


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def deny(call: int, error: int = errno.EPERM, *, first_argument: int | None = None) -> None:
    """Make the call fail with ``error`` from now on: always, or with this first argument."""
    wanted = [(_NUMBER_AT, call)]
    if first_argument is not None:
        wanted.append((_FIRST_ARGUMENT_AT, first_argument))
    code = b""
    for place, (at, value) in enumerate(wanted):
        to_allow = 2 * (len(wanted) - place) - 1
        code += _instruction(_LOAD, 0, 0, at) + _instruction(_JUMP_IF_EQUAL, 0, to_allow, value)
    code += _instruction(_RETURN, 0, 0, _ERRNO | error) + _instruction(_RETURN, 0, 0, _ALLOW)
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        _SECCOMP, _SET_MODE_FILTER, _FOR_ALL_THREADS, ctypes.byref(program)
    ):
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
