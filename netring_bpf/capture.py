"""One capture of one interface: picks the backend, opens it, runs the reader's thread.

Order of opening: program → sockets → XSKMAP → link. Closing is the reverse: the link goes
first, so that no frame is redirected to a ring that is being taken down.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Literal, Self, TypeAlias

from netring_bpf.bpf.link import XdpLink, counters_of_queue, map_socket, unmap_socket
from netring_bpf.bpf.program import Program
from netring_bpf.errors import (
    ClosedError,
    InterfaceDownError,
    InterfaceError,
    InterfaceGoneError,
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
from netring_bpf.interface import Interface, LinkWatch, Promiscuous, in_namespace
from netring_bpf.records import Packet
from netring_bpf.ring.options import MAX_QUEUES, FlowOptions, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.ring.reader import EventBatch, Reader
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["Backend", "Capture"]

Backend: TypeAlias = Literal["auto", "af_xdp", "tpacket_v3"]
_BACKENDS = ("auto", "af_xdp", "tpacket_v3")
_log = logging.getLogger("netring_bpf.capture")


class Capture:
    """A capture of ``interface``, to read packets from, or for ``Netring`` to take events from.

    ``filter``: an expression of tcpdump's language; None matches every frame.
    ``backend``: ``"af_xdp"`` redirects matching frames away from the host; ``"tpacket_v3"``
    only listens; ``"auto"`` takes AF_XDP where it can be had and does no harm, else
    TPACKET_V3, and ``fallback_reason`` says why.
    ``steal``: allow AF_XDP on an interface that carries the host's own traffic.
    ``netns``: the network namespace of the interface, by name or path.

    Opened by ``open()`` or ``with``. Raises ``OptionError``, ``FilterError``, ``InterfaceError``,
    and whatever the chosen backend cannot do (see ``errors.py``).
    """

    def __init__(
        self,
        interface: str,
        *,
        filter: str | None = None,
        backend: Backend = "auto",
        steal: bool = False,
        xdp: XdpOptions | None = None,
        tpacket: TpacketOptions | None = None,
        flow: FlowOptions | None = None,
        netns: str | None = None,
    ) -> None:
        if backend not in _BACKENDS:
            raise OptionError(
                f"backend={backend!r}: must be one of {', '.join(_BACKENDS)}", option="backend"
            )
        self._name = interface
        self._wanted = backend
        self._steal = steal
        self._xdp = xdp or XdpOptions()
        self._tpacket = tpacket or TpacketOptions()
        self._flow = flow or FlowOptions()
        self._netns = netns
        self._filter = Filter(filter or "", snaplen=self._tpacket.snaplen)
        self._stack = contextlib.ExitStack()
        self._reader: Reader | None = None
        self._interface: Interface | None = None
        self._program: Program | None = None
        self._link: XdpLink | None = None
        self._watch: LinkWatch | None = None
        self._thread: threading.Thread | None = None
        self._backend = ""
        self._fallback_reason: str | None = None
        self._final: CaptureStatistics | None = None

    # -- what was chosen --

    @property
    def interface(self) -> str:
        """The interface's name."""
        return self._name

    @property
    def backend(self) -> str:
        """``"af_xdp"`` or ``"tpacket_v3"``: what is in use."""
        return self._backend

    @property
    def attach(self) -> str | None:
        """``"native"`` or ``"generic"`` XDP; None with TPACKET_V3."""
        return self._link.mode.value if self._link else None

    @property
    def attach_reason(self) -> str | None:
        """Why XDP is not native, where it is not."""
        return self._link.reason if self._link else None

    @property
    def fallback_reason(self) -> str | None:
        """Why ``backend="auto"`` took TPACKET_V3; None where it did not."""
        return self._fallback_reason

    @property
    def zero_copy(self) -> bool:
        """Whether AF_XDP shares its memory with the driver, instead of copying."""
        return self._backend == "af_xdp" and self._opened().zero_copy

    # -- opening --

    def open(self) -> None:
        """Open the capture. Blocks for about half a second while XDP is compiled."""
        if self._reader is not None or self._final is not None:
            raise ClosedError(f"capture on {self._name}: opened twice; make a new one")
        with contextlib.ExitStack() as undo, in_namespace(self._netns):
            interface = self._find()
            self._interface = interface
            if self._wanted == "tpacket_v3":
                self._open_tpacket(undo, interface)
            elif self._wanted == "af_xdp":
                self._open_xdp(undo, interface)
            else:
                self._open_best(undo, interface)
            undo.enter_context(Promiscuous(interface))
            self._watch = undo.enter_context(LinkWatch(interface))
            self._stack = undo.pop_all()

    def _find(self) -> Interface:
        interface = Interface.find(self._name)
        if not interface.up:
            raise InterfaceDownError(
                f"capture on {self._name}: it is down; bring it up (ip link set {self._name} up)",
                interface=self._name,
            )
        if not interface.ethernet:
            raise InterfaceError(
                f"capture on {self._name}: its frames have no Ethernet header, which is not "
                "supported yet",
                interface=self._name,
            )
        return interface

    def _open_best(self, undo: contextlib.ExitStack, interface: Interface) -> None:
        try:
            with contextlib.ExitStack() as attempt:
                self._open_xdp(attempt, interface)
                undo.push(attempt.pop_all())
        except OptionError:
            raise
        except NetringError as error:
            self._program = self._link = None
            self._fallback_reason = str(error)
            _log.warning("%s: TPACKET_V3 instead of AF_XDP: %s", self._name, error)
            self._open_tpacket(undo, interface)

    def _open_tpacket(self, undo: contextlib.ExitStack, interface: Interface) -> None:
        reader = undo.enter_context(Reader(self._flow))
        try:
            reader.add_tpacket(
                interface.index, self._filter, self._tpacket, ignore_outgoing=interface.loopback
            )
        except SyscallError as error:
            raise self._explain(error, interface) from error
        self._reader = reader
        self._backend = "tpacket_v3"

    def _open_xdp(self, undo: contextlib.ExitStack, interface: Interface) -> None:
        if not self._steal and (why := interface.host_traffic()):
            raise InterfaceInUseError(
                f"redirect the traffic of {interface.name}: {why}, and redirected packets never "
                "reach the host; allow it with steal=True (--steal), or choose "
                "backend='tpacket_v3', which only listens",
                interface=interface.name,
            )
        program = undo.enter_context(Program.load(self._filter, queues=MAX_QUEUES))
        reader = undo.enter_context(Reader(self._flow))
        queues: set[int] = set()
        self._add_queues(undo, interface, program, reader, queues)
        link = undo.enter_context(XdpLink.attach(interface, program.fd, self._xdp.mode))
        # Attaching can itself change the number of queues (virtio_net does).
        self._add_queues(undo, interface, program, reader, queues)
        if link.mode is XdpMode.GENERIC:
            _log.warning(
                "%s: in generic mode frames longer than %d bytes are dropped and counted "
                "(rx_dropped): switch tso, gso and gro off where they occur (ethtool -K)",
                interface.name,
                self._xdp.chunk_size - 256,
            )
        self._program, self._link, self._reader = program, link, reader
        self._backend = "af_xdp"

    def _add_queues(
        self,
        undo: contextlib.ExitStack,
        interface: Interface,
        program: Program,
        reader: Reader,
        have: set[int],
    ) -> None:
        count = interface.rx_queues()
        if self._xdp.queues is None and count > MAX_QUEUES:
            raise KernelFeatureError(
                f"capture on {interface.name}: it has {count} receive queues, one capture takes "
                f"{MAX_QUEUES}; name some in XdpOptions(queues=…), lower their number "
                "(ethtool -L), or choose backend='tpacket_v3'",
                feature="queues",
            )
        wanted = self._xdp.queues if self._xdp.queues is not None else tuple(range(count))
        for queue in wanted:
            if queue in have:
                continue
            # Bind first: a slot with an unbound socket drops frames and counts them nowhere.
            try:
                descriptor = reader.add_xsk(interface.index, queue, self._xdp)
            except SyscallError as error:
                raise self._explain(error, interface, queue) from error
            map_socket(program.xsks_map_fd, queue, descriptor)
            undo.callback(unmap_socket, program.xsks_map_fd, queue)
            have.add(queue)

    def _explain(
        self, error: SyscallError, interface: Interface, queue: int | None = None
    ) -> NetringError:
        """The errors of opening a ring, in words that name the remedy."""
        where = interface.name if queue is None else f"queue {queue} of {interface.name}"
        match error.errno:
            case errno.EPERM | errno.EACCES:
                return PermissionDeniedError(
                    f"{error.call} on {where}: the process lacks CAP_NET_RAW; run it as root, or "
                    "give it CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW",
                    capability="CAP_NET_RAW",
                )
            case errno.ENOBUFS if queue is not None:
                needed = self._xdp.chunks * self._xdp.chunk_size
                limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
                return MemlockError(
                    f"{error.call} on {where}: its UMEM of {needed >> 10} KiB is over the "
                    f"memory-lock limit of {limit >> 10} KiB; raise it (ulimit -l, systemd: "
                    "LimitMEMLOCK=), give CAP_IPC_LOCK, or make XdpOptions(chunks=, ring_size=) "
                    "smaller",
                    needed=needed,
                    limit=limit,
                )
            case errno.EBUSY if queue is not None:
                return QueueBusyError(
                    f"{error.call} on {where}: another AF_XDP socket is bound to the queue; end "
                    "its process, choose other queues, or backend='tpacket_v3'",
                    interface=interface.name,
                    queue=queue,
                )
            case errno.EINVAL if queue is not None:
                return OptionError(
                    f"{error.call} on {where}: there is no such queue (the interface has "
                    f"{interface.rx_queues()})",
                    option="queues",
                )
            case errno.EAFNOSUPPORT | errno.EOPNOTSUPP | errno.ENOPROTOOPT:
                return KernelFeatureError(
                    f"{error.call} on {where}: {error.strerror}; this kernel was built without it",
                    feature=error.call.removeprefix("open an ").removeprefix("open a "),
                )
            case _:
                return error

    # -- packets: synchronous, for those who ask --

    def packets(
        self, *, count: int | None = None, timeout: float | None = None
    ) -> Iterator[Packet]:
        """Yield frames as they come: at most ``count``, until ``timeout`` seconds bring none.

        Each is a copy of what was captured, up to the snaplen. Ends at ``close()`` from another
        thread. Not together with flow events. Raises ``InterfaceGoneError``.
        """
        if self._thread is not None:
            raise ClosedError(f"capture on {self._name}: it is giving flow events already")
        left = count
        while left is None or left > 0:
            try:
                batch = self._opened().packets(
                    left or 1 << 30, 3600.0 if timeout is None else timeout
                )
            except SyscallError as error:
                raise self._gone(error) from error
            if not batch:
                return
            left = None if left is None else left - len(batch)
            yield from batch

    def _gone(self, error: SyscallError) -> NetringError:
        if error.errno == errno.ENODEV:
            return InterfaceGoneError(
                f"capture on {self._name}: the interface is gone (deleted, or moved to another "
                "namespace)",
                interface=self._name,
            )
        return error

    # -- flow events: the thread, and what it hands over --

    def start(self, done: Callable[[NetringError | None], None]) -> None:
        """Start the reader's thread. ``done`` is called in it when it ends, with why."""
        reader = self._opened()

        def run() -> None:
            rc = reader.run()
            call = "read the rings"
            done(None if rc == 0 else self._gone(SyscallError(call, -rc)))

        if self._thread is not None:
            raise ClosedError(f"capture on {self._name}: started twice")
        self._thread = threading.Thread(target=run, name="netring-reader", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when ``take()`` has events."""
        return self._opened().fileno()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` flow events. Never blocks."""
        return self._opened().take(limit)

    @property
    def watch(self) -> LinkWatch:
        """The link messages of the interface."""
        if self._watch is None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        return self._watch

    def stop(self) -> None:
        """Detach, read what is still in the rings, and end the thread. Idempotent; blocks."""
        if self._reader is None:
            return
        if self._link is not None:
            self._link.close()
        self._reader.stop()
        if self._thread is not None:
            self._thread.join()

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After ``stop()``: end the live flows and yield all events that are left."""
        reader = self._opened()
        left = reader.flush()
        while batch := reader.take(limit):
            yield batch
            if left:
                left = reader.flush()

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after ``close()``."""
        if self._final is not None:
            return self._final
        queues: tuple[QueueStatistics, ...] = ()
        if self._program is not None:
            rows = (
                QueueStatistics(queue, *counters_of_queue(self._program.counters_fd, queue))
                for queue in range(self._program.queues)
            )
            queues = tuple(row for row in rows if row.seen or row.queue == 0)
        return self._opened().statistics(self._backend, self.attach, queues)

    # -- closing --

    def _opened(self) -> Reader:
        if self._reader is None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        return self._reader

    def close(self) -> None:
        """Detach and free everything. Idempotent; may block for some milliseconds."""
        if self._reader is None:
            return
        self.stop()
        self._reader.flush()
        self._final = self.statistics()
        self._reader = None
        self._program = None
        self._stack.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
