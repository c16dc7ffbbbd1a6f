"""A capture's table of devices: opened, saved from time to time, and closed with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from netring_bpf.devices.options import DeviceOptions
from netring_bpf.devices.state import write_state
from netring_bpf.devices.table import DUE_PER_EVENT, DeviceTable
from netring_bpf.devices.vendors import MISSING, load_vendors
from netring_bpf.errors import DeviceFileError

__all__ = ["MOST_EVENTS", "DeviceWatch"]

#: One event of a flow may bring so many about devices, with itself: of both sides, a new one, one
#: that makes room, and a change; and those that were due.
MOST_EVENTS: Final = 7 + DUE_PER_EVENT
_TICK: Final = 5.0  # seconds
_log = logging.getLogger("netring_bpf.devices")


class DeviceWatch:
    """Loads the table and its registry of vendors, and keeps its file."""

    def __init__(self, options: DeviceOptions | None) -> None:
        self._options = options or DeviceOptions()
        self._path = None if self._options.state is None else Path(self._options.state)
        self._timer: asyncio.TimerHandle | None = None
        self._saved_at = time.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._is_open = False
        self.table: Final = DeviceTable(self._options)

    async def open(self) -> None:
        """Load what there is. Raises ``DeviceFileError`` for a file that cannot be believed."""
        if not await load_vendors():
            _log.warning("%s", MISSING)
        if self._path is not None and self._path.exists():
            await asyncio.to_thread(self.table.load, self._path)
        self._is_open = True

    def every(
        self, loop: asyncio.AbstractEventLoop, on_time: Callable[[DeviceWatch], None]
    ) -> None:
        """Call back from time to time, and save the table when it is time."""

        def run() -> None:
            on_time(self)
            if self._path is not None and self._is_time_to_save():
                self._saving = loop.create_task(self._save_quietly(), name="netring-devices")
            self._timer = loop.call_later(_TICK, run)

        self._timer = loop.call_later(_TICK, run)

    def _is_time_to_save(self) -> bool:
        if self._saving is not None and not self._saving.done():
            return False
        if time.monotonic() - self._saved_at < self._options.save_interval:
            return False
        self._saved_at = time.monotonic()
        return True

    async def _save_quietly(self) -> None:
        try:
            await self._save()
        except DeviceFileError as error:
            _log.warning("%s", error)

    async def _save(self) -> None:
        if self._path is not None:
            await asyncio.to_thread(write_state, self._path, self.table.state())

    def cancel(self) -> None:
        """Call back no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Save the table a last time. Raises ``DeviceFileError``. Idempotent."""
        self.cancel()
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)
        if self._is_open:
            self._is_open = False
            await self._save()
