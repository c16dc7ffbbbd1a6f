"""A recorder of ``netring-bpf run``: it records in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from netring_bpf.capture.capture import Capture
from netring_bpf.cli.record import summary
from netring_bpf.cli.runner import Runner
from netring_bpf.cli.say import say, tell
from netring_bpf.config.contradictions import filter_of
from netring_bpf.errors import ClosedError, NetringError
from netring_bpf.recording.recorder import Recorder

if TYPE_CHECKING:
    from netring_bpf.config import RecorderConfig
    from netring_bpf.filter.filter import Filter

__all__ = ["RecorderRunner"]


class RecorderRunner(Runner):
    """Runs the recorder of one table."""

    def __init__(self, name: str, config: RecorderConfig, changed: Callable[[], None]) -> None:
        super().__init__(f"recorders.{name}", config.restart, changed)
        self._config = config
        self._filter: Filter | None = None
        self._capture: Capture | None = None
        self._recorder: Recorder | None = None
        self._is_open = False

    def report(self) -> Sequence[str]:
        """Return the counters so far."""
        if self._recorder is None or not self._is_open:
            return ()
        try:
            return self._lines(self._recorder, laws=False)
        except NetringError as error:
            return (f"{self.name}: {error}",)

    def _lines(self, recorder: Recorder, *, laws: bool) -> list[str]:
        books = summary(recorder.statistics(), laws=laws)
        return [f"{self.name} on {self._config.interface}:", *books]

    def trigger(self) -> None:
        """Have the ring written to a file, if the recorder has one."""
        recorder = self._recorder
        if recorder is not None and self._is_open and self._config.options.ring_time is not None:
            recorder.trigger(
                lambda path: tell(f"{self.name}: wrote {path}"),
                lambda error: say(f"{self.name}: {error}; the ring is kept"),
            )

    def _may_restart(self) -> bool:
        """Whether another attempt could make its file: no file that is there is overwritten."""
        return self._config.options.numbered or self._recorder is None or not self._has_file

    @property
    def _has_file(self) -> bool:
        return self._recorder is not None and bool(self._recorder.files)

    # -- one run --

    async def _once(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._changing:
            config = self._config
            self._filter = await asyncio.to_thread(filter_of, config)
            self._capture = capture = Capture(
                config.interface,
                filter=self._filter,
                backend=config.backend,
                steal=config.steal,
                netns=config.netns,
            )
            self._recorder = recorder = Recorder(capture, config.path, config.options)
            opened = loop.create_future()
            done = loop.create_future()
            thread = threading.Thread(
                target=_record, args=(recorder, loop, opened, done), name=self.name, daemon=True
            )
            thread.start()
            await asyncio.wait([opened, done], return_when=asyncio.FIRST_COMPLETED)
            if opened.done():
                self._is_open = True
                how = f"{capture.backend}, {capture.attach} XDP" if capture.attach else ""
                self._opened(f"recording {config.interface} ({how or capture.backend})")
        try:
            await self._wait(done)
        finally:
            recorder.stop()
        await asyncio.wait([done])
        was_open, self._is_open = self._is_open, False
        if was_open:
            for line in self._lines(recorder, laws=True):
                tell(line, prefix="")
        if (error := done.result()) is not None:
            raise error

    # -- changes --

    async def apply(self, config: RecorderConfig) -> list[str]:
        """Take another configuration; return what has changed, in words.

        A running recorder goes on if only its filter or its restarting change; else it begins
        again.
        """
        async with self._changing:
            before, self._config, self._restart = self._config, config, config.restart
            if not self.is_alive:
                self._stop.clear()
                self.start()
                return ["begins again"]
            if not self._is_open or self._capture is None:
                if before == config:
                    return []
                self._again.set()
                return ["changed; trying again"]
            if _without_live(before) != _without_live(config):
                is_one = not (before.options.numbered or config.options.numbered)
                if is_one and self._has_file and config.path == before.path:
                    self._config = before
                    return ["goes on as before: its file exists, so this change needs another path"]
                self._again.set()
                return ["begins again, for it has changed"]
            told = ["restart changed"] if before.restart != config.restart else []
            return told + await self._change_filter(self._capture)

    async def _change_filter(self, capture: Capture) -> list[str]:
        try:
            wanted = await asyncio.to_thread(filter_of, self._config)
            if wanted == self._filter:
                return []
            await asyncio.to_thread(capture.set_filter, wanted)
        except ClosedError:  # it ends just now
            return []
        except NetringError as error:
            return [f"the filter of before stays: {error}"]
        self._filter = wanted
        return ["filter changed"]


def _without_live(config: RecorderConfig) -> tuple[object, ...]:
    """Return what a running recorder cannot change."""
    return (
        config.interface, config.path, config.netns, config.backend, config.steal, config.options
    )  # fmt: skip


def _record(
    recorder: Recorder,
    loop: asyncio.AbstractEventLoop,
    opened: asyncio.Future[None],
    done: asyncio.Future[BaseException | None],
) -> None:
    """Record until ``recorder.stop()``; tell the loop of the beginning and of the end."""
    problem: BaseException | None = None
    try:
        with recorder:
            _tell(loop, opened, None)
            recorder.run()
    except BaseException as error:  # noqa: BLE001 - the loop raises it
        problem = error
    _tell(loop, done, problem)


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], value: object) -> None:
    def set_result() -> None:
        if not future.done():
            future.set_result(value)

    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(set_result)
