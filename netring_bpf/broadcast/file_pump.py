"""Publishes a capture file's events, no faster than the slowest subscriber reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from netring_bpf.broadcast.broadcast import FlowBroadcast
from netring_bpf.events.event import Event

__all__ = ["FilePump"]


class _Source(Protocol):
    """Events that another thread reads from a file."""

    def fileno(self) -> int: ...
    def take(self, limit: int) -> Sequence[Event]: ...


class FilePump:
    """Takes up to ``batch`` events at a time, in a task of its own, when there is room for them.

    ``fail`` gets every exception, so that the subscribers hear of it. ``publish`` takes the events,
    instead of the broadcast itself, and needs ``room`` for those of a batch. ``interrupt``
    publishes what comes before the next events; it returns whether there was something.
    """

    def __init__(
        self,
        source: _Source,
        broadcast: FlowBroadcast,
        batch: int,
        fail: Callable[[Exception], None],
        *,
        publish: Callable[[Sequence[Event]], None] | None = None,
        room: int | None = None,
        interrupt: Callable[[], bool] | None = None,
    ) -> None:
        self._source = source
        self._broadcast = broadcast
        self._batch = batch
        self._fail = fail
        self._room = room or batch
        self._publish_events = publish or broadcast.publish
        self._interrupt = interrupt or _nothing
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the task."""
        self._loop = loop
        self._task = loop.create_task(self._run(), name="netring-pump")

    def hurry(self) -> None:
        """From now on wait for no subscriber."""
        self._hurry.set()

    async def wait_room(self) -> None:
        """Wait until there is room for a batch, or for ``hurry()``."""
        if self._hurry.is_set() or self._broadcast.has_room(self._room):
            return
        waits = [
            asyncio.ensure_future(self._broadcast.wait_room(self._room)),
            asyncio.ensure_future(self._hurry.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def cancel(self) -> None:
        """Ask the task to end."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End the task and wait for that; the caller publishes the rest."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._publish()
        except Exception as error:  # noqa: BLE001 - the subscribers hear of any
            self._fail(error)

    async def _publish(self) -> None:
        while True:
            await self.wait_room()
            if self._interrupt():
                await asyncio.sleep(0)
                continue
            batch = self._source.take(self._batch)
            if batch:
                self._publish_events(batch)
                await asyncio.sleep(0)
            else:
                await self._wait_events()

    async def _wait_events(self) -> None:
        assert self._loop is not None
        ready = asyncio.Event()
        descriptor = self._source.fileno()
        self._loop.add_reader(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(descriptor)


def _nothing() -> bool:
    return False
