"""The maps of a capture's programs; they outlive each program, so a swap keeps the counts."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Self

from netring_bpf._core import ffi, lib
from netring_bpf.errors import ClosedError, ProgramError, SyscallError
from netring_bpf.filter.filter_set import MAX_NAMES

__all__ = ["SLOTS", "Maps"]

SLOTS = 2 * MAX_NAMES  #: for the names in force, and for those of the next swap
_PERCPU_ARRAY, _XSKMAP = 6, 17  # BPF_MAP_TYPE_*
_COUNTERS = 4  # struct netring_counters of xdp_redirect.c


class Maps:
    """XSKMAP, counters by queue and matches by name; closed by ``close()`` or by ``with``.

    ``queues``: the number of slots in the first two. Raises ``ProgramError`` if the kernel
    refuses a map.
    """

    def __init__(self, queues: int) -> None:
        self.queues = queues
        self.descriptors: dict[str, int] = {}
        try:
            self._create("xsks_map", _XSKMAP, 4, queues)
            self._create("counters", _PERCPU_ARRAY, 8 * _COUNTERS, queues)
            self._create("matches", _PERCPU_ARRAY, 8, SLOTS)
        except BaseException:
            self.close()
            raise

    def _create(self, name: str, kind: int, value_size: int, entries: int) -> None:
        fd = lib.nr_map_create(kind, 4, value_size, entries, name.encode())
        if fd < 0:
            raise ProgramError(
                f"load the XDP program: create its map {name!r}: {os.strerror(-fd)}; on kernels "
                "before 5.11 raise the memory-lock limit (ulimit -l), else free memory"
            )
        self.descriptors[name] = fd

    # -- sockets --

    def put_socket(self, queue: int, socket_fd: int) -> None:
        """Direct the matching frames of ``queue`` to an AF_XDP socket bound to that queue."""
        key, value = ffi.new("uint32_t *", queue), ffi.new("uint32_t *", socket_fd)
        error = lib.nr_map_update(self._fd("xsks_map"), key, value)
        if error:
            raise SyscallError(f"put the socket of queue {queue} into the XSKMAP", -error)

    def remove_socket(self, queue: int) -> None:
        """Take the queue's socket out; its frames then pass to the host. Idempotent."""
        error = lib.nr_map_delete(self._fd("xsks_map"), ffi.new("uint32_t *", queue))
        if error not in {0, -errno.ENOENT, -errno.EINVAL}:  # the latter two: no socket there
            raise SyscallError(f"take the socket of queue {queue} out of the XSKMAP", -error)

    # -- counts --

    def counters_of_queue(self, queue: int) -> tuple[int, int, int, int]:
        """Return a queue's frames: (seen, not matched, without a socket, redirected)."""
        seen, not_matched, no_socket, redirected = self._sums("counters", queue, _COUNTERS)
        return seen, not_matched, no_socket, redirected

    def matches_in_slot(self, slot: int) -> int:
        """Return the number of matches counted in a slot."""
        return self._sums("matches", slot, 1)[0]

    def clear_slot(self, slot: int) -> None:
        """Set a slot's count to 0, before another filter gets it."""
        zeros = ffi.new("uint64_t[]", _possible_cpus())
        error = lib.nr_map_update(self._fd("matches"), ffi.new("uint32_t *", slot), zeros)
        if error:
            raise SyscallError(f"clear the count in slot {slot}", -error)

    def _sums(self, name: str, key: int, words: int) -> Sequence[int]:
        """Return the words of a per-CPU value, each summed over the CPUs."""
        cpus = _possible_cpus()
        values = ffi.new("uint64_t[]", cpus * words)
        error = lib.nr_map_lookup(self._fd(name), ffi.new("uint32_t *", key), values)
        if error:
            raise SyscallError(f"read entry {key} of map {name!r}", -error)
        return [sum(values[cpu * words + word] for cpu in range(cpus)) for word in range(words)]

    # -- life --

    def _fd(self, name: str) -> int:
        if name not in self.descriptors:
            raise ClosedError("use of maps that are closed")
        return self.descriptors[name]

    def close(self) -> None:
        """Close the descriptors; the kernel frees what nothing else holds. Idempotent."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _possible_cpus() -> int:
    """Return the number of values the kernel gives: one a possible CPU, online or not."""
    # The file has a list as "0-3" or "0,2-5".
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1
