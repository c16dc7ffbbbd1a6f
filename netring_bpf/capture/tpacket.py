"""TPACKET_V3, opened: a socket, or a group of them with a thread each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.match_slots import Slots
from netring_bpf.bpf.program import Hook, Program
from netring_bpf.capture.open_backend import Rings
from netring_bpf.capture.open_errors import explain_socket
from netring_bpf.errors import SyscallError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.filter.libpcap import Instruction
from netring_bpf.interface import Interface
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import MAX_QUEUES, TpacketOptions
from netring_bpf.ring.reader import Reader
from netring_bpf.ring.readers import Readers

__all__ = ["open_tpacket"]

_NOTHING = (Instruction(6, 0, 0, 0),)  # ret #0


def open_tpacket(
    interface: Interface, options: TpacketOptions, flow: FlowOptions, filters: FilterSet
) -> Rings:
    """Open the ring of each thread, in the thread's network namespace."""
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        readers = undo.enter_context(Readers(flow, options.threads))
        slots, maps = Slots(), None
        filter_program: Sequence[Instruction] | int = filters.filters[0].instructions
        if filters.names:
            maps = undo.enter_context(Maps(MAX_QUEUES))
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
        rings = Rings(undo.pop_all(), interface, readers, maps, slots)
        rings.cpus = options.cpus
        return rings


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
    """Sockets that see nothing until all have joined the group.

    A socket must be bound to join, and until then it has every frame of the interface: with the
    filter in place each would be there several times.
    """
    for reader in readers.each:
        _add_socket(reader, interface, _NOTHING, options)
    group = readers.each[0].make_fanout()
    for reader in readers.each[1:]:
        reader.join_fanout(group)
    readers.set_filter(program)
