"""The event loop that a stream needs, or an error that says so."""

from __future__ import annotations

import asyncio

from netring_bpf.errors import EventLoopError

__all__ = ["event_loop"]


def event_loop(what: str) -> asyncio.AbstractEventLoop:
    """Return the asyncio event loop that runs in this thread.

    ``what``: the object or the action, for the message. Raises ``EventLoopError``.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise EventLoopError(
            f"{what}: no asyncio event loop runs in this thread; run the program by "
            'asyncio.run(main()), or anyio.run(main, backend="asyncio"); the loop of trio does '
            "not serve"
        ) from None
