"""The process of ``netring-bpf run``: its signals, its file, and what systemd is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from netring_bpf.cli.run_capture import CaptureRunner
from netring_bpf.cli.run_recorder import RecorderRunner
from netring_bpf.cli.say import say, tell
from netring_bpf.cli.systemd import Notifier
from netring_bpf.config import Configuration, read
from netring_bpf.errors import ConfigError, InternalError, NetringError

__all__ = ["Service"]


class Service:
    """Runs all tables of a configuration until a signal ends them."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self._path = path
        self._configuration = configuration
        self._notifier = Notifier()
        self._captures: dict[str, CaptureRunner] = {}
        self._recorders: dict[str, RecorderRunner] = {}
        self._stop = asyncio.Event()
        self._asked = asyncio.Event()  # to read the file again
        self._changed = asyncio.Event()  # something began or ended: for systemd
        self._moved = asyncio.Event()  # the same, for the end
        self._reloading = asyncio.Lock()
        self._paced = asyncio.Event()  # the interval of reports changed

    async def serve(self, is_asked: Callable[[], bool]) -> bool:
        """Run until a signal; return whether all ran to the end.

        ``is_asked``: whether SIGHUP has come before this began.
        """
        self._listen()
        if is_asked():
            self._asked.set()
        whole = self._configuration
        for name in whole.captures:
            self._add_capture(name)
        for name in whole.recorders:
            self._add_recorder(name)
        tasks = [
            asyncio.create_task(self._begin()),
            asyncio.create_task(self._reload_always()),
            asyncio.create_task(self._report_always()),
            asyncio.create_task(self._watch_end()),
        ]
        if self._notifier.watchdog is not None:
            tasks.append(asyncio.create_task(self._live(self._notifier.watchdog)))
        try:
            await self._stop.wait()
            self._notifier.stopping()
        finally:
            for task in tasks[:4]:
                task.cancel()
            try:
                await asyncio.gather(*tasks[:4], return_exceptions=True)
                await asyncio.gather(*(runner.stop() for runner in self._runners))
            finally:
                for runner in self._runners:
                    runner.cancel()
                for task in tasks[4:]:
                    task.cancel()
        return not any(runner.failed for runner in self._runners) and not any(
            capture.sinks_failed for capture in self._captures.values()
        )

    @property
    def _runners(self) -> list[CaptureRunner | RecorderRunner]:
        return [*self._captures.values(), *self._recorders.values()]

    # -- runners --

    def _add_capture(self, name: str) -> None:
        whole = self._configuration
        runner = CaptureRunner(name, whole.captures[name], whole.sinks_of(name), self._note)
        self._captures[name] = runner
        runner.start()

    def _add_recorder(self, name: str) -> None:
        runner = RecorderRunner(name, self._configuration.recorders[name], self._note)
        self._recorders[name] = runner
        runner.start()

    async def _begin(self) -> None:
        """Tell systemd once each capture has begun, or has tried to."""
        for runner in self._runners:
            await runner.begun.wait()
        self._notifier.ready(self._status())
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._notifier.status(self._status())

    def _status(self) -> str:
        runners = self._runners
        running = sum(runner.running for runner in runners)
        return f"{running} of {len(runners)} captures and recorders run"

    async def _watch_end(self) -> None:
        """End the process when nothing runs any more, and nothing will."""
        while any(runner.is_alive for runner in self._runners):
            await self._moved.wait()
            self._moved.clear()
            async with self._reloading:
                pass  # what a new file brings begins meanwhile
        say("nothing runs any more")
        self._stop.set()

    def _note(self) -> None:
        """Note that something has begun or ended."""
        self._changed.set()
        self._moved.set()

    # -- signals --

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()

        def on_end() -> None:
            if self._stop.is_set() and main is not None:
                main.cancel()
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_end)

        def heard(act: Callable[[], object]) -> Callable[..., None]:
            def on_signal(*_: object) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(act)

            return on_signal

        # The loop's own handlers would end with it, and these signals would kill then.
        signal.signal(signal.SIGHUP, heard(self._asked.set))
        signal.signal(signal.SIGUSR1, heard(self._on_user))

    def _on_user(self) -> None:
        self._report()
        for recorder in self._recorders.values():
            recorder.trigger()

    # -- reports --

    def _report(self) -> None:
        for runner in self._runners:
            for line in runner.report() or (f"{runner.name}: does not run",):
                say(line, prefix="")

    async def _report_always(self) -> None:
        while True:
            self._paced.clear()
            try:
                async with asyncio.timeout(self._configuration.run.report_interval):
                    await self._paced.wait()
            except TimeoutError:
                self._report()

    async def _live(self, interval: float) -> None:
        while True:
            self._notifier.alive()
            await asyncio.sleep(interval)

    # -- the file --

    async def _reload_always(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._notifier.reloading()
            try:
                async with self._reloading:
                    await self._reload()
            except NetringError as error:
                say(str(error))
            except Exception as error:  # noqa: BLE001 - the next SIGHUP must be heard
                say(str(InternalError("reading the file again", error)))
            finally:
                self._notifier.ready(self._status())

    async def _reload(self) -> None:
        try:
            whole = await asyncio.to_thread(read, self._path, os.environ)
        except ConfigError as error:
            for mistake in error.mistakes:
                say(mistake, prefix="")
            say(f"{self._path}: not taken; all goes on as before")
            return
        before, self._configuration = self._configuration, whole
        told: list[str] = []
        if before.run != whole.run:
            self._paced.set()
            told.append("run: report_interval changed")
        told += await self._remove()
        # A sink that moves leaves its address before another capture takes it.
        for name in sorted(whole.captures, key=lambda name: not self._loses_sink(before, name)):
            config = whole.captures[name]
            if name in self._captures:
                changes = await self._captures[name].apply(config, whole.sinks_of(name))
                told += [f"captures.{name}: {change}" for change in changes]
            else:
                self._add_capture(name)
                told.append(f"captures.{name}: added")
        for name, recorder in whole.recorders.items():
            if name in self._recorders:
                changes = await self._recorders[name].apply(recorder)
                told += [f"recorders.{name}: {change}" for change in changes]
            else:
                self._add_recorder(name)
                told.append(f"recorders.{name}: added")
        for line in told:
            tell(line)
        for runner in self._runners:
            await runner.begun.wait()
        tell(f"{self._path}: read again, {len(told) or 'no'} changes")

    def _loses_sink(self, before: Configuration, name: str) -> bool:
        had = before.sinks_of(name) if name in before.captures else {}
        return not had.keys() <= self._configuration.sinks_of(name).keys()

    async def _remove(self) -> list[str]:
        """End what the file has no more, before anything takes its interface."""
        whole = self._configuration
        gone: list[CaptureRunner | RecorderRunner] = [
            *(runner for n, runner in self._captures.items() if n not in whole.captures),
            *(runner for n, runner in self._recorders.items() if n not in whole.recorders),
        ]
        await asyncio.gather(*(runner.stop() for runner in gone))
        # Only now: a signal that comes before has to find them.
        self._captures = {n: r for n, r in self._captures.items() if n in whole.captures}
        self._recorders = {n: r for n, r in self._recorders.items() if n in whole.recorders}
        return [f"{runner.name}: removed" for runner in gone]
