"""Waiting for what must come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["PATIENCE", "until", "wait_until"]

# Many times what an idle machine needs: a test that passes never waits so long, and a loaded
# machine does not make it fail.
PATIENCE: Final = 120.0  # seconds
_PAUSE = 0.005


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what is no event, such as a counter."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {PATIENCE} s")
        time.sleep(_PAUSE)


async def until(condition: Callable[[], object]) -> None:
    """``wait_until`` for a coroutine."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(_PAUSE)
