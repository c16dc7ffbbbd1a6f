"""A progress bar on the terminal while a file is read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from netring_bpf.netring import Netring

__all__ = ["show_progress"]

_INTERVAL = 0.2  # seconds


@contextlib.contextmanager
def show_progress(ring: Netring) -> Iterator[None]:
    """Draw a bar on standard error while the file is read. Needs a running event loop."""
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        size = (ring.progress or (0, 0))[1]
        task = asyncio.ensure_future(_follow(ring, bar, bar.add_task("", total=size or None)))
        try:
            yield
        finally:
            task.cancel()


async def _follow(ring: Netring, bar: Progress, task: TaskID) -> None:
    while True:
        bar.update(task, completed=(ring.progress or (0, 0))[0])
        await asyncio.sleep(_INTERVAL)
