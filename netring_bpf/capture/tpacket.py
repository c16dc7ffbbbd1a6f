"""Opens TPACKET_V3 on an interface: a socket, or a group of them with a thread each."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
from collections.abc import Sequence
from typing import Self

from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.match_slots import Slots
from netring_bpf.bpf.program import Hook, Program
from netring_bpf.capture.backend import Opened
from netring_bpf.capture.open_backend import Rings
from netring_bpf.capture.open_errors import explain_socket
from netring_bpf.errors import SyscallError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.filter.libpcap import Instruction
from netring_bpf.interface import Interface
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import MAX_QUEUES, TpacketOptions
from netring_bpf.ring.reader import Reader, SharedSums
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["TpacketRings", "check_may_listen", "open_tpacket"]

_NOTHING = (Instruction(6, 0, 0, 0),)  # ret #0


def check_may_listen(interface: Interface) -> None:
    """Raise the error for a socket of the backend, if the kernel would refuse to make one."""
    try:
        # With protocol 0 the socket receives nothing.
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0).close()
    except OSError as error:
        refused = SyscallError("open an AF_PACKET socket", error.errno or errno.EIO)
        raise explain_socket(refused, interface.name) from error


def open_tpacket(
    interface: Interface,
    options: TpacketOptions,
    flow: FlowOptions,
    filters: FilterSet,
    fallback_reason: str | None = None,
    *,
    sums: SharedSums | None = None,
) -> Rings:
    """Open a ring for each reader's thread, in the calling thread's network namespace.

    ``fallback_reason``: why this backend was taken instead of AF_XDP, if it was. Raises
    ``PermissionDeniedError``, ``KernelFeatureError``, ``ProgramError``, ``SyscallError``.
    """
    with contextlib.ExitStack() as undo:
        readers = undo.enter_context(Readers(flow, options.threads, sums=sums))
        slots = Slots()
        maps = undo.enter_context(Maps(MAX_QUEUES)) if filters.needs_ebpf else None
        _add_sockets(readers, interface, filters, options, maps, slots)
        opened = Opened(backend="tpacket_v3", fallback_reason=fallback_reason)
        return TpacketRings(
            undo.pop_all(), interface, readers, slots, opened, options.cpus, filters, maps
        )


class TpacketRings(Rings):
    """TPACKET_V3: the sockets' rings, and the maps of a filter in eBPF.

    ``queues``: the final counts of the XDP program that it took over from.
    """

    @classmethod
    def take_over(cls, other: Rings, maps: Maps, options: TpacketOptions, reason: str) -> Self:
        """Add TPACKET_V3 to the readers of ``other``, which run on, and detach that one.

        What is in the rings of ``other`` is still read. Raises the errors of ``open_tpacket``.
        """
        parts = other.interface, other.readers, other.slots
        _add_sockets(other.readers, other.interface, other.filters, options, maps, other.slots)
        other.detach()
        queues = other.statistics().queues
        opened = dataclasses.replace(
            other.opened,
            backend="tpacket_v3",
            attach=None,
            attach_reason=None,
            fallback_reason=reason,
            zero_copy=False,
            xdp=None,
        )
        return cls(other.stack, *parts, opened, other.cpus, other.filters, maps, queues)

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        readers: Readers,
        slots: Slots,
        opened: Opened,
        cpus: tuple[int, ...] | None,
        filters: FilterSet,
        maps: Maps | None,
        queues: tuple[QueueStatistics, ...] = (),
    ) -> None:
        super().__init__(stack, interface, readers, slots, opened, cpus, filters)
        self._maps = maps
        self._queues = queues

    def _swap(self, filters: FilterSet) -> None:
        if not filters.needs_ebpf:
            self.readers.set_filter(filters.filters[0].instructions)
            self.slots.commit((), ())
            return
        if self._maps is None:
            self._maps = self.stack.enter_context(Maps(MAX_QUEUES))
        slots = self.slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, hook=Hook.SOCKET, slots=slots) as program:
            self.readers.set_filter(program.fd)
        self.slots.commit(filters.names, slots)

    def detach(self) -> None:
        """Do nothing: the backend only listens."""

    def check_busy_poll(self) -> None:
        """Do nothing: the backend has no busy polling."""

    def statistics(self) -> CaptureStatistics:
        """As ``Rings.statistics``; only filters with names have a program to count in."""
        matches = self.slots.counts(self._maps) if self._maps is not None else {}
        return self.readers.statistics(self.opened.backend, None, self._queues, matches)


def _add_sockets(
    readers: Readers,
    interface: Interface,
    filters: FilterSet,
    options: TpacketOptions,
    maps: Maps | None,
    slots: Slots,
) -> None:
    """Open a socket for each reader; a named filter has its counts in ``maps``."""
    with contextlib.ExitStack() as until_attached:
        filter_program: Sequence[Instruction] | int = filters.filters[0].instructions
        if filters.needs_ebpf:
            assert maps is not None
            planned = slots.plan(filters.names, maps)
            loaded = Program.load(filters, maps, hook=Hook.SOCKET, slots=planned)
            filter_program = until_attached.enter_context(loaded).fd
            slots.commit(filters.names, planned)
        try:
            if len(readers.each) == 1:
                _add_socket(readers.each[0], interface, filter_program, options)
            else:
                _add_fanout(readers, interface, filter_program, options)
        except SyscallError as error:
            raise explain_socket(error, interface.name) from error


def _add_socket(
    reader: Reader,
    interface: Interface,
    program: Sequence[Instruction] | int,
    options: TpacketOptions,
) -> None:
    reader.add_tpacket(interface.index, program, options, ignore_outgoing=interface.loopback)


def _add_fanout(
    readers: Readers,
    interface: Interface,
    program: Sequence[Instruction] | int,
    options: TpacketOptions,
) -> None:
    """Open the sockets with a filter that matches nothing, until all have joined the group.

    A socket must be bound before it can join. Until it joins, it gets every frame of the
    interface, so each socket would have its own copy of the same frames.
    """
    for reader in readers.each:
        _add_socket(reader, interface, _NOTHING, options)
    group = readers.each[0].make_fanout()
    for reader in readers.each[1:]:
        reader.join_fanout(group)
    readers.set_filter(program)
