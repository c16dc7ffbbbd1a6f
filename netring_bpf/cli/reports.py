"""Prints the counters of a running ``Netring``: at SIGUSR1, and every so many seconds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

from netring_bpf.cli.say import say, tell
from netring_bpf.cli.summary import summary
from netring_bpf.errors import ClosedError, NetringError
from netring_bpf.netring import Netring

__all__ = ["reported"]


@contextlib.contextmanager
def reported(ring: Netring, interval: float | None) -> Iterator[None]:
    """Print the counters at each SIGUSR1, and every ``interval`` seconds within the block.

    Needs a running event loop. The signal stays harmless after the block.
    """
    loop = asyncio.get_running_loop()

    def on_signal(*_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_report, ring)

    # The loop's own handlers would end with it, and the signal would kill then.
    signal.signal(signal.SIGUSR1, on_signal)
    task = None if interval is None else asyncio.ensure_future(_every(ring, interval))
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


def _report(ring: Netring) -> None:
    try:
        say(summary(ring.statistics(), laws=False), prefix="")
    except ClosedError:
        say("not capturing yet")
    except NetringError as error:
        say(str(error))


async def _every(ring: Netring, interval: float) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due = max(due + interval, loop.time())  # a loop that was kept leaves reports out
        await asyncio.sleep(due - loop.time())
        with contextlib.suppress(NetringError):  # it has not begun, or is closing
            tell(summary(ring.statistics(), laws=False), prefix="")
