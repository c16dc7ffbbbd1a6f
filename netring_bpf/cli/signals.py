"""The signals that a command hears."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Self

__all__ = ["Listener", "ending_signals"]


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a command; nohup(1) has SIGHUP ignored, and it stays so."""
    always = signal.SIGINT, signal.SIGTERM
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return always if ignored else (*always, signal.SIGHUP)


class Listener:
    """Acts on signals in a thread of its own, whatever the main thread waits for.

    ``every``: that thread also calls ``report`` each time so many seconds have passed. A context
    manager, for the main thread. The signals stay harmless after it.
    """

    def __init__(
        self,
        actions: Mapping[signal.Signals, Callable[[], object]],
        *,
        every: float | None = None,
        report: Callable[[], object] = lambda: None,
    ) -> None:
        self._every = every
        self._report = report
        self._actions = {int(number): action for number, action in actions.items()}
        self._thread = threading.Thread(target=self._listen, name="netring-signals", daemon=True)

    def __enter__(self) -> Self:
        self._due = time.monotonic() + (self._every or 0.0)
        self._ears, self._mouth = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._mouth, False)
        self._before = signal.set_wakeup_fd(self._mouth, warn_on_full_buffer=False)
        for number in self._actions:
            signal.signal(number, lambda *_: None)  # what counts is the byte in the pipe
        self._thread.start()
        return self

    def _listen(self) -> None:
        while numbers := self._heard():
            for number in numbers:
                if action := self._actions.get(number):
                    action()

    def _heard(self) -> bytes:
        """Return the numbers of the next signals, with reports before them; empty at the end."""
        while self._every is not None:
            left = max(0.0, self._due - time.monotonic())
            if select.select([self._ears], [], [], left)[0]:
                break
            if time.monotonic() >= self._due:
                self._due = max(self._due + self._every, time.monotonic())
                self._report()
        return os.read(self._ears, 64)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._mouth)
        self._thread.join()
        os.close(self._ears)
