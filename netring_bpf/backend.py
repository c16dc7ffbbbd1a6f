"""How frames come to the reader: AF_XDP or TPACKET_V3, chosen, opened and owned as one thing.

Order of opening: program → sockets → XSKMAP → link. Closing is the reverse: the link goes
first, so that no frame is redirected to a ring that is being taken down.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import resource
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
    MemlockError,
    NetringError,
    OptionError,
    PermissionDeniedError,
    QueueBusyError,
    SyscallError,
)
from netring_bpf.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.libpcap import Instruction
from netring_bpf.ring.options import MAX_QUEUES, FlowOptions, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.ring.reader import Reader
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
    """An open backend: the reader with its rings, the programs' maps, and the XDP link.

    ``fallback_reason``: why ``"auto"`` did not take AF_XDP; else None.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        reader: Reader,
        maps: Maps | None,
        slots: Slots,
        link: XdpLink | None = None,
        snaplen: int = 0,
    ) -> None:
        self.backend = "tpacket_v3" if link is None else "af_xdp"
        self.reader = reader
        self.fallback_reason: str | None = None
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
        return self._link is not None and self.reader.zero_copy

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
            self.reader.set_snaplen(min(before, filters.snaplen))
            try:
                self._link.update(program.fd)
            except BaseException:
                self.reader.set_snaplen(before)
                raise
        self._snaplen = filters.snaplen
        self.reader.set_snaplen(filters.snaplen)
        self._slots.commit(filters.names, slots)

    def _set_on_socket(self, filters: FilterSet) -> None:
        if not filters.names:
            self.reader.set_filter(filters.filters[0].instructions)
            self._slots.commit((), ())
            return
        if self._maps is None:
            self._maps = self._stack.enter_context(Maps(MAX_QUEUES))
        slots = self._slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, hook=Hook.SOCKET, slots=slots) as program:
            self.reader.set_filter(program.fd)
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
        return self.reader.statistics(self.backend, self.attach, queues, matches)

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
        return rings


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


def _open_tpacket(interface: Interface, options: BackendOptions, filters: FilterSet) -> Rings:
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as until_attached:
        reader = undo.enter_context(Reader(options.flow))
        slots, maps = Slots(), None
        filter_program: Sequence[Instruction] | int = filters.filters[0].instructions
        if filters.names:
            maps = undo.enter_context(Maps(MAX_QUEUES))
            planned = slots.plan(filters.names, maps)
            loaded = Program.load(filters, maps, hook=Hook.SOCKET, slots=planned)
            filter_program = until_attached.enter_context(loaded).fd
            slots.commit(filters.names, planned)
        try:
            reader.add_tpacket(
                interface.index,
                filter_program,
                options.tpacket,
                ignore_outgoing=interface.loopback,
            )
        except SyscallError as error:
            raise _explain(error, interface.name) from error
        return Rings(undo.pop_all(), interface, reader, maps, slots)


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
        reader = undo.enter_context(Reader(options.flow))
        queues: set[int] = set()
        add = functools.partial(
            _add_queues, undo, interface, options.xdp, maps, reader, queues, filters.snaplen
        )
        add()
        link = undo.enter_context(XdpLink.attach(interface, program.fd, options.xdp.mode))
        # Attaching can itself change the number of queues (virtio_net does).
        add()
        if link.mode is XdpMode.GENERIC:
            _log.warning(
                "%s: in generic mode frames longer than %d bytes are dropped and counted "
                "(rx_dropped): switch tso, gso and gro off where they occur (ethtool -K)",
                interface.name,
                options.xdp.chunk_size - 256,
            )
        return Rings(undo.pop_all(), interface, reader, maps, slots, link, filters.snaplen)


def _add_queues(
    undo: contextlib.ExitStack,
    interface: Interface,
    options: XdpOptions,
    maps: Maps,
    reader: Reader,
    have: set[int],
    snaplen: int,
) -> None:
    count = interface.rx_queues()
    if options.queues is None and count > MAX_QUEUES:
        raise KernelFeatureError(
            f"capture on {interface.name}: it has {count} receive queues, one capture takes "
            f"{MAX_QUEUES}; name some in XdpOptions(queues=…), lower their number "
            "(ethtool -L), or choose backend='tpacket_v3'",
            feature="queues",
        )
    wanted = options.queues if options.queues is not None else tuple(range(count))
    for queue in wanted:
        if queue in have:
            continue
        # Bind first: a slot with an unbound socket drops frames and counts them nowhere.
        try:
            descriptor = reader.add_xsk(interface.index, queue, options, snaplen=snaplen)
        except SyscallError as error:
            raise _explain_queue(error, interface, queue, options) from error
        maps.put_socket(queue, descriptor)
        undo.callback(maps.remove_socket, queue)
        have.add(queue)


# -- the errors of opening a ring, in words that name the remedy --


def _explain(error: SyscallError, where: str) -> NetringError:
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return PermissionDeniedError(
                f"{error.call} on {where}: the process lacks CAP_NET_RAW; run it as root, or "
                "give it CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW",
                capability="CAP_NET_RAW",
            )
        case errno.EAFNOSUPPORT | errno.EOPNOTSUPP | errno.ENOPROTOOPT:
            return KernelFeatureError(
                f"{error.call} on {where}: {error.strerror}; this kernel was built without it",
                feature=error.call.removeprefix("open an ").removeprefix("open a "),
            )
        case _:
            return error


def _explain_queue(
    error: SyscallError, interface: Interface, queue: int, options: XdpOptions
) -> NetringError:
    where = f"queue {queue} of {interface.name}"
    match error.errno:
        case errno.ENOBUFS:
            needed = options.chunks * options.chunk_size
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            return MemlockError(
                f"{error.call} on {where}: its UMEM of {needed >> 10} KiB is over the "
                f"memory-lock limit of {limit >> 10} KiB; raise it (ulimit -l, systemd: "
                "LimitMEMLOCK=), give CAP_IPC_LOCK, or make XdpOptions(chunks=, ring_size=) "
                "smaller",
                needed=needed,
                limit=limit,
            )
        case errno.EBUSY:
            return QueueBusyError(
                f"{error.call} on {where}: another AF_XDP socket is bound to the queue; end "
                "its process, choose other queues, or backend='tpacket_v3'",
                interface=interface.name,
                queue=queue,
            )
        case errno.EINVAL:
            return OptionError(
                f"{error.call} on {where}: there is no such queue (the interface has "
                f"{interface.rx_queues()})",
                option="queues",
            )
        case _:
            return _explain(error, where)
