"""Keeps a capture or a recorder of ``netring-bpf run`` going: begins it, again if it ends."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from netring_bpf.cli.say import say, tell
from netring_bpf.errors import InternalError, NetringError, limits_explained

if TYPE_CHECKING:
    from netring_bpf.config import RestartOptions

__all__ = ["Runner"]


class Runner(ABC):
    """Runs one table of the configuration until it is told to stop.

    ``name``: the table's. ``begun``: set once the first attempt has begun or failed. ``task``:
    lasts as long as it runs or will run again. ``failed``: it does not run, because of an error, or
    did not until it was told to stop.
    """

    def __init__(self, name: str, restart: RestartOptions, changed: Callable[[], None]) -> None:
        self.name = name
        self.begun: asyncio.Event = asyncio.Event()
        self.failed: bool = False
        self.running: bool = False
        self._restart = restart
        self._changed = changed
        self._stop = asyncio.Event()
        self._again = asyncio.Event()
        self._changing = asyncio.Lock()  # held while it opens, and while it changes
        self.task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will again."""
        return self.task is not None and not self.task.done()

    def start(self) -> asyncio.Task[None]:
        """Begin, or begin again after the end; return the task that lasts as long."""
        self._again.clear()
        self.task = asyncio.create_task(self._run(), name=f"run-{self.name}")
        return self.task

    async def stop(self) -> None:
        """Let it end well, and wait for that."""
        self._stop.set()
        if self.task is not None:
            await asyncio.wait([self.task])

    def cancel(self) -> None:
        """End it as fast as can be."""
        if self.task is not None:
            self.task.cancel()

    # -- for subclasses --

    @abstractmethod
    async def _once(self) -> None:
        """Run until ``_wait()`` returns, or raise ``NetringError``."""

    @abstractmethod
    def report(self) -> Sequence[str]:
        """Return the counters so far, a line each; empty if it does not run."""

    def _may_restart(self) -> bool:
        return True

    def _opened(self, text: str) -> None:
        """Say that it runs."""
        self.running, self.failed = True, False
        self.begun.set()
        tell(f"{self.name}: {text}")
        self._changed()

    async def _wait(self, *others: asyncio.Future[Any]) -> None:
        """Wait until it is told to stop or to begin again, or one of the others is done."""
        signs = [asyncio.ensure_future(event.wait()) for event in (self._stop, self._again)]
        try:
            await asyncio.wait([*signs, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for sign in signs:
                sign.cancel()

    @property
    def _is_told(self) -> bool:
        return self._stop.is_set() or self._again.is_set()

    # -- the task --

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause, told = self._restart.restart_delay, ""
        try:
            while not self._stop.is_set():
                if self._again.is_set():  # it has changed
                    pause, told = self._restart.restart_delay, ""
                self._again.clear()
                began = loop.time()
                problem = await self._attempt()
                self.running = False
                if problem is not None:
                    self.failed = True
                if self._stop.is_set():
                    if problem is not None:
                        say(f"{self.name}: {problem}")
                    break
                if problem is None and self._again.is_set():
                    continue
                problem = problem or NetringError("it has ended")
                if not (self._restart.restart and self._may_restart()):
                    say(f"{self.name}: {problem}; it has ended, and the others go on")
                    break
                if loop.time() - began >= self._restart.restart_max:
                    pause, told = self._restart.restart_delay, ""
                if str(problem) != told:  # else it would fill the log
                    told = str(problem)
                    say(f"{self.name}: {told}; trying again, first in {pause:g} s")
                self._changed()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wait()
                pause = min(pause * 2, self._restart.restart_max)
        finally:
            self.running = False
            self.begun.set()
            self._changed()

    async def _attempt(self) -> NetringError | None:
        """Run once; return the error that ended it, None if it was told to end."""
        try:
            with limits_explained(self.name):
                await self._once()
        except NetringError as error:
            return error
        except Exception as error:  # noqa: BLE001 - it must not end the others
            return InternalError(self.name, error)
        finally:
            self.begun.set()
        return None
