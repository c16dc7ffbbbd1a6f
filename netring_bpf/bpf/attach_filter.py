"""Attaches classic BPF or eBPF to a socket (SO_ATTACH_FILTER, SO_ATTACH_BPF)."""

from __future__ import annotations

from collections.abc import Sequence

from netring_bpf._core import ffi, lib
from netring_bpf.errors import SyscallError

__all__ = ["attach_filter", "attach_program"]


def attach_filter(descriptor: int, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Let the socket receive only packets that the program accepts. Raises ``SyscallError``."""
    code = ffi.new("nr_bpf_insn[]", [tuple(i) for i in instructions])
    error = -lib.nr_attach_filter(descriptor, code, len(instructions))
    if error:
        raise SyscallError("attach a filter to a socket", error)


def attach_program(descriptor: int, program: int) -> None:
    """As ``attach_filter``, with the descriptor of a program. Raises ``SyscallError``."""
    if error := -lib.nr_attach_program(descriptor, program):
        raise SyscallError("attach a program to a socket", error)
