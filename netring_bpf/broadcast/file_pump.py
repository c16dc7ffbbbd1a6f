"""A capture file's events, published no faster than the slowest subscriber reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from netring_bpf.broadcast.broadcast import FlowBroadcast
from netring_bpf.events.event import Event

__all__ = ["FilePump"]


class _Source(Protocol):
    """Events that somebody else reads from a file."""

    def fileno(self) -> int: ...
    def take(self, limit: int) -> Sequence[Event]: ...


class FilePump:
    """Takes up to ``batch`` events at a time, in a task of its own, when there is room for them.

    ``fail``: is told whatever goes wrong, as the subscribers must hear of it.
    """

    def __init__(
        self,
        source: _Source,
        broadcast: FlowBroadcast,
        batch: int,
        fail: Callable[[Exception], None],
    ) -> None:
        self._source = source
        self._broadcast = broadcast
        self._batch = batch
        self._fail = fail
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin."""
        self._loop = loop
        self._task = loop.create_task(self._run(), name="netring-pump")

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurry.set()

    async def wait_room(self) -> None:
        """Wait until a batch can be published without anybody losing any, or for ``hurry()``."""
        if self._hurry.is_set() or self._broadcast.has_room(self._batch):
            return
        waits = [
            asyncio.ensure_future(self._broadcast.wait_room(self._batch)),
            asyncio.ensure_future(self._hurry.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def cancel(self) -> None:
        """End soon."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End, and wait for that: what is left is the caller's to publish."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._publish()
        except Exception as error:  # noqa: BLE001 - whatever it is, the subscribers must hear
            self._fail(error)

    async def _publish(self) -> None:
        while True:
            await self.wait_room()
            batch = self._source.take(self._batch)
            if batch:
                self._broadcast.publish(batch)
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
