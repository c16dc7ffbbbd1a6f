"""A progress bar on the terminal while a file is read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["show_progress"]

_INTERVAL = 0.2  # seconds


@contextlib.contextmanager
def show_progress(progress: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """Draw a bar on standard error within the block.

    ``progress``: the bytes read and their size, 0 for a pipe. It is called from another thread.
    """
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    over = threading.Event()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=progress()[1] or None)

        def follow() -> None:
            while not over.wait(_INTERVAL):
                bar.update(task, completed=progress()[0])

        thread = threading.Thread(target=follow, name="netring-progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
