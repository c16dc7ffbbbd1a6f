"""Compiles the filters of a capture into an eBPF program and loads it into the kernel.

Needs CAP_BPF and CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from netring_bpf._core import ffi, lib
from netring_bpf.bpf.cbpf import Hook, to_c
from netring_bpf.bpf.compiler import Bytecode, Source, compile_c
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.set_maps import SetMaps, map_names
from netring_bpf.errors import (
    ClosedError,
    ProgramError,
    SyscallError,
    VerifierError,
)
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.privileges import (
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    effective,
    explain_refusal,
    missing,
)

__all__ = ["Hook", "Program", "check_capabilities"]

_HERE = Path(__file__).resolve().parent
_INSTRUCTION_SIZE = 8
_LOG_SIZE = 1 << 22
_NEEDED = ("CAP_NET_ADMIN", "CAP_BPF")
_COMPUTED_ADDRESSES = CAP_SYS_ADMIN | CAP_PERFMON
_LOAD = "load an XDP program"
_FILES = {
    Hook.XDP: ("xdp_redirect.c", "netring_redirect", ("xsks_map", "counters", "handing_back")),
    Hook.SOCKET: ("socket_filter.c", "netring_socket", ()),
}


class Program:
    """A loaded program; closed by ``close()`` or by ``with``.

    ``fd``: its descriptor in this process, CLOEXEC. ``cached``: whether the cache had it, so that
    nothing was compiled.
    """

    def __init__(self, fd: int, *, cached: bool) -> None:
        self.fd: int = fd
        self.cached = cached
        close_in_child(self)

    @classmethod
    def load(
        cls, filters: FilterSet, maps: Maps, *, hook: Hook = Hook.XDP, slots: Sequence[int] = ()
    ) -> Self:
        """Compile and load the program of ``filters``, on ``maps``.

        ``slots``: the slot that counts the matches of each named filter. Blocks while a program
        that is not in the cache is compiled. Raises ``PermissionDeniedError``,
        ``BccMissingError``, ``FilterError`` for a filter that the kernel cannot run, and
        ``ProgramError`` (``CompileError``, ``VerifierError``).
        """
        check_capabilities()
        held = effective()
        source = _source(filters, maps, hook, slots, may_compute=bool(held & _COMPUTED_ADDRESSES))
        bytecode = compile_c(source)
        # The kernel keeps the maps of the sets as long as the program.
        with SetMaps(filters.sets) as set_maps:
            descriptors = {**maps.descriptors, **set_maps.descriptors}
            try:
                with held_off():
                    return cls(_load(bytecode, descriptors, hook), cached=bytecode.cached)
            except ProgramError:
                if not bytecode.cached:
                    raise
            # The cache entry may be bad: only a fresh compilation can tell.
            bytecode = compile_c(source, use_cache=False)
            with held_off():
                return cls(_load(bytecode, descriptors, hook), cached=False)

    def run(self, frame: bytes, repeat: int = 1) -> tuple[int, int]:
        """Run an XDP program on a copy of ``frame``; returns its XDP_* action, and the ns it took.

        The time is the mean of ``repeat`` runs (BPF_PROG_TEST_RUN). Raises ``SyscallError``: the
        kernel takes frames from 14 to about 3500 bytes.
        """
        duration = ffi.new("uint32_t *")
        action = int(lib.nr_program_run(self.fd, frame, len(frame), repeat, duration))
        if action < 0:
            raise SyscallError(f"run a program on a frame of {len(frame)} bytes", -action)
        return action, int(duration[0])

    def close(self) -> None:
        """Close the descriptor; the kernel frees what nothing else holds. Idempotent."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    abandon = close  # in a forked child: its copy of the descriptor

    def __enter__(self) -> Self:
        if self.fd < 0:
            raise ClosedError("use of an XDP program that is closed")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _source(
    filters: FilterSet, maps: Maps, hook: Hook, slots: Sequence[int], *, may_compute: bool
) -> Source:
    file, function, used = _FILES[hook]
    cflags = [f"-DNETRING_QUEUES={maps.queues:d}"]
    if hook is Hook.SOCKET:
        cflags = [f"-DNETRING_SNAPLEN={filters.snaplen:d}"]
    elif not may_compute:
        cflags.append("-DNETRING_LOAD_BY_HELPER")
    if filters.names:
        used = (*used, "matches")
    used = (*used, *map_names(filters.sets))
    text = to_c(filters, hook, slots) + (_HERE / file).read_text(encoding="ascii")
    return Source(text, function, tuple(cflags), used)


def _load(bytecode: Bytecode, descriptors: Mapping[str, int], hook: Hook) -> int:
    code = bytecode.bound_to(descriptors)
    count = len(code) // _INSTRUCTION_SIZE
    fd = int(lib.nr_program_load(hook.value, code, count, ffi.NULL, 0))
    if fd >= 0:
        return fd
    log = ffi.new("char[]", _LOG_SIZE)
    again = int(lib.nr_program_load(hook.value, code, count, log, _LOG_SIZE))
    if again >= 0:
        return again
    said = ffi.string(log).decode(errors="replace")
    if not said:  # it did not get to the verifier, whose refusals have the same numbers
        if denied := explain_refusal(_LOAD, -again, *_NEEDED):
            raise denied
        raise SyscallError(_LOAD, -again)
    bytecode.forget()
    raise VerifierError(
        f"load the XDP program: the kernel's verifier refused it: {_telling(said)}; try a "
        "simpler filter or backend='tpacket_v3', and report it with the .log of this error",
        log=said,
    )


def _telling(log: str) -> str:
    """Return the last lines of the verifier's log that are not statistics."""
    noise = ("processed ", "verification time", "stack depth", "HINT:")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return " / ".join([line for line in lines if not line.startswith(noise)][-2:])


def check_capabilities() -> None:
    """Raise ``PermissionDeniedError`` if the kernel would refuse maps and programs.

    This comes first because BCC would only say "Failed to compile BPF module".
    """
    if effective() & CAP_SYS_ADMIN or not missing(*_NEEDED):
        return
    if denied := explain_refusal(_LOAD, errno.EPERM, *_NEEDED):
        raise denied
