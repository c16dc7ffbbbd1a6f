"""One capture of one interface: opens it, runs the reader's thread, hands out what it reads."""

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
    """A capture of ``interface``, to read packets from, or for ``Netring`` to take events from.

    ``filter``: an expression of tcpdump's language or a ``Filter``; None matches every frame.
    A mapping of names to those captures what any of them matches, and counts each apart.
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

    # -- what was chosen --

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
        """False: an interface does not end by itself."""
        return False

    @property
    def snaplen(self) -> int:
        """Bytes of a frame that are captured."""
        return self._options.filter.snaplen

    @property
    def expression(self) -> str:
        """The filter, in tcpdump's language; of several with names, all of them."""
        return self._options.filter.expression

    # -- opening --

    def open(self) -> None:
        """Open the capture. Blocks for about half a second while XDP is compiled."""
        if self._rings is not None:
            raise ClosedError(f"capture on {self._name}: opened twice; make a new one")
        with contextlib.ExitStack() as undo, in_namespace(self._netns):
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
        """Put another filter in force, while frames come in: from any thread.

        No frame is seen by both filters or by none; what the old one took and is still in the
        ring is still read. The counters go on, those of names that stay as well. Blocks: for
        some 10 ms, and for half a second when the filter is new to the cache. On an error the
        old filter stays. Raises ``FilterError``, ``OptionError``, ``ClosedError``, and what
        opening raises.
        """
        wanted = FilterSet.of(filter)
        with self._swapping, in_namespace(self._netns):
            if self._stopped:
                raise ClosedError(f"capture on {self._name}: it is being closed")
            self._opened().set_filter(wanted)

    # -- packets: synchronous, for those who ask --

    def packets(
        self, *, count: int | None = None, timeout: float | None = None
    ) -> Iterator[Packet]:
        """Yield frames as they come: at most ``count``, until ``timeout`` seconds bring none.

        Each is a copy of what was captured, up to the snaplen. Ends at ``close()`` from another
        thread. Not together with flow events. Raises ``InterfaceGoneError``.
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
        """Return up to ``limit`` frames as blocks of pcapng; None: ``timeout`` brought none.

        For ``Recorder``. Not together with flow events. Raises ``InterfaceGoneError``.
        """
        if self._started:
            raise ClosedError(f"capture on {self._name}: it is giving flow events already")
        try:
            return self._reader().blocks(limit, timeout)
        except SyscallError as error:
            raise self._gone(error) from error

    def quiesce(self) -> None:
        """Take in nothing new; what is in the rings can still be read. Idempotent."""
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

    # -- flow events: the thread, and what it hands over --

    def start(self, done: Callable[[NetringError | None], None]) -> None:
        """Start the readers' threads. ``done`` is called in the last that ends, with why.

        Raises ``OptionError`` for a CPU of ``cpus`` that is not there, or not allowed.
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
        """Detach, read what is still in the rings, and end the thread. Idempotent; blocks."""
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
        self.stop()
        self._rings.readers.flush()
        self._final = self._rings.statistics()
        self._stack.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
