"""How frames come to the reader: AF_XDP or TPACKET_V3, chosen, opened and owned as one thing.

Order of opening: program → sockets → XSKMAP → link. Closing is the reverse: the link goes
first, so that no frame is redirected to a ring that is being taken down.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
from dataclasses import dataclass
from typing import Literal, TypeAlias

from netring_bpf.bpf.link import XdpLink, counters_of_queue, map_socket, unmap_socket
from netring_bpf.bpf.program import Program
from netring_bpf.errors import (
    InterfaceInUseError,
    KernelFeatureError,
    MemlockError,
    NetringError,
    OptionError,
    PermissionDeniedError,
    QueueBusyError,
    SyscallError,
)
from netring_bpf.filter import Filter
from netring_bpf.interface import Interface
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
    filter: Filter
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
    """An open backend: the reader with its rings and, for AF_XDP, the program and its link.

    ``fallback_reason``: why ``"auto"`` did not take AF_XDP; else None.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        reader: Reader,
        program: Program | None = None,
        link: XdpLink | None = None,
    ) -> None:
        self.backend = "tpacket_v3" if link is None else "af_xdp"
        self.reader = reader
        self.fallback_reason: str | None = None
        self._stack = stack
        self._program = program
        self._link = link

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

    def detach(self) -> None:
        """Redirect no more; what is in the rings can still be read. Idempotent."""
        if self._link is not None:
            self._link.close()

    def statistics(self) -> CaptureStatistics:
        """Return the books of the program and of the reader."""
        queues: tuple[QueueStatistics, ...] = ()
        if self._program is not None:
            rows = (
                QueueStatistics(queue, *counters_of_queue(self._program.counters_fd, queue))
                for queue in range(self._program.queues)
            )
            queues = tuple(row for row in rows if row.seen or row.queue == 0)
        return self.reader.statistics(self.backend, self.attach, queues)

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self._stack.close()


def open_rings(interface: Interface, options: BackendOptions) -> Rings:
    """Open the backend that ``options`` ask for, in the thread's network namespace."""
    if options.backend == "tpacket_v3":
        return _open_tpacket(interface, options)
    if options.backend == "af_xdp":
        return _open_xdp(interface, options)
    try:
        return _open_xdp(interface, options)
    except OptionError:
        raise
    except NetringError as error:
        _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", interface.name, error)
        rings = _open_tpacket(interface, options)
        rings.fallback_reason = str(error)
        return rings


def _open_tpacket(interface: Interface, options: BackendOptions) -> Rings:
    with contextlib.ExitStack() as undo:
        reader = undo.enter_context(Reader(options.flow))
        try:
            reader.add_tpacket(
                interface.index,
                options.filter,
                options.tpacket,
                ignore_outgoing=interface.loopback,
            )
        except SyscallError as error:
            raise _explain(error, interface.name) from error
        return Rings(undo.pop_all(), reader)


def _open_xdp(interface: Interface, options: BackendOptions) -> Rings:
    if not options.steal and (why := interface.host_traffic()):
        raise InterfaceInUseError(
            f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
            "reach the host; allow it with steal=True (--steal), or choose "
            "backend='tpacket_v3', which only listens",
            interface=interface.name,
        )
    with contextlib.ExitStack() as undo:
        program = undo.enter_context(Program.load(options.filter, queues=MAX_QUEUES))
        reader = undo.enter_context(Reader(options.flow))
        queues: set[int] = set()
        _add_queues(undo, interface, options.xdp, program, reader, queues)
        link = undo.enter_context(XdpLink.attach(interface, program.fd, options.xdp.mode))
        # Attaching can itself change the number of queues (virtio_net does).
        _add_queues(undo, interface, options.xdp, program, reader, queues)
        if link.mode is XdpMode.GENERIC:
            _log.warning(
                "%s: in generic mode frames longer than %d bytes are dropped and counted "
                "(rx_dropped): switch tso, gso and gro off where they occur (ethtool -K)",
                interface.name,
                options.xdp.chunk_size - 256,
            )
        return Rings(undo.pop_all(), reader, program, link)


def _add_queues(
    undo: contextlib.ExitStack,
    interface: Interface,
    options: XdpOptions,
    program: Program,
    reader: Reader,
    have: set[int],
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
            descriptor = reader.add_xsk(interface.index, queue, options)
        except SyscallError as error:
            raise _explain_queue(error, interface, queue, options) from error
        map_socket(program.xsks_map_fd, queue, descriptor)
        undo.callback(unmap_socket, program.xsks_map_fd, queue)
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
