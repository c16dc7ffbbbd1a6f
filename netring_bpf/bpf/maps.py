"""The maps of a capture's programs; they outlive each program, so a swap keeps the counts."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Self

from netring_bpf._core import ffi, lib
from netring_bpf.errors import ClosedError, NetringError, ProgramError, SyscallError
from netring_bpf.filter.filter_set import MAX_NAMES
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.privileges import explain_refusal

__all__ = ["SLOTS", "Maps"]

SLOTS = 2 * MAX_NAMES  #: for the names in force, and for those of the next swap
_ARRAY, _PERCPU_ARRAY, _XSKMAP = 2, 6, 17  # BPF_MAP_TYPE_*
_COUNTERS = 5  # struct netring_counters of xdp_redirect.c
_MOST_CPUS = 8192 + 1  # NR_CPUS of the largest kernels, and one that stays untouched
_UNTOUCHED = (1 << 64) - 1


class Maps:
    """XSKMAP, counters by queue, matches by name, and the switch back to the host.

    Closed by ``close()`` or by ``with``. ``queues``: the number of slots in the first two. Raises
    ``PermissionDeniedError``, ``ProgramError`` or ``SyscallError`` if the kernel refuses a map.
    """

    def __init__(self, queues: int) -> None:
        self.queues = queues
        self.descriptors: dict[str, int] = {}
        close_in_child(self)
        try:
            self._create("xsks_map", _XSKMAP, 4, queues)
            self._create("counters", _PERCPU_ARRAY, 8 * _COUNTERS, queues)
            self._create("handing_back", _ARRAY, 4, 1)
            self._create("matches", _PERCPU_ARRAY, 8, SLOTS)
            self._cpus = self._possible_cpus()
        except BaseException:
            self.close()
            raise

    def _create(self, name: str, kind: int, value_size: int, entries: int) -> None:
        with held_off():
            fd = lib.nr_map_create(kind, 4, value_size, entries, 0, name.encode())
            if fd >= 0:
                self.descriptors[name] = fd
        if fd < 0:
            raise _refusal(f"load the XDP program: create its map {name!r}", -fd)

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

    def hand_back(self) -> None:
        """Have the program pass every frame on to the host, from the next one on.

        The switch comes first, so that each frame that finds no socket is counted as handed back.
        """
        key, value = ffi.new("uint32_t *", 0), ffi.new("uint32_t *", 1)
        error = lib.nr_map_update(self._fd("handing_back"), key, value)
        if error:
            raise SyscallError("hand an interface's frames back to the host", -error)
        for queue in range(self.queues):
            self.remove_socket(queue)

    # -- counts --

    def counters_of_queue(self, queue: int) -> tuple[int, int, int, int, int]:
        """Return a queue's frames: (seen, not matched, no socket, redirected, handed back)."""
        seen, not_matched, no_socket, redirected, back = self._sums("counters", queue, _COUNTERS)
        return seen, not_matched, no_socket, redirected, back

    def matches_in_slot(self, slot: int) -> int:
        """Return the number of matches counted in a slot."""
        return self._sums("matches", slot, 1)[0]

    def clear_slot(self, slot: int) -> None:
        """Set a slot's count to 0, before another filter gets it."""
        zeros = ffi.new("uint64_t[]", self._cpus)
        error = lib.nr_map_update(self._fd("matches"), ffi.new("uint32_t *", slot), zeros)
        if error:
            raise SyscallError(f"clear the count in slot {slot}", -error)

    def _sums(self, name: str, key: int, words: int) -> Sequence[int]:
        """Return the words of a per-CPU value, each summed over the CPUs."""
        cpus = self._cpus
        values = ffi.new("uint64_t[]", cpus * words)
        error = lib.nr_map_lookup(self._fd(name), ffi.new("uint32_t *", key), values)
        if error:
            what = f"read entry {key} of map {name!r}"
            denied = explain_refusal(what, -error, "CAP_BPF", "CAP_NET_ADMIN")
            raise denied or SyscallError(what, -error)
        return [sum(values[cpu * words + word] for cpu in range(cpus)) for word in range(words)]

    def _possible_cpus(self) -> int:
        """Return the number of values a per-CPU entry has: one a possible CPU, online or not.

        The kernel itself tells, as /sys may be absent: it writes so many zeros over these ones.
        """
        ones = ffi.new("uint64_t[]", [_UNTOUCHED] * _MOST_CPUS)
        error = lib.nr_map_lookup(self._fd("matches"), ffi.new("uint32_t *", 0), ones)
        if error:
            raise _refusal("read map 'matches'", -error)
        return next(cpu for cpu in range(_MOST_CPUS) if ones[cpu] == _UNTOUCHED)

    # -- life --

    def _fd(self, name: str) -> int:
        if name not in self.descriptors:
            raise ClosedError("use of maps that are closed")
        return self.descriptors[name]

    def close(self) -> None:
        """Close the descriptors; the kernel frees what nothing else holds. Idempotent."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    abandon = close  # in a forked child: its copies of the descriptors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refusal(what: str, error: int) -> NetringError:
    if error in {errno.EMFILE, errno.ENFILE}:
        return SyscallError(what, error)
    if denied := explain_refusal(what, error, "CAP_BPF", "CAP_NET_ADMIN"):
        return denied
    return ProgramError(
        f"{what}: {os.strerror(error)}; on kernels before 5.11 raise the memory-lock limit "
        "(ulimit -l), else free memory"
    )
