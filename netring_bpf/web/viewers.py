"""Those who look at the page: each has a bounded queue, and holds up nobody else."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from typing import Final

__all__ = ["MAX_QUEUED", "Viewer", "Viewers", "message"]

MAX_QUEUED: Final = 64  # messages that wait for a slow viewer


def message(event: str, data: object) -> bytes:
    """Return an event as a server sends it: https://html.spec.whatwg.org, server-sent events."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {event}\ndata: {text}\n\n".encode(errors="backslashreplace")


class Viewer:
    """A queue of messages. A full one forgets its oldest message, and counts it."""

    def __init__(self) -> None:
        self._queue: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._missed = 0  # since they were last told
        self.missed: int = 0
        self.is_closed: bool = False

    def put(self, sent: bytes) -> None:
        """Queue a message; never waits."""
        if len(self._queue) == MAX_QUEUED:
            self._queue.popleft()
            self._missed += 1
            self.missed += 1
        self._queue.append(sent)
        self._more.set()

    def clear(self) -> None:
        """Forget what is queued."""
        self._queue.clear()

    def close(self) -> None:
        """Have the viewer leave."""
        self.is_closed = True
        self._more.set()

    async def next(self) -> bytes | None:
        """Wait for the next message and return it; ``None`` at the end."""
        while not self._queue:
            if self.is_closed:
                return None
            self._more.clear()
            await self._more.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return message("missed", {"count": missed})
        return self._queue.popleft()


class Viewers:
    """All viewers, at most ``most``."""

    def __init__(self, most: int) -> None:
        self._all: set[Viewer] = set()
        self._most = most
        self._gone_missed = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Viewer]:
        return iter(self._all)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self._all) >= self._most

    @property
    def missed(self) -> int:
        """The messages that slow viewers missed."""
        return self._gone_missed + sum(viewer.missed for viewer in self._all)

    def join(self) -> Viewer:
        """Return a new viewer, who gets all messages from now on."""
        viewer = Viewer()
        self._all.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self._all.discard(viewer)
        self._gone_missed += viewer.missed

    def send(self, event: str, data: object) -> None:
        """Queue an event for each viewer; it is encoded once."""
        if self._all:
            sent = message(event, data)
            for viewer in self._all:
                viewer.put(sent)

    def close(self) -> None:
        """Have all of them leave."""
        for viewer in self._all:
            viewer.close()
