"""Opens AF_XDP on an interface: program, then sockets, then XSKMAP, then link."""

from __future__ import annotations

import contextlib
import logging

from netring_bpf.bpf.attached import program_id
from netring_bpf.bpf.link import XdpLink
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.match_slots import Slots
from netring_bpf.bpf.program import Program, check_capabilities
from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.capture.backend import Opened
from netring_bpf.capture.open_backend import Rings
from netring_bpf.capture.open_errors import explain_busy_poll, explain_queue
from netring_bpf.capture.ring_sizes import RingSizes, choose_sizes
from netring_bpf.capture.tpacket import TpacketRings
from netring_bpf.errors import KernelFeatureError, OptionError, SyscallError, printable
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import MAX_QUEUES, TpacketOptions, XdpOptions
from netring_bpf.ring.reader import SharedSums
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["XdpRings", "open_xdp"]

_log = logging.getLogger("netring_bpf.capture")


def open_xdp(
    interface: Interface,
    options: XdpOptions,
    flow: FlowOptions,
    filters: FilterSet,
    sums: SharedSums | None = None,
) -> Rings:
    """Redirect matching frames into a socket of each queue, in the thread's network namespace.

    Raises ``UnavailableError``, ``AttachError``, ``ProgramError``, ``OptionError``,
    ``SyscallError``.
    """
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        check_capabilities()
        maps = undo.enter_context(Maps(MAX_QUEUES))
        slots = Slots()
        planned = slots.plan(filters.names, maps)
        program = until_attached.enter_context(Program.load(filters, maps, slots=planned))
        slots.commit(filters.names, planned)
        readers = undo.enter_context(Readers(flow, options.threads, sums=sums))
        queues = _Queues(undo, interface, options, maps, readers, filters.snaplen)
        queues.add()
        link = undo.enter_context(XdpLink.attach(interface, program.fd, options.mode))
        # Attaching can itself change the number of queues (virtio_net does).
        queues.add()
        queues.check_threads()
        if link.mode is XdpMode.GENERIC:
            _log.warning(
                "%s: in generic mode frames longer than %d bytes are dropped and counted "
                "(rx_dropped): switch tso, gso and gro off where they occur (ethtool -K)",
                printable(interface.name),
                queues.sizes.chunk_size - 256,
            )
        rings = XdpRings(
            undo.pop_all(),
            interface,
            readers,
            slots,
            maps,
            link,
            program_id(program.fd),
            queues.options,
            filters,
        )
        _announce_memory(rings, options, queues.sizes)
        return rings


def _announce_memory(rings: XdpRings, options: XdpOptions, sizes: RingSizes) -> None:
    if sizes.notice is not None:
        rings.announce(sizes.notice)
    if options.huge_pages and not rings.readers.huge_pages:
        rings.announce(
            f"normal pages instead of huge ones: the kernel has too few left for "
            f"{sizes.umem >> 10} KiB a queue; reserve some (sysctl vm.nr_hugepages)"
        )


class XdpRings(Rings):
    """AF_XDP: the sockets' rings, the programs' maps, and the XDP link."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        readers: Readers,
        slots: Slots,
        maps: Maps,
        link: XdpLink,
        program: int,
        options: XdpOptions,
        filters: FilterSet,
    ) -> None:
        opened = Opened(
            backend="af_xdp",
            attach=link.mode.value,
            attach_reason=link.reason,
            zero_copy=readers.zero_copy,
            xdp=options,
        )
        super().__init__(stack, interface, readers, slots, opened, options.cpus, filters)
        self.program: int = program  #: the id of the program on the interface
        self._maps = maps
        self._link = link
        self._busy_poll = options.busy_poll is not None
        self._snaplen = filters.snaplen

    def _swap(self, filters: FilterSet) -> None:
        slots = self.slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, slots=slots) as program:
            # A frame in the ring may be of either filter: no byte past its snaplen may get out.
            before = self._snaplen
            self.readers.set_snaplen(min(before, filters.snaplen))
            try:
                self._link.update(program.fd)
            except BaseException:
                self.readers.set_snaplen(before)
                raise
            self.program = program_id(program.fd)
        self._snaplen = filters.snaplen
        self.readers.set_snaplen(filters.snaplen)
        self.slots.commit(filters.names, slots)

    def hand_back(self) -> None:
        """Pass every frame on to the host, from the next one on. Idempotent."""
        self._maps.hand_back()

    def go_on_by_tpacket(self, options: TpacketOptions, reason: str) -> Rings:
        """Return the rings of TPACKET_V3 in the same readers, which run on; these are detached.

        Raises the errors of ``open_tpacket``.
        """
        return TpacketRings.take_over(self, self._maps, options, reason)

    def detach(self) -> None:
        """Take the program off the interface."""
        self._link.close()

    def check_busy_poll(self) -> None:
        """Announce it if the sockets have no NAPI instance, which busy polling needs."""
        if not self._busy_poll or any(self.readers.napi_ids):
            return
        if self.statistics().received > 0:
            self.announce(
                "no busy polling: the driver does not say which NAPI instance feeds a queue; "
                "its interrupts bring the frames, as ever"
            )

    def statistics(self) -> CaptureStatistics:
        """As ``Rings.statistics``, with queue 0 and the queues that have seen frames."""
        rows = (
            QueueStatistics(queue, *self._maps.counters_of_queue(queue))
            for queue in range(self._maps.queues)
        )
        queues = tuple(row for row in rows if row.seen or row.queue == 0)
        matches = self.slots.counts(self._maps)
        return self.readers.statistics(self.opened.backend, self.opened.attach, queues, matches)


class _Queues:
    """Opens the AF_XDP sockets of an interface, one a queue, and deals them to the readers.

    ``options``: those given, with the sizes of ``choose_sizes``.
    """

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
        self.options = options
        self._maps = maps
        self._readers = readers
        self._snaplen = snaplen
        self._have: set[int] = set()
        self.sizes = choose_sizes(options, interface, len(self._wanted()))
        self.options = self.sizes.put_in(options)

    def _wanted(self) -> tuple[int, ...]:
        if self.options.queues is not None:
            return self.options.queues
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
        options = self.options
        # Bind first: the kernel drops frames for an unbound socket without counting them.
        try:
            descriptor = reader.add_xsk(
                self._interface.index, queue, options, snaplen=self._snaplen
            )
        except SyscallError as error:
            raise explain_queue(error, self._interface, queue, self.sizes) from error
        if options.busy_poll is not None:
            try:
                reader.set_busy_poll(options.busy_poll)
            except SyscallError as error:
                raise explain_busy_poll(error, self._interface) from error
        self._maps.put_socket(queue, descriptor)
        self._undo.callback(self._remove, queue)

    def _remove(self, queue: int) -> None:
        with contextlib.suppress(SyscallError):  # the map goes next
            self._maps.remove_socket(queue)

    def check_threads(self) -> None:
        """Raise ``OptionError`` if a thread has no queue."""
        if len(self._have) < len(self._readers.each):
            raise OptionError(
                f"threads={self.options.threads}: {self._interface.name} has "
                f"{len(self._have)} queues to capture, and each thread needs one; lower threads, "
                "or set the number of queues first (ethtool -L)",
                option="threads",
            )
