"""The maps of the address sets of one program: filled before it is loaded, and never changed.

Another set comes with another program, so that each frame meets either the old or the new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Self

from netring_bpf._core import ffi, lib
from netring_bpf.bpf.cbpf import SET_MAPS, set_map
from netring_bpf.errors import NetringError, ResourceLimitError, SyscallError
from netring_bpf.filter.address_set import AddressSet
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.privileges import explain_refusal

__all__ = ["SetMaps", "map_names"]

_HASH, _LPM_TRIE, _NO_PREALLOC = 1, 11, 1  # BPF_MAP_TYPE_*, BPF_F_NO_PREALLOC
_KEY_SIZES = {("hosts", 4): 4, ("hosts", 6): 16, ("nets", 4): 8, ("nets", 6): 20}


def _parts(sets: Sequence[AddressSet]) -> Iterator[tuple[str, str, int, bytes]]:
    """Yield each map that is not empty: its name, kind, IP version and keys."""
    for number, one in enumerate(sets):
        for version in (4, 6):
            for kind, keys in zip(SET_MAPS, one.keys(version), strict=True):
                if keys:
                    yield set_map(number, kind, version), kind, version, keys


def map_names(sets: Sequence[AddressSet]) -> tuple[str, ...]:
    """Return the names of the maps that the sets need."""
    return tuple(name for name, *_ in _parts(sets))


class SetMaps:
    """Closed by ``close()`` or by ``with``; the program that was loaded with them keeps them.

    Raises ``PermissionDeniedError``, ``ResourceLimitError`` or ``SyscallError`` if the kernel
    refuses a map.
    """

    def __init__(self, sets: Sequence[AddressSet]) -> None:
        self.descriptors: dict[str, int] = {}
        close_in_child(self)
        try:
            for name, kind, version, keys in _parts(sets):
                self._create(name, kind, _KEY_SIZES[kind, version], keys)
        except BaseException:
            self.close()
            raise

    def _create(self, name: str, kind: str, key_size: int, keys: bytes) -> None:
        count = len(keys) // key_size
        type_ = _HASH if kind == "hosts" else _LPM_TRIE
        with held_off():
            fd = lib.nr_map_create(type_, key_size, 1, count, _NO_PREALLOC, name.encode())
            if fd >= 0:
                self.descriptors[name] = fd
        error = -fd if fd < 0 else -lib.nr_map_fill(fd, ffi.from_buffer(keys), key_size, count)
        if error:
            raise _refusal(f"make a set of {count} {kind} in the kernel", error)

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    abandon = close  # in a forked child: its copies of the descriptors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refusal(what: str, error: int) -> NetringError:
    if denied := explain_refusal(what, error, "CAP_BPF", "CAP_NET_ADMIN"):
        return denied
    if error in {errno.ENOMEM, errno.E2BIG, errno.ENOSPC}:
        return ResourceLimitError(
            f"{what}: {os.strerror(error)}; the kernel charges it to the process: give it more "
            "(systemd: MemoryMax=, a container's memory limit, before Linux 5.11 ulimit -l), or "
            "name fewer hosts and nets",
            resource="memory",
        )
    return SyscallError(what, error)
