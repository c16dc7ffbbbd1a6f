"""What ``netring-bpf top`` reads: a capture of its own, live or from a file."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from netring_bpf.cli.top_model import Record, TopModel, device_line
from netring_bpf.errors import ClosedError, NetringError
from netring_bpf.events.event import (
    BackendChanged,
    CaptureError,
    DeviceChanged,
    DeviceGone,
    DeviceSeen,
    Event,
    FlowEnded,
    FlowStarted,
    FlowUpdated,
    LinkDown,
    LinkUp,
    SinkFailed,
    StatsUpdated,
)

if TYPE_CHECKING:
    from types import TracebackType

    from netring_bpf.broadcast.broadcast import BatchSubscriber
    from netring_bpf.netring import Netring

__all__ = ["KINDS_LIVE", "KINDS_OF_A_FILE", "RingSource", "TopSource"]

KINDS_LIVE: Final = (FlowStarted, FlowUpdated, FlowEnded)
KINDS_OF_A_FILE: Final = (FlowEnded,)
_LOOK: Final = 1.0  # seconds between two looks at the table of devices
_BESIDES: Final[tuple[type[Event], ...]] = (
    StatsUpdated, DeviceSeen, DeviceChanged, DeviceGone, LinkUp, LinkDown, BackendChanged,
    CaptureError, SinkFailed,
)  # fmt: skip


class TopSource(Protocol):
    """Feeds a model. An async context manager that is open while the screen is there."""

    @property
    def title(self) -> str:
        """The name of what is read, and how."""

    @property
    def is_file(self) -> bool:
        """Whether times are those of a file, which is read as fast as it can be."""

    @property
    def progress(self) -> float | None:
        """The share of the file that was read, 0 to 1; None if that is not known."""

    @property
    def error(self) -> NetringError | None:
        """The error that ended the capture."""

    def books(self) -> Record:
        """Return all counters and equations of now, for people."""

    def next(self) -> None:
        """Turn to the next capture, if there are several."""

    async def run(self, model: TopModel) -> None:
        """Feed the model until there is no more. Raises ``NetringError``."""

    async def __aenter__(self) -> Self:
        """Open it. Raises ``NetringError``."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class RingSource:
    """A ``Netring`` with devices and aggregates."""

    def __init__(self, ring: Netring, expression: str | None) -> None:
        self._ring = ring
        self._expression = expression
        self._events: BatchSubscriber | None = None

    @property
    def title(self) -> str:
        """The name of the interface or the files, the backend and the filter."""
        ring = self._ring
        how = "" if self.is_file else f" {ring.backend}"
        what = f" ({self._expression})" if self._expression else ""
        return f"{ring.interface}{how}{what}"

    @property
    def is_file(self) -> bool:
        """Whether it is a replay."""
        return self._ring.progress is not None

    @property
    def progress(self) -> float | None:
        """The share of the file that was read."""
        done, size = self._ring.progress or (0, 0)
        return done / size if size else None

    @property
    def error(self) -> NetringError | None:
        """The error that ended the capture."""
        return self._ring.error

    def books(self) -> Record:
        """Return the counters and the equations of the whole capture."""
        try:
            statistics = self._ring.statistics()
        except (ClosedError, NetringError) as error:
            return {"books": str(error)}
        told: dict[str, object] = {}
        for equation in statistics.equations():
            sign = "=" if equation.holds else "is not"
            told[equation.law] = f"{equation.left:,} {sign} {equation.right:,}"
        capture = statistics.capture
        told |= {f"not keyed: {why}": n for why, n in capture.not_keyed.items() if n}
        told |= {f"flows ended: {why}": n for why, n in capture.flows.ended.items() if n}
        return told

    def next(self) -> None:
        """There is no other."""

    async def run(self, model: TopModel) -> None:
        """Feed the model to the end of the capture."""
        assert self._events is not None
        looked = 0.0
        async for batch in self._events:
            model.feed(batch)
            if time.monotonic() - looked > _LOOK:
                self._look_at_devices(model)
                looked = time.monotonic()
        self._look_at_devices(model)
        model.end()

    def _look_at_devices(self, model: TopModel) -> None:
        """Take what each device has gained; events tell only what is new of it."""
        for device in self._ring.devices:
            known = model.devices.get(device.mac)
            if known is None or known.last != device.last:
                model.add_device(device_line(device))

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._ring)
            kinds = (*(KINDS_OF_A_FILE if self.is_file else KINDS_LIVE), *_BESIDES)
            self._events = self._ring.subscribe_batches(kinds=kinds, errors="event", name="top")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()
        await self._stack.aclose()
