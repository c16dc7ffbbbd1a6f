"""The front door: a capture, its broadcast and its sinks, as one asyncio context manager.

The first capture of an interface loads the modules that a file does not need: pyroute2 is slow to
import.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from netring_bpf.broadcast.broadcast import BatchSubscriber, FlowBroadcast, FlowSubscriber
from netring_bpf.broadcast.event_loop import event_loop
from netring_bpf.broadcast.file_pump import FilePump
from netring_bpf.broadcast.subscribable import Subscribable
from netring_bpf.broadcast.subscriber import OnError
from netring_bpf.capture.backend import HasOpened, Opened
from netring_bpf.capture.description import changed_options, describe, filter_text
from netring_bpf.capture.replay import Replay
from netring_bpf.errors import (
    ClosedError,
    EventLoopError,
    ForkError,
    InterfaceGoneError,
    InternalError,
    NetringError,
    OptionError,
    SinkError,
    limits_explained,
    printable,
)
from netring_bpf.events.event import (
    AppEvent,
    BackendChanged,
    CaptureError,
    Event,
    LinkDown,
    LinkUp,
    NeighbourSeen,
    SinkFailed,
    StatsUpdated,
    Top,
)
from netring_bpf.events.select import Kinds, check_made, classes_of
from netring_bpf.netring_statistics import NetringStatistics
from netring_bpf.sinks.base import ReadsBooks, Sink, SinkStatistics

if TYPE_CHECKING:
    from types import TracebackType

    from netring_bpf.aggregate import StatsOptions
    from netring_bpf.aggregate.options import Network
    from netring_bpf.aggregate.watch import StatsWatch
    from netring_bpf.capture import (
        AddressNames,
        Backend,
        FilterLike,
        FlowOptions,
        Source,
        TpacketOptions,
        XdpOptions,
    )
    from netring_bpf.devices import DeviceOptions, DeviceTable
    from netring_bpf.devices.watch import DeviceWatch

__all__ = ["Netring", "NetringStatistics"]

_log = logging.getLogger("netring_bpf")
_BUFFER: Final = 4096  # events
_NO_LINK: Final = "the link is down; frames come when it is up"
_ONLINE: Final = 300 * 1_000_000_000  # ns since a device was seen, within which it is online


class Netring(HasOpened, Subscribable):
    """Gives the flow events of an interface to any number of subscribers.

    An async context manager: entering opens and starts the capture, leaving closes it. It belongs
    to the event loop that entered it, of asyncio or uvloop (``EventLoopError``), and to the
    process: in a forked child its methods raise ``ForkError``. One that is
    dropped without being closed is closed, with a ``ResourceWarning``. The
    parameters are those of ``Capture``, and some more. ``buffer``: the number of events kept for
    subscribers that are behind. ``sinks``: publish events elsewhere, such as ``MqttSink``.
    ``devices``: True, or ``DeviceOptions``, keeps a table of the stations behind the link
    (``devices``), and publishes ``DeviceSeen``, ``DeviceChanged`` and ``DeviceGone``. It asks for
    ``NeighbourSeen`` and ``AppEvent`` as well.
    ``stats``: True, or ``StatsOptions``, sums all flows up by interval (``stats``, ``top``), and
    publishes ``StatsUpdated``; None does if a sink asks for that event by name.

    A subscriber gets the events that follow its subscription. Subscribe before entering, or right
    after, to get all.
    """

    def __init__(
        self,
        interface: str,
        *,
        filter: FilterLike = None,
        backend: Backend = "auto",
        steal: bool = False,
        buffer: int = _BUFFER,
        sinks: Sequence[Sink] = (),
        xdp: XdpOptions | None = None,
        tpacket: TpacketOptions | None = None,
        flow: FlowOptions | None = None,
        netns: str | None = None,
        devices: DeviceOptions | bool = False,
        stats: StatsOptions | bool | None = None,
    ) -> None:
        from netring_bpf.capture.capture import Capture

        flow = _with_devices(flow, devices)
        _check_sinks(sinks)
        watch = _stats_watch(stats, sinks)
        capture = Capture(
            interface,
            filter=filter,
            backend=backend,
            steal=steal,
            xdp=xdp,
            tpacket=tpacket,
            flow=flow,
            netns=netns,
            sums=None if watch is None else watch.totals,
        )
        self._set_up(capture, filter, buffer, sinks, flow, devices, watch)
        self._given |= {
            "backend": backend,
            "steal": steal,
            "xdp": xdp,
            "tpacket": tpacket,
            "netns": netns,
            "stats": stats,
        }

    @classmethod
    def replay(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        filter: FilterLike = None,
        buffer: int = _BUFFER,
        sinks: Sequence[Sink] = (),
        flow: FlowOptions | None = None,
        devices: DeviceOptions | bool = False,
        stats: StatsOptions | bool | None = None,
    ) -> Self:
        """Return a ``Netring`` of a capture file: pcap or pcapng, packed by gzip or not.

        The dissector and the flow table are those of live traffic; times are the file's. ``path``
        ``"-"`` is standard input, and ``"cap-*.pcap"`` stands for all files of such names. Several
        files are one capture: their frames are read in the order of their times, and flows go on
        from file to file. Nothing is lost: the slowest open subscriber sets the pace, so
        close those that you do not read. The stream ends with the file. A broken file gives the
        flows up to the break and those of the other files, then its subscribers raise
        ``CaptureFileError``. Raises ``FilterError``, which of a long filter the subscribers raise,
        ``OptionError``, and on entering ``CaptureFileError``.
        """
        ring = cls.__new__(cls)
        flow = _with_devices(flow, devices)
        _check_sinks(sinks)
        watch = _stats_watch(stats, sinks)
        sums = None if watch is None else watch.totals
        replay = Replay(path, filter=filter, flow=flow, sums=sums)
        ring._set_up(  # noqa: SLF001 - a constructor
            replay, filter, buffer, sinks, flow, devices, watch
        )
        ring._given["stats"] = stats  # noqa: SLF001
        return ring

    def _set_up(
        self,
        source: Source,
        filter: FilterLike,
        buffer: int,
        sinks: Sequence[Sink],
        flow: FlowOptions | None,
        devices: DeviceOptions | bool,
        stats: StatsWatch | None,
    ) -> None:
        from netring_bpf.capture import FlowOptions

        self._made = (flow or FlowOptions()).events
        for sink in sinks:
            check_made(sink.kinds, self._made, f"sink {sink.name}")
        self._broadcast = FlowBroadcast(buffer, interface=source.interface)
        self._broadcast.expect(
            f"{source.interface} is not open, so no event will come; iterate inside of "
            "`async with` on the Netring"
        )
        self._capture = source
        self._filter = filter_text(filter)
        self._given: dict[str, object] = {"buffer": buffer, "flow": flow, "devices": devices}
        self._since = 0
        self._link_up = True  # when the capture began
        self._sinks = tuple(sinks)
        self._streams: list[FlowSubscriber] = []
        self._sink_tasks: list[asyncio.Task[None]] = []
        # A batch fills half the buffer at most, so a subscriber that keeps up never lags.
        self._batch = max(1, min(1024, buffer // 2))
        self._announced = 0
        self._room = self._batch
        self._stats = stats
        self._watch: DeviceWatch | None = None
        self._nameless: str | None = None
        self._notices: tuple[str, ...] = ()
        if devices:
            from netring_bpf.devices.watch import MOST_EVENTS, DeviceWatch

            self._watch = DeviceWatch(None if devices is True else devices)
            self._nameless = _nameless(flow or FlowOptions())
            self._batch = max(1, self._batch // MOST_EVENTS)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Future[None] | None = None
        self._readers: list[int] = []
        self._pump = (
            FilePump(
                source,
                self._broadcast,
                self._batch,
                _weakly(self._fail_by),
                publish=None if self._watch is None else _weakly(self._publish),
                room=self._room,
                interrupt=None if stats is None else _weakly_asked(self._collect),
            )
            if source.finite
            else None
        )
        self._shutdown: asyncio.Future[None] | None = None
        self._error: NetringError | None = None
        self._sink_errors: dict[str, NetringError] = {}
        self._owner: int | None = None  # the process that entered it
        self._ended = asyncio.Event()

    # -- the source --

    @property
    def broadcast(self) -> FlowBroadcast:
        """The broadcast that the subscribers read."""
        return self._broadcast

    @property
    def interface(self) -> str:
        """The name of the interface, or of a replay's files."""
        return self._capture.interface

    @property
    def opened(self) -> Opened:
        """The backend in use and how it was opened, as one value."""
        opened = self._capture.opened
        return replace(opened, notices=opened.notices + self._notices)

    @property
    def names(self) -> AddressNames:
        """The names of addresses, as the packets told them: ``ring.names.of("192.0.2.1")``.

        Raises ``ClosedError`` before the capture was entered.
        """
        self._check_owner()
        return self._capture.names

    @property
    def progress(self) -> tuple[int, int] | None:
        """The bytes read of a replay's files, and their size (0: pipes); None of an interface."""
        return self._capture.progress if isinstance(self._capture, Replay) else None

    @property
    def devices(self) -> DeviceTable:
        """The devices of the link so far. Raises ``OptionError`` without ``devices=``."""
        if self._watch is None:
            raise OptionError(
                f"{self.interface}: devices are not watched; pass devices=True to Netring",
                option="devices",
            )
        return self._watch.table

    @property
    def stats(self) -> StatsUpdated | None:
        """The aggregates of the latest interval that is over; None if none is.

        Raises ``OptionError`` without ``stats=``.
        """
        return self._stats_on().latest

    @property
    def top(self) -> Top:
        """The largest of each kind in the latest interval. Raises ``OptionError`` as ``stats``."""
        return self._stats_on().top

    def _stats_on(self) -> StatsWatch:
        if self._stats is None:
            raise OptionError(
                f"{self.interface}: flows are not summed up; pass stats=True to Netring",
                option="stats",
            )
        return self._stats

    @property
    def error(self) -> NetringError | None:
        """The error that ended the capture, else the first that ended a sink; or None.

        The subscribers had it too: raised at their end, or as ``CaptureError``; that of a sink as
        ``SinkFailed``, unless the stream had ended by then.
        """
        return self._error or next(iter(self._sink_errors.values()), None)

    # -- use --

    def _subscribe(
        self,
        kinds: Kinds,
        where: Callable[[Any], bool] | None,
        errors: OnError,
        name: str | None,
    ) -> FlowSubscriber[Any]:
        self._check_owner()
        self._check_kinds(kinds, "subscribe")
        return self._broadcast.subscribe(kinds=kinds, where=where, errors=errors, name=name)

    def _subscribe_batches(
        self, kinds: Kinds, errors: OnError, name: str | None
    ) -> BatchSubscriber[Any]:
        self._check_owner()
        self._check_kinds(kinds, "subscribe_batches")
        return self._broadcast.subscribe_batches(kinds=kinds, errors=errors, name=name)

    def _check_kinds(self, kinds: Kinds, who: str) -> None:
        check_made(kinds, self._made, who)
        if self._stats is None and StatsUpdated in (classes_of(kinds, who) or ()):
            raise OptionError(
                f"{who}: StatsUpdated is asked for, and flows are not summed up; pass stats=True "
                "to Netring",
                option="kinds",
            )

    async def set_filter(self, filter: FilterLike) -> None:
        """Swap the filter: as ``Capture.set_filter``, without blocking the event loop.

        Cancelling this does not undo a swap that is under way. Raises ``EventLoopError`` outside
        of asyncio.
        """
        self._check_owner()
        event_loop(f"set_filter on {self.interface}")
        await asyncio.to_thread(self._capture.set_filter, filter)
        self._filter = filter_text(filter)
        self._describe()

    def set_stats_interval(self, seconds: float) -> None:
        """Change the time between two ``StatsUpdated``, once the present interval is over.

        Raises ``OptionError``, also without ``stats=``.
        """
        self._check_owner()
        stats = self._stats_on()
        stats.set_interval(seconds)
        self._given["stats"] = stats.options
        self._describe()

    def add_sink(self, sink: Sink) -> None:
        """Publish the events that follow elsewhere too, as if ``sinks`` had it.

        Raises ``OptionError`` for kinds that ``FlowOptions.events`` leaves out, and for
        ``StatsUpdated`` without ``stats=``, and ``ClosedError`` unless the capture is open.
        """
        self._check_owner()
        _check_sinks((sink,))
        self._check_kinds(sink.kinds, f"sink {sink.name}")
        if self._loop is None or not self._since or self._shutdown is not None:
            raise ClosedError(f"{self.interface}: sinks can be added while the capture is open")
        self._sinks = (*self._sinks, sink)
        self._begin_sink(self._loop, sink)

    async def remove_sink(self, sink: Sink) -> SinkStatistics:
        """End a sink, and return its last books; the capture and the others go on.

        The sink delivers the events that it has taken, in its own time, and gets no others. Its
        books leave ``statistics()``. Raises ``OptionError`` if it is none of this capture's.
        """
        self._check_owner()
        if sink not in self._sinks or len(self._streams) != len(self._sinks):
            raise OptionError(f"sink {sink.name}: not a sink of {self.interface}", option="sink")
        place = self._sinks.index(sink)
        task = self._sink_tasks[place]
        self._streams[place].close()
        await asyncio.wait([task])
        if sink not in self._sinks:  # somebody else removed it meanwhile
            return sink.statistics()
        place = self._sinks.index(sink)  # others may have been removed too
        self._sinks = self._sinks[:place] + self._sinks[place + 1 :]
        del self._streams[place], self._sink_tasks[place]
        self._sink_errors.pop(sink.name, None)
        return sink.statistics()

    async def wait_end(self) -> None:
        """Wait until the capture was closed, or has ended by itself; ``error`` says why.

        Raises ``ClosedError`` if it was never entered.
        """
        self._check_owner()
        if self._loop is None:
            raise ClosedError(f"{self.interface}: it was not entered")
        await self._ended.wait()

    def statistics(self) -> NetringStatistics:
        """Return all books: those of now, or the final ones after closing."""
        self._check_owner()
        return NetringStatistics(
            capture=self._capture.statistics(),
            broadcast=self._broadcast.statistics(),
            sinks=tuple(sink.statistics() for sink in self._sinks),
            streams=tuple(stream.statistics() for stream in self._streams),
            announced=self._announced,
            failed_sinks={name: str(error) for name, error in self._sink_errors.items()},
        )

    def _books_function(self) -> Callable[[], NetringStatistics]:
        """Return ``statistics``, such that a sink that has it does not keep this object alive."""
        weak, interface = weakref.WeakMethod(self.statistics), self.interface

        def books() -> NetringStatistics:
            alive = weak()
            if alive is None:
                raise ClosedError(f"{interface}: this Netring is gone")
            return alive()

        return books

    def _is_ours(self) -> bool:
        return self._owner in {None, os.getpid()}

    def _check_owner(self) -> None:
        if not self._is_ours():
            raise ForkError(
                f"{self.interface}: process {self._owner} entered this Netring, and this is a "
                "forked child, which has no part in it; make another one here"
            )

    async def __aenter__(self) -> Self:
        self._check_owner()
        if self._loop is not None:
            raise ClosedError(f"{self.interface}: this Netring was used before; make a new one")
        self._loop = event_loop(f"capture on {self.interface}")
        self._broadcast.expect(None)
        self._broadcast.bind(self._loop)
        self._owner = os.getpid()
        try:
            with limits_explained(f"capture on {self.interface}"):
                self._opening = self._loop.run_in_executor(None, self._capture.open)
                await asyncio.shield(self._opening)
                if self._nameless is not None:
                    self._notice(self._nameless)
                if self._watch is not None:
                    await self._watch.open()
                self._since = time.time_ns()
                watch = self._capture.watch
                self._link_up = watch is None or watch.running
                if not self._link_up:
                    self._notice(_NO_LINK)
                self._describe()
                self._start(self._loop)
        except BaseException:
            await self.close()
            raise
        return self

    def _notice(self, notice: str) -> None:
        self._notices += (notice,)
        _log.warning("%s: %s", printable(self.interface), notice)

    def _describe(self) -> None:
        """Tell the subscribers what the capture is by now."""
        defaults = {"backend": "auto", "steal": False, "buffer": _BUFFER, "devices": False}
        info = describe(
            self.interface,
            self.opened,
            since=self._since,
            filter=self._filter,
            options=changed_options(self._given, defaults),
            link_up=self._link_up,
        )
        self._broadcast.describe(info)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        for sink in self._sinks:
            self._begin_sink(loop, sink)
        if self._pump is not None:
            self._pump.start(loop)
        else:
            self._add_reader(self._capture.fileno(), Netring._on_events)
        if self._capture.watch is not None:
            self._add_reader(self._capture.watch.fileno(), Netring._on_link)

        on_done = _weakly(self._on_reader_done)

        def done(error: NetringError | None) -> None:
            # Called in the reader's thread; the loop may be closed already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(on_done, error)

        announce = _weakly(self._announce)

        def tell(event: Event) -> None:
            # Called in a thread of the capture; the loop may be closed already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(announce, event)

        self._capture.start(done, tell)
        if self._watch is not None and not self._capture.finite:
            self._watch.every(loop, _weakly(self._on_time))

    def _begin_sink(self, loop: asyncio.AbstractEventLoop, sink: Sink) -> None:
        if isinstance(sink, ReadsBooks):
            sink.read_books(self._books_function())
        # As an event: a sink has to deliver what it has before it ends.
        events = self._broadcast.subscribe(kinds=sink.kinds, errors="event", name=sink.name)
        self._streams.append(events)
        running = _run_sink(sink, events, _weakly(self._tell_of_sink))
        task = loop.create_task(running, name=f"netring-{sink.name}")
        self._sink_tasks.append(task)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close gracefully. Idempotent.

        The capture stops, live flows end with reason ``shutdown``, subscribers and sinks get the
        events that are left, then their iteration ends. In a forked child this does nothing. If
        the event loop was closed first, nothing can be told any more and this only frees.
        Raises ``EventLoopError`` in another loop.
        """
        if not self._is_ours():
            return
        if self._loop is None:
            self._broadcast.close()
            return
        if self._loop.is_closed():
            await self._close_late()
            return
        if event_loop(f"closing {self.interface}") is not self._loop:
            raise EventLoopError(
                f"closing {self.interface}: it was entered in another event loop, which still "
                "runs; close it there"
            )
        if self._pump is not None:
            self._pump.hurry()
        # One task, so that a cancelled close() does not leave the capture half closed.
        await asyncio.shield(self._begin_shutdown())

    async def _close_late(self) -> None:
        """Free everything of a ring that was open when its event loop was closed."""
        if self._shutdown is None:
            self._shutdown = event_loop(f"closing {self.interface}").create_future()
            with contextlib.suppress(RuntimeError):  # tasks of the closed loop wait for events
                self._broadcast.close()
            with contextlib.suppress(RuntimeError):
                self._ended.set()
        await asyncio.to_thread(self._capture.close)

    # -- events of the loop --

    def _add_reader(self, descriptor: int, callback: Callable[[Netring], None]) -> None:
        assert self._loop is not None
        self._loop.add_reader(descriptor, _weakly(self._call), callback)
        self._readers.append(descriptor)

    def _call(self, callback: Callable[[Netring], None]) -> None:
        try:
            callback(self)
        except Exception as error:  # noqa: BLE001 - the loop would call it again for ever
            self._remove_readers()
            self._fail_by(error)

    def _remove_readers(self) -> None:
        assert self._loop is not None
        while self._readers:
            self._loop.remove_reader(self._readers.pop())

    def _on_events(self) -> None:
        # The eventfd stays readable while events are left: other tasks run in between.
        self._collect()
        self._publish(self._capture.take(self._batch))

    def _publish(self, events: Sequence[Event]) -> None:
        """Publish events of the capture, and behind them what they say of devices."""
        self._broadcast.publish(events)
        if self._watch is not None and events:
            self._announce_all(self._watch.table.observe(events))

    def _collect(self) -> bool:
        """Publish the aggregates of an interval that is over; return whether there was one."""
        span = None if self._stats is None else self._capture.take_interval()
        if self._stats is None or span is None:
            return False
        self._announce_stats(self._stats, *span, is_last=False)
        return True

    def _announce_stats(self, stats: StatsWatch, start: int, end: int, *, is_last: bool) -> None:
        books = self.statistics()
        event = stats.update(
            start, end, books.capture, books.equations(), self._broadcast.lagged,
            _Knowledge(self), is_last=is_last,
        )  # fmt: skip
        self._announce(event)

    def _on_time(self, watch: DeviceWatch) -> None:
        self._announce_all(watch.table.tick(self._now()))

    def _on_link(self) -> None:
        from netring_bpf.capture import LinkChange

        if self._capture.watch is None:
            return
        for change in self._capture.watch.read():
            if self._error is not None:
                return  # CaptureError is the last event about the interface
            now = self._now()
            match change:
                case LinkChange.UP:
                    self._announce(LinkUp(now, self.interface))
                case LinkChange.DOWN:
                    self._announce(LinkDown(now, self.interface))
                case LinkChange.GONE:
                    self._fail(
                        InterfaceGoneError(
                            f"capture on {self.interface}: the interface is gone (deleted, or "
                            "moved to another namespace)",
                            interface=self.interface,
                        )
                    )

    def _on_reader_done(self, error: NetringError | None) -> None:
        if error is not None:
            self._on_link()  # link changes precede the error in the stream
            self._fail(error)
        elif self._capture.finite:
            self._begin_shutdown()

    def _now(self) -> int:
        """Return the time by the clock of the flows."""
        try:
            return self._capture.flow_time()
        except ClosedError:  # it could not be opened
            return time.time_ns()

    def _announce(self, event: Event) -> None:
        if isinstance(event, BackendChanged):
            self._describe()
        self._announce_all((event,))

    def _announce_all(self, events: Sequence[Event]) -> None:
        if events and not self._broadcast.closed:
            if self._stats is not None:
                self._stats.note(events)
            self._announced += len(events)
            self._broadcast.publish(events)

    def _fail(self, error: NetringError) -> None:
        """Tell every subscriber that the capture ended by an error, then close."""
        if self._shutdown is None:
            self._tell(error)
            self._begin_shutdown()

    def _fail_by(self, error: Exception) -> None:
        """As ``_fail()``, by any exception of a task or callback of this class."""
        self._fail(self._named(error))

    def _named(self, error: Exception) -> NetringError:
        what = f"capture on {self.interface}"
        try:
            with limits_explained(what):
                raise error
        except NetringError as named:
            return named
        except Exception as other:  # noqa: BLE001 - it came from inside
            return InternalError(what, other)

    def _tell(self, error: NetringError) -> None:
        if self._error is None:
            self._error = error
            _log.error("%s", error, exc_info=error.__cause__)
            self._announce(CaptureError(self._now(), error))

    # -- the end --

    def _begin_shutdown(self) -> asyncio.Future[None]:
        if self._shutdown is None:
            assert self._loop is not None
            self._shutdown = self._loop.create_task(self._finish(), name="netring-shutdown")
            self._shutdown.add_done_callback(self._release)
        return self._shutdown

    async def _finish(self) -> None:
        try:
            if await self._is_open():
                await asyncio.to_thread(self._capture.stop)
                self._remove_readers()
                if self._pump is not None:
                    await self._pump.stop()
                for batch in self._capture.finish(self._batch):
                    if self._pump is not None:
                        await self._pump.wait_room()
                    if batch:
                        self._publish(batch)
                    else:
                        self._collect()  # an interval of a file comes first
                    await asyncio.sleep(0)  # subscribers that keep up read it before the next
                await self._finish_devices()
                await self._finish_stats()
        except Exception as error:  # noqa: BLE001 - the subscribers must be told
            self._tell(self._named(error))
        finally:
            self._broadcast.close()
            await asyncio.gather(*self._sink_tasks, return_exceptions=True)
            try:
                if self._watch is not None:
                    await self._watch.close()
            except NetringError as error:
                self._error = self._error or error
                _log.error("%s", error)
            await self._close_capture()

    async def _finish_devices(self) -> None:
        last = [] if self._watch is None else self._watch.table.finish()
        for at in range(0, len(last), self._batch):
            if self._pump is not None:
                await self._pump.wait_room()
            self._announce_all(last[at : at + self._batch])
            await asyncio.sleep(0)

    async def _finish_stats(self) -> None:
        if self._stats is None:
            return
        if self._pump is not None:
            await self._pump.wait_room()
        start, end = self._capture.take_last_interval()
        if end > 0:  # a file without one frame has no time
            self._announce_stats(self._stats, start, end, is_last=True)

    async def _close_capture(self) -> None:
        try:
            await asyncio.to_thread(self._capture.close)
        except NetringError as error:  # ``close()`` raises it
            self._error = self._error or error
            raise

    def _release(self, _: asyncio.Future[None]) -> None:
        """Free everything after ``_finish()``, which may have been cancelled before it began."""
        self._ended.set()
        if self._pump is not None:
            self._pump.cancel()
        self._remove_readers()
        if self._watch is not None:
            self._watch.cancel()
        self._broadcast.close()
        if self._opening is None or self._opening.done():
            self._capture.close()
        else:
            self._opening.add_done_callback(self._release)

    async def _is_open(self) -> bool:
        """Wait until opening has ended, as nothing can interrupt it; return whether it is open."""
        if self._opening is None:
            return False
        await asyncio.wait([self._opening])
        return not self._opening.cancelled() and self._opening.exception() is None

    def _tell_of_sink(self, failure: tuple[str, Exception]) -> None:
        """Tell every subscriber that a sink has failed, or ``error`` alone after their end."""
        name, cause = failure
        error = _sink_error(name, cause)
        self._sink_errors[name] = error
        _log.error("%s", error, exc_info=error.__cause__)
        self._announce(SinkFailed(time.time_ns(), name, error))

    def __del__(self) -> None:
        # Nothing is set where ``__init__`` has failed.
        loop = getattr(self, "_loop", None)
        if loop is None or self._shutdown is not None or not self._is_ours():
            return
        release = partial(_release, loop, self._readers, self._pump, self._broadcast, self._capture)
        try:
            warnings.warn(
                f"unclosed Netring on {self.interface}", ResourceWarning, stacklevel=2, source=self
            )
        finally:
            if loop.is_running() and loop is not asyncio._get_running_loop():  # noqa: SLF001
                loop.call_soon_threadsafe(release)
            else:
                release()


def _release(
    loop: asyncio.AbstractEventLoop,
    readers: Sequence[int],
    pump: FilePump | None,
    broadcast: FlowBroadcast,
    capture: Source,
) -> None:
    """Free what a dropped ``Netring`` had, in the thread of its loop."""
    if not loop.is_closed():
        if pump is not None:
            pump.cancel()
        for descriptor in readers:
            loop.remove_reader(descriptor)
        broadcast.close()
    capture.close()


def _with_devices(flow: FlowOptions | None, devices: DeviceOptions | bool) -> FlowOptions | None:
    """Return options that also make the events of which the table of devices is made."""
    if not devices:
        return flow
    from netring_bpf.capture import FlowOptions

    flow = flow or FlowOptions()
    needed = tuple(kind for kind in (NeighbourSeen, AppEvent) if kind not in flow.events)
    return replace(flow, events=(*flow.events, *needed))


def _nameless(flow: FlowOptions) -> str | None:
    """Return the reason for which devices have no names, None if they have."""
    if flow.names != "all":
        return f'devices have no names: names="{flow.names}" reads none; names="all" does'
    if flow.key.name != "FIVE_TUPLE":
        return f"devices have no names: the packets of flows by {flow.key} are not read"
    return None


def _stats_watch(stats: StatsOptions | bool | None, sinks: Sequence[Sink]) -> StatsWatch | None:
    """Return what sums up the flows, if that is asked for."""
    if stats is None:
        stats = any(StatsUpdated in (classes_of(sink.kinds, sink.name) or ()) for sink in sinks)
    if stats is False:
        return None
    from netring_bpf.aggregate import StatsOptions
    from netring_bpf.aggregate.watch import StatsWatch

    options = StatsOptions() if stats is True else stats
    if not isinstance(options, StatsOptions):
        raise OptionError(
            f"stats={stats!r}: must be True, False, None or StatsOptions", option="stats"
        )
    return StatsWatch(options)


class _Knowledge:
    """What a ``Netring`` knows beside the sums of its flows."""

    def __init__(self, ring: Netring) -> None:
        self.interface: str = ring.interface
        self._names = ring.names
        self._devices = ring._watch.table if ring._watch is not None else None  # noqa: SLF001

    def device_name(self, mac: str) -> str | None:
        device = None if self._devices is None else self._devices.get(mac)
        return None if device is None else device.name

    def host_name(self, address: str) -> str | None:
        names = self._names.of(address)
        return names[0].name if names else None

    @property
    def device_count(self) -> int | None:
        return None if self._devices is None else len(self._devices)

    def devices_online(self, now: int) -> int | None:
        return None if self._devices is None else self._devices.seen_since(now - _ONLINE)

    @property
    def link_prefixes(self) -> Sequence[Network]:
        return () if self._devices is None else self._devices.prefixes


_Argument = TypeVar("_Argument")


def _weakly_asked(method: Callable[[], bool]) -> Callable[[], bool]:
    """As ``_weakly``, of a method that answers; False once its object is gone."""
    weak = weakref.WeakMethod(method)

    def call() -> bool:
        return (alive := weak()) is not None and alive()

    return call


def _weakly(method: Callable[[_Argument], None]) -> Callable[[_Argument], None]:
    """Return a function that calls the method as long as its object lives, and keeps it not."""
    weak = weakref.WeakMethod(method)

    def call(argument: _Argument) -> None:
        if (alive := weak()) is not None:
            alive(argument)

    return call


async def _run_sink(
    sink: Sink, events: FlowSubscriber, failed: Callable[[tuple[str, Exception]], None]
) -> None:
    """Run a sink to its end; one that fails stops nothing else."""
    async with events:
        try:
            await sink.run(events)
        except Exception as error:  # noqa: BLE001 - a sink may raise anything
            failed((sink.name, error))


def _sink_error(name: str, cause: Exception) -> NetringError:
    while isinstance(cause, ExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    if isinstance(cause, NetringError):
        return cause
    error = SinkError(
        f"sink {name}: it failed: {type(cause).__name__}: {cause}; the capture and the other "
        "subscribers go on without it; please report it with the traceback"
    )
    error.__cause__ = cause
    return error


def _check_sinks(sinks: object) -> None:
    """Raise ``OptionError`` unless it is a sequence of sinks."""
    if not isinstance(sinks, Sequence) or isinstance(sinks, str | bytes):
        raise OptionError(
            f"sinks={sinks!r}: must be a list of sinks, as sinks=[MqttSink(…)]", option="sinks"
        )
    for sink in sinks:
        if not all(hasattr(sink, part) for part in ("name", "kinds", "run", "statistics")):
            raise OptionError(
                f"sinks: {sink!r} is no sink; docs of netring_bpf.Sink say what one has",
                option="sinks",
            )
