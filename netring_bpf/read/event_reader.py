"""Takes the events of a source in the thread that asks for them, without an event loop."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from netring_bpf.errors import (
    ClosedError,
    ForkError,
    InterfaceGoneError,
    InternalError,
    NetringError,
    limits_explained,
)
from netring_bpf.events.event import CaptureError, Event, LinkDown, LinkUp
from netring_bpf.threads import start_thread

if TYPE_CHECKING:
    from netring_bpf.capture.source import Source
    from netring_bpf.events.batch import EventBatch
    from netring_bpf.interface import LinkWatch
    from netring_bpf.statistics import CaptureStatistics

__all__ = ["EventReader"]

_LIMIT = 1024  # events of a batch, which stay in the cache
_LONGEST_WAIT = 86_400_000.0  # milliseconds: poll(2) takes no more than an int has
_MOMENT = 1  # milliseconds in which more events may come, so that batches are no single events


class EventReader:
    """Gives the events of a ``Source`` as they come: a context manager.

    One thread iterates ``events()``; any may call ``stop()``, ``close()`` and ``statistics()``.
    ``duration``: the seconds after which it stops by itself. It is opened by ``open()`` or by
    ``events()``, and closed by ``close()`` and at the end of the events.
    """

    def __init__(self, source: Source, *, duration: float | None = None) -> None:
        self._source = source
        self._duration = duration
        self._deadline: float | None = None
        self._inbox: _Inbox | None = None
        self._started = False
        self._stop_asked = False
        self._closed = False
        self._given_up = False  # by a thread that is not the one that reads
        self._reading: int | None = None  # the thread that waits for the next events just now
        self._owner = 0  # the process that opened it
        self._stopper: threading.Thread | None = None
        self.error: NetringError | None = None  #: the one that ended the events

    @property
    def source(self) -> Source:
        """The source."""
        return self._source

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def open(self) -> None:
        """Open the source and start it, unless it is open.

        Raises ``ClosedError`` and what the source does.
        """
        if self._closed:
            raise ClosedError(f"{self._source.interface}: it was read and closed; open a new one")
        if self._inbox is None:
            self._source.open()
            self._owner = os.getpid()
            try:
                with limits_explained(f"read {self._source.interface}"):
                    self._inbox = _Inbox()
            except BaseException:
                self._source.close()
                raise
            if self._stop_asked:
                self._inbox.stop()
            try:
                with limits_explained(f"read {self._source.interface}"):
                    self._source.start(self._inbox.end, self._inbox.tell)
            except BaseException:
                self.close()
                raise
            if self._duration is not None:
                self._deadline = time.monotonic() + self._duration

    def events(self) -> Iterator[Sequence[Event]]:
        """Yield batches of events until the source ends, then close it. Once.

        Flow events come as an ``EventBatch``, all others in sequences of their own. An error that
        ends the source comes as ``CaptureError``; the ends of the live flows follow.
        """
        self.open()
        if self._started:
            raise ClosedError(f"{self._source.interface}: its events are being read already")
        self._started = True
        try:
            self._reading = threading.get_ident()
            for events in self._all():
                self._reading = None
                yield events
                self._reading = threading.get_ident()
        finally:
            self._reading = None
            self.close()

    def empty(self) -> EventBatch:
        """Return a batch without an event, which has the layout of those to come."""
        self.open()
        return self._source.take(0)

    def _all(self) -> Iterator[Sequence[Event]]:
        assert self._inbox is not None
        yield from self._coming(self._inbox)
        yield from self._last(self._inbox)

    def _coming(self, inbox: _Inbox) -> Iterator[Sequence[Event]]:
        """Yield what comes until the source has ended."""
        source, watch = self._source, self._source.watch
        alarm, all_of_them = select.poll(), select.poll()
        alarm.register(inbox.descriptor, select.POLLIN)
        for descriptor in (inbox.descriptor, source.fileno(), *([watch.fileno()] if watch else [])):
            all_of_them.register(descriptor, select.POLLIN)
        while not inbox.ended:
            self._check_usable()
            all_of_them.poll(self._patience())
            self._check_usable()
            yield from inbox.told()
            if watch is not None:
                yield from self._link_changes(watch, inbox)
            if inbox.stopping or self._is_over():
                self._begin_to_stop(inbox)
            batch = self._take(_LIMIT)
            if batch:
                yield batch
            if len(batch) < _LIMIT // 2:
                alarm.poll(_MOMENT)

    def _last(self, inbox: _Inbox) -> Iterator[Sequence[Event]]:
        """Yield what is left when the source has ended."""
        self._check_usable()
        if self._stopper is not None:
            self._stopper.join()
        self._source.stop()
        yield from inbox.told()
        if self._source.watch is not None:
            yield from self._link_changes(self._source.watch, inbox)
        while batch := self._take(_LIMIT):
            yield batch
        self.error = inbox.error
        if self.error is not None:
            yield (CaptureError(self._source.flow_time(), self.error),)
        yield from filter(len, self._finish(_LIMIT))

    def _take(self, limit: int) -> EventBatch:
        return self._source.take(limit)

    def _finish(self, limit: int) -> Iterator[EventBatch]:
        return self._source.finish(limit)

    def _check_usable(self) -> None:
        if self._closed or self._given_up:
            raise ClosedError(f"{self._source.interface}: it was closed while it was read")
        if self._owner != os.getpid():
            raise ForkError(
                f"{self._source.interface}: process {self._owner} reads it, and this is a forked "
                "child, which has no part in it; open another one here"
            )

    def _patience(self) -> float | None:
        """Return the milliseconds to wait for something to happen."""
        if self._deadline is None or self._stopper is not None:
            return None
        left = (self._deadline - time.monotonic()) * 1000
        return min(max(0.0, left), _LONGEST_WAIT)

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _begin_to_stop(self, inbox: _Inbox) -> None:
        """Stop the source in a thread, as it may wait until its events are taken."""
        if self._stopper is None:
            stopper = threading.Thread(
                target=_stop, args=(self._source, inbox), name="netring-stop", daemon=True
            )
            start_thread(stopper)
            self._stopper = stopper

    def _link_changes(self, watch: LinkWatch, inbox: _Inbox) -> Iterator[Sequence[Event]]:
        from netring_bpf.capture import LinkChange

        name = self._source.interface
        for change in watch.read():
            if inbox.error is not None:
                return
            match change:
                case LinkChange.UP:
                    yield (LinkUp(self._source.flow_time(), name),)
                case LinkChange.DOWN:
                    yield (LinkDown(self._source.flow_time(), name),)
                case LinkChange.GONE:
                    inbox.fail(
                        InterfaceGoneError(
                            f"capture on {name}: the interface is gone (deleted, or moved to "
                            "another namespace)",
                            interface=name,
                        )
                    )

    def stop(self) -> None:
        """Let the events end with those that have come. Idempotent.

        From any thread, and from a signal handler.
        """
        self._stop_asked = True
        if self._inbox is not None:
            self._inbox.stop()

    def statistics(self) -> CaptureStatistics:
        """Return the books: those of now, or the final ones. Raises ``ClosedError`` before."""
        return self._source.statistics()

    def close(self) -> None:
        """Free everything; events that were not taken are lost. Idempotent.

        In a forked child it leaves the parent's source alone.
        """
        if self._closed:
            return
        if self._reading not in {None, threading.get_ident()}:
            self._given_up = True
            self.stop()
            return  # the thread that reads closes it
        self._closed = True
        if self._inbox is None:
            return
        try:
            if self._owner == os.getpid():
                self._source.close()
                if self._stopper is not None:
                    self._stopper.join()
        finally:
            self._inbox.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Nothing is set where ``__init__`` has failed.
        if getattr(self, "_inbox", None) is None or self._closed:
            return
        try:
            warnings.warn(
                f"unclosed reader of {self._source.interface}",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        finally:
            self.close()


class _Inbox:
    """What other threads say to the one that reads; ``descriptor`` is readable when they do."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ended = False
        self.stopping = False
        self.error: NetringError | None = None
        self._events: deque[Event] = deque()
        self._lock = threading.RLock()  # a signal handler may interrupt its owner

    def end(self, error: NetringError | None) -> None:
        """Say that the source has ended."""
        self.error = self.error or error
        self.ended = True
        self._ring()

    def fail(self, error: NetringError) -> None:
        """Ask for the end, because of an error."""
        self.error = self.error or error
        self.stop()

    def stop(self) -> None:
        """Ask for the end."""
        self.stopping = True
        self._ring()

    def tell(self, event: Event) -> None:
        """Tell of an event that the source does not give itself."""
        self._events.append(event)
        self._ring()

    def told(self) -> Iterator[Sequence[Event]]:
        """Yield the events that were told."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        while self._events:
            yield (self._events.popleft(),)

    def _ring(self) -> None:
        with self._lock:
            if self.descriptor >= 0:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        with self._lock:
            descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _stop(source: Source, inbox: _Inbox) -> None:
    try:
        source.stop()
    except NetringError as error:
        inbox.end(error)
    except Exception as error:  # noqa: BLE001 - the reader waits for this
        inbox.end(InternalError(f"stop {source.interface}", error))
    else:
        inbox.end(None)
