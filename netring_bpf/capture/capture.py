"""Captures one interface: opens it, runs its readers, and hands out packets or flow events."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from typing import Self

from netring_bpf.capture.backend import Backend, BackendOptions, HasOpened, Opened
from netring_bpf.capture.choose import open_rings
from netring_bpf.capture.open_backend import Rings
from netring_bpf.errors import (
    ClosedError,
    InterfaceDownError,
    InterfaceError,
    InterfaceGoneError,
    NetringError,
    SyscallError,
    limits_explained,
)
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import Packet
from netring_bpf.filter.filter_set import FilterLike, FilterSet
from netring_bpf.interface import Interface, LinkWatch, Promiscuous, in_namespace
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.options import TpacketOptions, XdpOptions
from netring_bpf.ring.reader import Blocks
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics

__all__ = ["Capture"]


class Capture(HasOpened):
    """Captures ``interface``: gives its packets, or flow events for ``Netring``.

    ``filter``: an expression of tcpdump's language or a ``Filter``; None matches every frame.
    A mapping of names to either captures every frame that one of them matches, and counts the
    matches of each.
    ``backend``: ``"af_xdp"`` redirects matching frames away from the host. ``"tpacket_v3"`` only
    listens. ``"auto"`` takes AF_XDP where it is available, loses nothing, and the kernel shows that
    nobody else uses the interface; else TPACKET_V3, and ``fallback_reason`` gives the reason.
    ``steal``: allow AF_XDP on any interface, though it takes frames away from its users.
    ``netns``: the network namespace of the interface, by name or path.

    Opened by ``open()`` or ``with``. Raises ``OptionError``, ``FilterError``, ``InterfaceError``,
    and the errors of the chosen backend (see ``errors.py``).
    """

    def __init__(
        self,
        interface: str,
        *,
        filter: FilterLike = None,
        backend: Backend = "auto",
        steal: bool = False,
        xdp: XdpOptions | None = None,
        tpacket: TpacketOptions | None = None,
        flow: FlowOptions | None = None,
        netns: str | None = None,
    ) -> None:
        self._name = interface
        self._netns = netns
        self._options = BackendOptions(
            backend=backend,
            filter=FilterSet.of(filter),
            steal=steal,
            xdp=xdp or XdpOptions(),
            tpacket=tpacket or TpacketOptions(),
            flow=flow or FlowOptions(),
        )
        self._stack = contextlib.ExitStack()
        self._rings: Rings | None = None
        self._watch: LinkWatch | None = None
        self._started = False
        self._final: CaptureStatistics | None = None
        self._swapping = threading.Lock()
        self._stopped = False

    # -- the source --

    @property
    def interface(self) -> str:
        """The interface's name."""
        return self._name

    @property
    def opened(self) -> Opened:
        """The backend in use and how it was opened, as one value."""
        return self._rings.opened if self._rings else Opened()

    @property
    def finite(self) -> bool:
        """False: an interface never ends by itself."""
        return False

    @property
    def snaplen(self) -> int:
        """The largest number of bytes captured of a frame."""
        return self._options.filter.snaplen

    @property
    def expression(self) -> str:
        """The filter in tcpdump's language; named filters are joined by ``or``."""
        return self._options.filter.expression

    # -- opening --

    def open(self) -> None:
        """Open the capture. Blocks while XDP is compiled, unless the program is in the cache."""
        if self._rings is not None:
            raise ClosedError(f"capture on {self._name}: opened twice; make a new one")
        with (
            limits_explained(f"capture on {self._name}"),
            contextlib.ExitStack() as undo,
            in_namespace(self._netns),
        ):
            interface = self._find()
            rings = open_rings(interface, self._options)
            undo.callback(rings.close)
            undo.enter_context(Promiscuous(interface))
            self._watch = undo.enter_context(LinkWatch(interface))
            self._rings = rings
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

    # -- another filter --

    def set_filter(self, filter: FilterLike) -> None:
        """Swap the filter while frames come in. May be called from any thread.

        Each frame meets exactly one of the two filters; frames that the old one put into a ring
        are still read. All counters go on, and so do those of names that both filters have. Blocks
        until the kernel has made the swap, and while a filter that is not in the cache is compiled.
        On an error the old filter stays. Raises ``FilterError``, ``OptionError``, ``ClosedError``,
        and the errors of opening.
        """
        wanted = FilterSet.of(filter)
        with self._swapping, in_namespace(self._netns):
            if self._stopped:
                raise ClosedError(f"capture on {self._name}: it is being closed")
            self._opened().set_filter(wanted)

    # -- packets, read by the caller's own thread --

    def packets(
        self, *, count: int | None = None, timeout: float | None = None
    ) -> Iterator[Packet]:
        """Yield at most ``count`` frames as they come, until ``timeout`` seconds bring none.

        Each packet is a copy of the frame, up to the snaplen. The iteration ends when another
        thread calls ``close()``. Packets and flow events exclude each other. Raises
        ``InterfaceGoneError``, ``ClosedError``.
        """
        if self._started:
            raise ClosedError(f"capture on {self._name}: it is giving flow events already")
        left = count
        while left is None or left > 0:
            try:
                batch = self._reader().packets(
                    left or 1 << 30, 3600.0 if timeout is None else timeout
                )
            except SyscallError as error:
                raise self._gone(error) from error
            if not batch:
                return
            left = None if left is None else left - len(batch)
            yield from batch

    def blocks(self, limit: int, timeout: float) -> Blocks | None:
        """Return up to ``limit`` frames as pcapng blocks, or None if ``timeout`` brought none.

        ``Recorder`` reads these. Blocks and flow events exclude each other. Raises
        ``InterfaceGoneError``, ``ClosedError``.
        """
        if self._started:
            raise ClosedError(f"capture on {self._name}: it is giving flow events already")
        try:
            return self._reader().blocks(limit, timeout)
        except SyscallError as error:
            raise self._gone(error) from error

    def quiesce(self) -> None:
        """Take in no new frames; those in the rings can still be read. Idempotent."""
        self._opened().detach()
        self._reader().quiesce()

    def _gone(self, error: SyscallError) -> NetringError:
        if error.errno == errno.ENODEV:
            return InterfaceGoneError(
                f"capture on {self._name}: the interface is gone (deleted, or moved to another "
                "namespace)",
                interface=self._name,
            )
        return error

    # -- flow events, handed over by the readers' threads --

    def start(self, done: Callable[[NetringError | None], None]) -> None:
        """Start the readers' threads.

        The last thread to end calls ``done`` with the error, or None after ``stop()``. Raises
        ``OptionError`` for a CPU of ``cpus`` that is missing or not allowed.
        """
        rings = self._opened()
        if self._started:
            raise ClosedError(f"capture on {self._name}: started twice")

        def ended(rc: int) -> None:
            done(None if rc == 0 else self._gone(SyscallError("read the rings", -rc)))

        rings.readers.start(rings.cpus, ended)
        self._started = True

    def fileno(self) -> int:
        """Return the descriptor that is readable when ``take()`` has events."""
        return self._reader().fileno()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` flow events. Never blocks."""
        return self._reader().take(limit)

    @property
    def watch(self) -> LinkWatch:
        """The link messages of the interface."""
        if self._watch is None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        return self._watch

    def stop(self) -> None:
        """Detach, read the rings to their end, and end the threads. Idempotent; blocks."""
        if self._rings is None or self._final is not None:
            return
        with self._swapping:
            self._stopped = True
        self._rings.detach()
        self._rings.readers.stop()
        self._rings.readers.join()
        self._rings.check_busy_poll()

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After ``stop()``: end the live flows and yield all events that are left."""
        return self._reader().finish(limit)

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones after ``close()``."""
        if self._final is not None:
            return self._final
        return self._opened().statistics()

    # -- closing --

    def _opened(self) -> Rings:
        if self._rings is None or self._final is not None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        return self._rings

    def _reader(self) -> Readers:
        return self._opened().readers

    def close(self) -> None:
        """Detach and free everything. Idempotent; may block for some milliseconds."""
        if self._rings is None or self._final is not None:
            return
        with self._stack:  # it frees everything even if the books cannot be read
            self.stop()
            self._rings.readers.flush()
            self._final = self._last_books(self._rings)

    def _last_books(self, rings: Rings) -> CaptureStatistics:
        """Return the final books; if the maps cannot be read, keep those of the readers."""
        try:
            return rings.statistics()
        except NetringError:
            opened = rings.opened
            self._final = rings.readers.statistics(opened.backend, opened.attach, (), {})
            raise

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
