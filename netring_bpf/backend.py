"""How frames come to the reader: AF_XDP or TPACKET_V3, chosen, opened and owned as one thing.

Order of opening: program → sockets → XSKMAP → link. Closing is the reverse: the link goes
first, so that no frame is redirected to a ring that is being taken down.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from netring_bpf.bpf.link import XdpLink
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Hook, Program, check_capabilities
from netring_bpf.bpf.slots import Slots
from netring_bpf.errors import (
    FilterError,
    InterfaceInUseError,
    KernelFeatureError,
    NetringError,
    OptionError,
    SyscallError,
)
from netring_bpf.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.libpcap import Instruction
from netring_bpf.ring.explain import explain_busy_poll, explain_queue, explain_socket
from netring_bpf.ring.options import MAX_QUEUES, FlowOptions, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.ring.reader import Reader
from netring_bpf.ring.readers import Readers
from netring_bpf.ring.sizes import choose_sizes
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["Backend", "BackendOptions", "Rings", "open_rings"]

Backend: TypeAlias = Literal["auto", "af_xdp", "tpacket_v3"]
_BACKENDS = ("auto", "af_xdp", "tpacket_v3")
_log = logging.getLogger("netring_bpf.capture")


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a capture asks of its backend; ``Capture`` says what each means."""

    backend: Backend
    filter: FilterSet
    steal: bool
    xdp: XdpOptions
    tpacket: TpacketOptions
    flow: FlowOptions

    def __post_init__(self) -> None:
        if self.backend not in _BACKENDS:
            raise OptionError(
                f"backend={self.backend!r}: must be one of {', '.join(_BACKENDS)}",
                option="backend",
            )


class Rings:
    """An open backend: the readers with their rings, the programs' maps, and the XDP link.

    ``fallback_reason``: why ``"auto"`` did not take AF_XDP; else None. ``xdp``: the options in
    force, with all sizes; None with TPACKET_V3. ``cpus``: where each reader is to run.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        readers: Readers,
        maps: Maps | None,
        slots: Slots,
        link: XdpLink | None = None,
        snaplen: int = 0,
    ) -> None:
        self.backend = "tpacket_v3" if link is None else "af_xdp"
        self.readers = readers
        self.fallback_reason: str | None = None
        self.xdp: XdpOptions | None = None
        self.cpus: tuple[int, ...] | None = None
        self._notices: list[str] = []
        self._stack = stack
        self._interface = interface
        self._maps = maps
        self._slots = slots
        self._link = link
        self._snaplen = snaplen  # of AF_XDP sockets

    @property
    def attach(self) -> str | None:
        """``"native"`` or ``"generic"`` XDP; None with TPACKET_V3."""
        return self._link.mode.value if self._link else None

    @property
    def attach_reason(self) -> str | None:
        """Why XDP is not native, where it is not."""
        return self._link.reason if self._link else None

    @property
    def zero_copy(self) -> bool:
        """Whether AF_XDP shares its memory with the driver, instead of copying."""
        return self._link is not None and self.readers.zero_copy

    @property
    def notices(self) -> tuple[str, ...]:
        """What is not as the options asked for, and why."""
        return tuple(self._notices)

    def announce(self, notice: str) -> None:
        """Note it, and log it; once."""
        if notice in self._notices:
            return
        self._notices.append(notice)
        _log.warning("%s: %s", self._interface.name, notice)

    def check_busy_poll(self) -> None:
        """When frames have come: announce it where they were not fetched by busy polling."""
        if self.xdp is None or self.xdp.busy_poll is None or any(self.readers.napi_ids):
            return
        if self.statistics().received > 0:
            self.announce(
                "no busy polling: the driver does not say which NAPI instance feeds a queue; "
                "its interrupts bring the frames, as ever"
            )

    def set_filter(self, wanted: FilterSet) -> None:
        """Put other filters in force, at once and for all queues; on an error the old ones stay.

        In the thread's network namespace. Raises what opening raises.
        """
        filters = _for_kernel(wanted, self._interface)
        if self._link is None:
            self._set_on_socket(filters)
            return
        assert self._maps is not None
        slots = self._slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, slots=slots) as program:
            # Whichever of the two filters took a frame, no byte past its snaplen is given out.
            before = self._snaplen
            self.readers.set_snaplen(min(before, filters.snaplen))
            try:
                self._link.update(program.fd)
            except BaseException:
                self.readers.set_snaplen(before)
                raise
        self._snaplen = filters.snaplen
        self.readers.set_snaplen(filters.snaplen)
        self._slots.commit(filters.names, slots)

    def _set_on_socket(self, filters: FilterSet) -> None:
        if not filters.names:
            self.readers.set_filter(filters.filters[0].instructions)
            self._slots.commit((), ())
            return
        if self._maps is None:
            self._maps = self._stack.enter_context(Maps(MAX_QUEUES))
        slots = self._slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, hook=Hook.SOCKET, slots=slots) as program:
            self.readers.set_filter(program.fd)
        self._slots.commit(filters.names, slots)

    def detach(self) -> None:
        """Redirect no more; what is in the rings can still be read. Idempotent."""
        if self._link is not None:
            self._link.close()

    def statistics(self) -> CaptureStatistics:
        """Return the books of the programs and of the reader."""
        queues: tuple[QueueStatistics, ...] = ()
        if self._maps is not None and self._link is not None:
            rows = (
                QueueStatistics(queue, *self._maps.counters_of_queue(queue))
                for queue in range(self._maps.queues)
            )
            queues = tuple(row for row in rows if row.seen or row.queue == 0)
        matches = self._slots.counts(self._maps) if self._maps is not None else {}
        return self.readers.statistics(self.backend, self.attach, queues, matches)

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self._stack.close()


def open_rings(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend that ``options`` ask for, in the thread's network namespace."""
    filters = _for_kernel(options.filter, interface)
    if options.backend == "tpacket_v3":
        return _open_tpacket(interface, options, filters)
    if options.backend == "af_xdp":
        return _open_xdp(interface, options, filters)
    try:
        return _open_xdp(interface, options, filters)
    except OptionError:
        raise
    except NetringError as error:
        _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", interface.name, error)
        rings = _open_tpacket(interface, options, filters)
        rings.fallback_reason = str(error)
        _keep_cpus(rings, options)
        return rings


