"""AF_XDP, opened: a program on the interface, and a socket for each of its receive queues.

Order of opening: program → sockets → XSKMAP → link.
"""

from __future__ import annotations

import contextlib
import logging

from netring_bpf.bpf.link import XdpLink
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.match_slots import Slots
from netring_bpf.bpf.program import Program, check_capabilities
from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.capture.open_backend import Rings
from netring_bpf.capture.open_errors import explain_busy_poll, explain_queue
from netring_bpf.capture.ring_sizes import choose_sizes
from netring_bpf.errors import KernelFeatureError, OptionError, SyscallError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import MAX_QUEUES, XdpOptions
from netring_bpf.ring.readers import Readers

__all__ = ["open_xdp"]

_log = logging.getLogger("netring_bpf.capture")


def open_xdp(
    interface: Interface, options: XdpOptions, flow: FlowOptions, filters: FilterSet
) -> Rings:
    """Redirect what matches into a socket of each queue, in the thread's network namespace."""
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        check_capabilities()
        maps = undo.enter_context(Maps(MAX_QUEUES))
        slots = Slots()
        planned = slots.plan(filters.names, maps)
        program = until_attached.enter_context(Program.load(filters, maps, slots=planned))
        slots.commit(filters.names, planned)
        readers = undo.enter_context(Readers(flow, options.threads))
        queues = _Queues(undo, interface, options, maps, readers, filters.snaplen)
        queues.add()
        link = undo.enter_context(XdpLink.attach(interface, program.fd, options.mode))
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
        rings.xdp, rings.cpus = sizes.put_in(options), options.cpus
        if sizes.notice is not None:
            rings.announce(sizes.notice)
        if options.huge_pages and not readers.huge_pages:
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
