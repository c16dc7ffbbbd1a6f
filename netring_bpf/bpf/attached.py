"""Tells which programs of others are on an interface, and which processes hold them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from netring_bpf._core import ffi, lib
from netring_bpf.errors import SyscallError
from netring_bpf.privileges import explain_refusal

__all__ = ["AttachedProgram", "program_id", "tcx_programs"]

_MOST = 64  # programs at one place, as the kernel allows (BPF_MPROG_MAX)


@dataclass(frozen=True, slots=True)
class AttachedProgram:
    """A program in the kernel; ``name`` and ``pids`` are empty if they cannot be known.

    ``pids``: the processes that hold the program or its link, among those that /proc shows.
    """

    id: int
    name: str
    pids: tuple[int, ...]

    @classmethod
    def find(cls, id: int) -> Self:
        """Look the program up. Takes long, as it reads the descriptors of every process."""
        return cls(id, _name_of(id), tuple(sorted(_holders(id))))

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        if not self.pids:
            # Netlink attaches a program that no process holds.
            return f"program id {self.id}{name}, which no process shown by /proc holds"
        ours = " (this process)" if self.pids == (os.getpid(),) else ""
        which = "process" if len(self.pids) == 1 else "processes"
        return f"program id {self.id}{name} of {which} {', '.join(map(str, self.pids))}{ours}"


def program_id(descriptor: int) -> int:
    """Return the id of an open program. Raises ``SyscallError``."""
    return _information(descriptor)[0]


def tcx_programs(ifindex: int) -> tuple[int, ...]:
    """Return the ids of the tcx programs that see what an interface receives.

    Raises ``PermissionDeniedError`` and ``SyscallError``.
    """
    ids = ffi.new("uint32_t[]", _MOST)
    count = lib.nr_tcx_programs(ifindex, ids, _MOST)
    if count == -errno.EINVAL:  # Linux before 6.6 has no tcx
        return ()
    if count < 0:
        what = "list the tcx programs of an interface"
        raise explain_refusal(what, -count, "CAP_NET_ADMIN") or SyscallError(what, -count)
    return tuple(ids[0:count])


def _information(descriptor: int) -> tuple[int, str]:
    number = ffi.new("uint32_t *")
    name = ffi.new("char[]", lib.NR_PROGRAM_NAME)
    error = -lib.nr_program_info(descriptor, number, name)
    if error > 0:
        raise SyscallError("ask for a program's name", error)
    return number[0], ffi.string(name, lib.NR_PROGRAM_NAME).decode("ascii", "replace")


def _name_of(id: int) -> str:
    """Return the program's name; "" if it is gone, or the process may not ask."""
    descriptor = lib.nr_program_by_id(id)
    if descriptor < 0:
        return ""
    try:
        return _information(descriptor)[1]
    except SyscallError:
        return ""
    finally:
        os.close(descriptor)


def _holders(id: int) -> Iterator[int]:
    """Yield the processes that have a descriptor of the program, or of a link to it."""
    mark = f"prog_id:\t{id}\n"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # A process may end meanwhile, or belong to another user.
        with contextlib.suppress(OSError):
            if any(mark in text for text in _descriptions(process)):
                yield int(process.name)


def _descriptions(process: Path) -> Iterator[str]:
    """Yield what the kernel tells of each BPF descriptor of a process."""
    for entry in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if "bpf" in os.readlink(entry):
                yield (process / "fdinfo" / entry.name).read_text(encoding="ascii")
