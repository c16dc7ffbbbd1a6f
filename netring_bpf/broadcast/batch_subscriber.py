"""The subscriber of whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from netring_bpf.broadcast.subscriber import E_co, Subscriber

__all__ = ["BatchSubscriber"]


class BatchSubscriber(Subscriber[E_co]):
    """A subscriber of whole batches: an async iterator and a context manager.

    Made by ``FlowBroadcast.subscribe_batches``. Each batch is a sequence of at least one event.
    Flow events come as the ``EventBatch`` they were published in, or as the part of it that is
    for this subscriber. Other events (``Lagged``, link changes, errors) come in sequences of
    their own. One task iterates it at a time. Events count as delivered when their batch is
    handed out. At the end the iteration first raises the capture's error, unless that comes as
    an event.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[E_co]:
        """Wait for the next batch and return it. Ends when the broadcast is closed and read."""
        if events := await self.next_batch():
            return events
        raise StopAsyncIteration

    def next_nowait(self) -> Sequence[E_co] | None:
        """Return the next batch, or ``None`` if there is none yet; raises at the end, as above."""
        return self._batch_nowait()
