"""Captures one interface: opens it, runs its readers, and hands out packets or flow events."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self, TypeVar

from netring_bpf.capture.af_xdp import XdpRings
from netring_bpf.capture.answer import InUse, answer
from netring_bpf.capture.backend import Backend, BackendOptions, HasOpened, Opened
from netring_bpf.capture.choose import check_capturable, open_rings
from netring_bpf.capture.gate import Gate
from netring_bpf.capture.guard import Guard, Sight, look
from netring_bpf.capture.open_backend import Rings
from netring_bpf.errors import (
    ClosedError,
    ForkError,
    InterfaceGoneError,
    InterfaceInUseError,
    NetringError,
    SyscallError,
    limits_explained,
    printable,
)
from netring_bpf.events.batch import EventBatch
from netring_bpf.events.event import BackendChanged, Event, Packet
from netring_bpf.filter.filter_set import FilterLike, FilterSet
from netring_bpf.fork import close_in_child, held_off
from netring_bpf.interface import Interface, LinkWatch, Promiscuous, in_namespace
from netring_bpf.ring.flow_options import FlowOptions
from netring_bpf.ring.names import AddressNames
from netring_bpf.ring.options import TpacketOptions, XdpOptions
from netring_bpf.ring.reader import Blocks, SharedSums, Span
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics

__all__ = ["Capture"]

_log = logging.getLogger("netring_bpf.capture")
_LOOK = 0.1  # seconds that one call of the C core may wait: signals are acted upon in between
_Read = TypeVar("_Read", list[Packet], Blocks)


class Capture(HasOpened):
    """Captures ``interface``: gives its packets, or flow events for ``Netring``.

    ``filter``: an expression of tcpdump's language or a ``Filter``; None matches every frame.
    A mapping of names to either captures every frame that one of them matches, and counts the
    matches of each.
    ``backend``: ``"af_xdp"`` redirects matching frames away from the host. ``"tpacket_v3"`` only
    listens. ``"auto"`` takes AF_XDP where it is available, loses nothing, and the kernel shows that
    nobody else uses the interface; else TPACKET_V3, and ``fallback_reason`` gives the reason.
    ``steal``: allow AF_XDP on any interface, though it takes frames away from its users.
    ``netns``: the network namespace of the interface, by name or path. ``sums``: counts the flows
    by interval, for ``Netring``.

    Opened by ``open()`` or ``with``. Raises ``OptionError``, ``FilterError``, ``InterfaceError``,
    and the errors of the chosen backend (see ``errors.py``).

    Any thread may close it, and take its statistics, at any time. It belongs to the process that
    opened it: a forked child has no part in it, and its methods raise ``ForkError`` there. One that
    is dropped without being closed is closed, with a ``ResourceWarning``.
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
        sums: SharedSums | None = None,
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
            sums=sums,
        )
        self._stack = contextlib.ExitStack()
        self._rings: Rings | None = None
        self._names: AddressNames | None = None
        self._watch: LinkWatch | None = None
        self._started = False
        self._final: CaptureStatistics | None = None
        self._swapping = threading.RLock()
        self._stopped = False
        self._reading = threading.RLock()
        self._gate = Gate()
        self._books = threading.RLock()
        self._promiscuous: Promiscuous | None = None
        self._error: NetringError | None = None  # that ended the capture from within
        self._tell: Callable[[Event], None] | None = None
        self._untold: list[Event] = []  # until ``start()`` says whom to tell
        self._owner: int | None = None  # the process that opened it

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

    @property
    def names(self) -> AddressNames:
        """The names of addresses, as the packets told them, also after closing.

        Raises ``ClosedError`` if the capture is not open yet.
        """
        if self._names is None:
            raise ClosedError(f"capture on {self._name}: not open yet")
        return self._names

    # -- opening --

    def open(self) -> None:
        """Open the capture. Blocks while XDP is compiled, unless the program is in the cache."""
        self._check_owner()
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
            with held_off():
                self._promiscuous = undo.enter_context(Promiscuous(interface))
                self._watch = undo.enter_context(LinkWatch(interface))
                close_in_child(self)
            self._owner = os.getpid()
            self._rings = rings
            self._names = rings.readers.names
            _log.info("%s", printable(f"{self._name}: {self._how(rings)}"))
            me = weakref.ref(self)  # the guard's thread must not keep a capture that was dropped

            def answer(before: Sight, now: Sight) -> bool:
                capture = me()
                return capture is not None and capture._on_sight(before, now)  # noqa: SLF001

            try:
                undo.enter_context(contextlib.closing(Guard(interface, answer)))
            except BaseException:
                self._rings = None
                raise
            self._stack = undo.pop_all()

    def _how(self, rings: Rings) -> str:
        """Say how the capture was opened."""
        opened, wanted = rings.opened, self._options.filter
        told = [f"captured by {opened.backend}, with {len(rings.readers.each)} readers"]
        if opened.attach is not None:
            told.append(f"XDP is {opened.attach}" + (", zero copy" if opened.zero_copy else ""))
        if opened.xdp is not None:
            xdp = opened.xdp
            told.append(
                f"{xdp.ring_size} descriptors, {xdp.chunks} chunks of {xdp.chunk_size} bytes"
            )
        else:
            ring = self._options.tpacket
            told.append(f"{ring.block_count} blocks of {ring.block_size} bytes")
        count = sum(len(one.instructions) for one in wanted.filters)
        told.append(f"a filter of {count} instructions, {wanted.snaplen} bytes of a frame")
        return "; ".join(told)

    def _find(self) -> Interface:
        interface = Interface.find(self._name)
        check_capturable(interface)
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
        with self._use() as rings, self._swapping, in_namespace(self._netns):
            if self._stopped:
                raise ClosedError(f"capture on {self._name}: it is being closed")
            rings.set_filter(wanted)

    # -- packets, read by the caller's own thread --

    def packets(
        self, *, count: int | None = None, timeout: float | None = None
    ) -> Iterator[Packet]:
        """Yield at most ``count`` frames as they come, until ``timeout`` seconds bring none.

        Each packet is a copy of the frame, up to the snaplen. The iteration ends when another
        thread, or a signal handler, calls ``close()`` or ``stop()``; a handler's exception, such as
        ``KeyboardInterrupt``, ends it at once. Packets and flow events exclude each other. One
        thread reads at a time. Raises ``InterfaceGoneError``, ``ClosedError``, ``ForkError``.
        """
        self._check_open()
        left = count
        while left is None or left > 0:
            batch = self._read(partial(_packets, 1 << 30 if left is None else left), timeout)
            if not batch:
                return
            left = None if left is None else left - len(batch)
            yield from batch

    def blocks(self, limit: int, timeout: float) -> Blocks | None:
        """Return up to ``limit`` frames as pcapng blocks, or None if ``timeout`` brought none.

        None also when another thread closes the capture meanwhile. ``Recorder`` reads these. Blocks
        and flow events exclude each other. Raises ``InterfaceGoneError``, ``ClosedError``,
        ``ForkError``.
        """
        self._check_open()
        return self._read(partial(_blocks, limit), timeout)

    def _read(
        self, ask: Callable[[Readers, float], _Read | None], timeout: float | None
    ) -> _Read | None:
        """Ask until there are frames, the timeout is over, or the capture ends (None)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK if deadline is None else max(0.0, deadline - time.monotonic())
            rings, found = self._rings, None
            with self._gate.lock():
                if rings is not None and not self._gate.closed:
                    found = self._ask(rings.readers, ask, min(left, _LOOK))
            self._gate.settle()
            if found:
                return found
            if rings is None or self._gate.closed or rings.readers.stopping:
                if self._error is not None:
                    raise self._error
                return None
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _ask(
        self, readers: Readers, ask: Callable[[Readers, float], _Read | None], wait: float
    ) -> _Read | None:
        self._begin_reading()
        try:
            return ask(readers, wait)
        except SyscallError as error:
            raise self._gone(error) from error
        finally:
            self._reading.release()

    def _begin_reading(self) -> None:
        """Read the rings until ``_reading`` is released; nobody else may meanwhile."""
        if not self._reading.acquire(blocking=False):
            raise ClosedError(f"capture on {self._name}: another thread is reading it")
        if self._started:
            self._reading.release()
            raise ClosedError(f"capture on {self._name}: it is giving flow events already")

    def quiesce(self) -> None:
        """Take in no new frames; those in the rings can still be read. Idempotent."""
        with self._use() as rings:
            with self._swapping:
                self._stopped = True
                rings.detach()
            rings.readers.quiesce()

    def _gone(self, error: SyscallError) -> NetringError:
        if error.errno == errno.ENODEV:
            return InterfaceGoneError(
                f"capture on {self._name}: the interface is gone (deleted, or moved to another "
                "namespace)",
                interface=self._name,
            )
        return error

    # -- flow events, handed over by the readers' threads --

    def start(
        self,
        done: Callable[[NetringError | None], None],
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        """Start the readers' threads.

        The last thread to end calls ``done`` with the error, or None after ``stop()``. A change of
        the backend is told to ``tell``, in a thread of the capture. Raises ``OptionError`` for a
        CPU of ``cpus`` that is missing or not allowed.
        """
        me = weakref.ref(self)  # the threads must not keep a capture that was dropped

        def ended(rc: int) -> None:
            capture = me()
            if capture is not None:
                error = SyscallError("read the rings", -rc)
                done(capture._error if rc == 0 else capture._gone(error))  # noqa: SLF001

        with self._use() as rings:
            self._begin_reading()
            try:
                self._started = True
                self._tell = tell
                while tell is not None and self._untold:
                    tell(self._untold.pop(0))
                rings.readers.start(rings.cpus, ended)
            except BaseException:
                self._started = False
                raise
            finally:
                self._reading.release()

    def fileno(self) -> int:
        """Return the descriptor that is readable when ``take()`` has events."""
        with self._use() as rings:
            return rings.readers.fileno()

    def take(self, limit: int) -> EventBatch:
        """Take up to ``limit`` flow events. Never blocks."""
        with self._use() as rings:
            return rings.readers.take(limit)

    def take_interval(self) -> Span | None:
        """Add an interval that is over to the sums, and return when it was; None: there is none."""
        with self._use() as rings:
            return rings.readers.take_interval()

    def take_last_interval(self) -> Span:
        """After ``finish()``: add all that was counted and is not in the sums yet."""
        with self._use() as rings:
            return rings.readers.take_last_interval()

    @property
    def watch(self) -> LinkWatch:
        """The link messages of the interface."""
        if self._watch is None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        return self._watch

    def flow_time(self) -> int:
        """Return the time that flows have now, in nanoseconds since the Unix epoch.

        It begins with the wall clock and then neither runs back nor jumps (docs/flows.md).
        """
        with self._use() as rings:
            return rings.readers.each[0].flow_time()

    def stop(self) -> None:
        """Detach, read the rings to their end, and end the threads. Idempotent; blocks."""
        if not self._is_ours():
            return
        with contextlib.suppress(ClosedError), self._use() as rings:
            with self._swapping:
                self._stopped = True
                rings.detach()
            rings.readers.stop()
            rings.readers.join()
            rings.check_busy_poll()

    def finish(self, limit: int) -> Iterator[EventBatch]:
        """After ``stop()``: end the live flows and yield all events that are left."""
        with self._use() as rings:
            batches = rings.readers.finish(limit)
        while True:
            with self._use():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones once ``close()`` was called.

        From any thread, also beside ``close()``. Raises ``ClosedError`` before ``open()``, and
        ``ForkError``.
        """
        self._check_owner()
        if self._rings is None:
            raise ClosedError(f"capture on {self._name}: it is not open")
        # Nothing is freed before the final books are there.
        with self._gate.lock(), self._books:
            books = self._final or self._rings.statistics()
        self._gate.settle()
        return books

    # -- what the guard sees --

    def _on_sight(self, before: Sight, now: Sight) -> bool:
        """Answer what has changed, in the guard's thread; return whether it is to go on."""
        with contextlib.suppress(ClosedError), self._use() as rings:
            if self._stopped:
                return False
            try:
                found = answer(rings, self._options, before, now, self._swapping)
                if found is not None and look(now.interface.index) is None:
                    return False  # it is gone meanwhile, which the readers tell
                if isinstance(found, InUse):
                    self._give_back(found.reason)
                elif found is not None:
                    self._end(found.error)
            except SyscallError as error:
                self._end(self._gone(error))
            except NetringError as error:
                self._end(error)
            return self._error is None
        return False

    def _give_back(self, reason: str) -> None:
        """Let the host have its frames at once; then go on by TPACKET_V3, if that is allowed."""
        rings = self._rings
        assert isinstance(rings, XdpRings)
        rings.hand_back()
        if self._options.backend != "auto":
            self._end(
                InterfaceInUseError(
                    f"redirect the traffic of {self._name}: {reason}, since the capture began; its "
                    "frames go to the host again. Allow redirecting with steal=True (--steal), or "
                    "choose backend='tpacket_v3', which only listens",
                    interface=self._name,
                )
            )
            return
        with self._swapping:
            if self._stopped:
                return
            self._rings = rings.go_on_by_tpacket(self._options.tpacket, reason)
            self._rings.announce(f"TPACKET_V3 instead of AF_XDP from now on: {reason}")
        now = rings.readers.each[0].flow_time()
        event = BackendChanged(now, self._name, self._rings.opened.backend, reason)
        if self._tell is None:
            self._untold.append(event)
        else:
            self._tell(event)

    def _end(self, error: NetringError) -> None:
        """End the capture from within by an error, which its readers raise or tell."""
        with self._swapping:
            if self._stopped or self._rings is None:
                return
            self._stopped = True
            self._error = error
            _log.error("%s", error)
            self._rings.detach()
        self._rings.readers.stop()

    # -- closing --

    def _is_ours(self) -> bool:
        return self._owner in {None, os.getpid()}

    def _check_owner(self) -> None:
        if not self._is_ours():
            raise ForkError(
                f"capture on {self._name}: process {self._owner} opened it, and this is a forked "
                "child, which has no part in it; open another one here"
            )

    def _check_open(self) -> None:
        with self._use():
            pass

    @contextlib.contextmanager
    def _use(self) -> Iterator[Rings]:
        """Use the rings in the block, which keeps them. Raises ``ClosedError``, ``ForkError``."""
        self._check_owner()
        try:
            with self._gate.lock():
                if self._rings is None or self._gate.closed:
                    raise ClosedError(f"capture on {self._name}: it is not open")
                yield self._rings
        finally:
            self._gate.settle()

    def close(self) -> None:
        """Detach and free everything. Idempotent; may block for some milliseconds.

        From any thread, and from a signal handler. In a forked child it does nothing.
        """
        if self._rings is None or not self._is_ours():
            return
        self.stop()
        self._gate.close(self._free)

    def _free(self) -> None:
        assert self._rings is not None
        try:
            self._rings.readers.flush()
            self._rings.readers.discard()
            with self._books:
                self._final = self._last_books(self._rings)
        finally:  # it frees everything even if the books cannot be read
            self._stack.close()

    def _last_books(self, rings: Rings) -> CaptureStatistics:
        """Return the final books; if the maps cannot be read, keep those of the readers."""
        try:
            return rings.statistics()
        except NetringError:
            opened = rings.opened
            self._final = rings.readers.statistics(opened.backend, opened.attach, (), {})
            raise

    def abandon(self) -> None:
        """In a forked child: close its copies of what the capture holds itself."""
        if self._promiscuous is not None:
            self._promiscuous.close()
        if self._watch is not None:
            self._watch.close()

    def __del__(self) -> None:
        # Nothing is set where ``__init__`` has failed.
        if getattr(self, "_rings", None) is None or self._final is not None or not self._is_ours():
            return
        try:
            warnings.warn(
                f"unclosed capture on {self._name}", ResourceWarning, stacklevel=2, source=self
            )
        finally:
            self.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _packets(limit: int, readers: Readers, wait: float) -> list[Packet]:
    return readers.packets(limit, wait)


def _blocks(limit: int, readers: Readers, wait: float) -> Blocks | None:
    return readers.blocks(limit, wait)