def _keep_cpus(rings: Rings, options: BackendOptions) -> None:
    """TPACKET_V3 runs where AF_XDP was to run, unless it has CPUs of its own."""
    wanted, threads = options.xdp.cpus, options.tpacket.threads
    if wanted is None or rings.cpus is not None:
        return
    if len(wanted) == threads:
        rings.cpus = wanted
    else:
        rings.announce(
            f"any CPU instead of XdpOptions(cpus={wanted}), which are for {len(wanted)} threads: "
            f"TPACKET_V3 has {threads}; say so in TpacketOptions(threads=…, cpus=…)"
        )


def _for_kernel(wanted: FilterSet, interface: Interface) -> FilterSet:
    for one in wanted.filters:
        if one.has_loop:
            raise FilterError(
                f"filter {one.expression!r}: follows a chain of headers (protochain), which needs "
                "a loop, and the kernel runs none in a filter; capture more, and ask "
                "Filter.matches() for each packet",
                expression=one.expression,
            )
    return wanted.for_interface(interface.name)


_NOTHING = (Instruction(6, 0, 0, 0),)  # ret #0


def _open_tpacket(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        readers = undo.enter_context(Readers(options.flow, options.tpacket.threads))
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
                _add_tpacket(readers.each[0], interface, filter_program, options.tpacket)
            else:
                _add_fanout(readers, interface, filter_program, options.tpacket)
        except SyscallError as error:
            raise explain_socket(error, interface.name) from error
        rings = Rings(undo.pop_all(), interface, readers, maps, slots)
        rings.cpus = options.tpacket.cpus
        return rings


def _add_tpacket(
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
        _add_tpacket(reader, interface, _NOTHING, options)
    group = readers.each[0].make_fanout()
    for reader in readers.each[1:]:
        reader.join_fanout(group)
    readers.set_filter(program)


def _open_xdp(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    if not options.steal and (why := interface.host_traffic()):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        check_capabilities()
        maps = undo.enter_context(Maps(MAX_QUEUES))
        slots = Slots()
        planned = slots.plan(filters.names, maps)
        program = until_attached.enter_context(Program.load(filters, maps, slots=planned))
        slots.commit(filters.names, planned)
        readers = undo.enter_context(Readers(options.flow, options.xdp.threads))
        queues = _Queues(undo, interface, options.xdp, maps, readers, filters.snaplen)
        queues.add()
        link = undo.enter_context(XdpLink.attach(interface, program.fd, options.xdp.mode))
        # Attaching can itself change the number of queues (virtio_net does).
        queues.add()
        queues.check_threads()
        sizes = queues.sizes
        if link.mode is XdpMode.GENERIC:
            _log.warning(
                "%s: in generic mode frames longer than %d bytes are dropped and counted "
                "(rx_dropped): switch tso, gso and gro off where they occur (ethtool -K)",
                interface.name,
                sizes.chunk_size - 256,
            )
        rings = Rings(undo.pop_all(), interface, readers, maps, slots, link, filters.snaplen)
        rings.xdp, rings.cpus = sizes.put_in(options.xdp), options.xdp.cpus
        if sizes.notice is not None:
            rings.announce(sizes.notice)
        if options.xdp.huge_pages and not readers.huge_pages:
            rings.announce(
                f"normal pages instead of huge ones: the kernel has too few left for "
                f"{sizes.umem >> 10} KiB a queue; reserve some (sysctl vm.nr_hugepages)"
            )
        return rings


class _Queues:
    """The AF_XDP sockets of an interface, one for each queue, shared out among the readers."""

    def __init__(
        self,
        undo: contextlib.ExitStack,
        interface: Interface,
        options: XdpOptions,
        maps: Maps,
        readers: Readers,
        snaplen: int,
    ) -> None:
        self._undo = undo
        self._interface = interface
        self._options = options
        self._maps = maps
        self._readers = readers
        self._snaplen = snaplen
        self._have: set[int] = set()
        self.sizes = choose_sizes(options, interface, len(self._wanted()))

    def _wanted(self) -> tuple[int, ...]:
        if self._options.queues is not None:
            return self._options.queues
        count = self._interface.rx_queues()
        if count > MAX_QUEUES:
            raise KernelFeatureError(
                f"capture on {self._interface.name}: it has {count} receive queues, one capture "
                f"takes {MAX_QUEUES}; name some in XdpOptions(queues=…), lower their number "
                "(ethtool -L), or choose backend='tpacket_v3'",
                feature="queues",
            )
        return tuple(range(count))

    def add(self) -> None:
        """Open a socket on each queue that has none yet."""
        for queue in self._wanted():
            if queue not in self._have:
                self._add(queue)
                self._have.add(queue)

    def _add(self, queue: int) -> None:
        each = self._readers.each
        reader = each[len(self._have) % len(each)]
        index, options = self._interface.index, self._options
        # Bind first: a slot with an unbound socket drops frames and counts them nowhere.
        try:
            descriptor = reader.add_xsk(index, queue, options, self.sizes, snaplen=self._snaplen)
        except SyscallError as error:
            raise explain_queue(error, self._interface, queue, self.sizes) from error
        if options.busy_poll is not None:
            try:
                reader.set_busy_poll(options.busy_poll)
            except SyscallError as error:
                raise explain_busy_poll(error, self._interface) from error
        self._maps.put_socket(queue, descriptor)
        self._undo.callback(self._maps.remove_socket, queue)

    def check_threads(self) -> None:
        """Raise ``OptionError`` where a thread has no queue."""
        if len(self._have) < len(self._readers.each):
            raise OptionError(
                f"threads={self._options.threads}: {self._interface.name} has "
                f"{len(self._have)} queues to capture, and each thread needs one; lower threads, "
                "or set the number of queues first (ethtool -L)",
                option="threads",
            )
