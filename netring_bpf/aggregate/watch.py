"""Makes the events of a capture's aggregates, once an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final, Protocol

from netring_bpf.aggregate.health import HealthMeter
from netring_bpf.aggregate.options import PRIVATE_NETWORKS, Network, StatsOptions
from netring_bpf.aggregate.totals import ALL, INTERVAL, Totals
from netring_bpf.events.event import BackendChanged, Event, LinkUp
from netring_bpf.events.stats import StatsUpdated, Top
from netring_bpf.statistics import CaptureStatistics, Equation

__all__ = ["Knowledge", "StatsWatch"]


class Knowledge(Protocol):
    """The knowledge of a capture beside its sums."""

    @property
    def interface(self) -> str:
        """The name of the interface, or of a replay's files."""

    def device_name(self, mac: str) -> str | None:
        """Return the best name of a device, if devices are watched and it has one."""

    def host_name(self, address: str) -> str | None:
        """Return the latest name of an address, if it has one."""

    @property
    def device_count(self) -> int | None:
        """The devices known; None if they are not watched."""

    def devices_online(self, now: int) -> int | None:
        """Return how many of them were seen of late; None if they are not watched."""

    @property
    def link_prefixes(self) -> Sequence[Network]:
        """The prefixes of the link, as the table of devices has learned them."""


class StatsWatch:
    """Owns the sums of a capture (``totals``), and keeps the latest event of them (``latest``)."""

    def __init__(self, options: StatsOptions) -> None:
        self.totals: Final = Totals(options)
        self.options: StatsOptions = options
        self.latest: StatsUpdated | None = None
        self._learns = not options.local
        self._local = options.networks
        self._meter = HealthMeter()
        self._restarts = 0

    @property
    def top(self) -> Top:
        """The largest of the latest interval."""
        return Top() if self.latest is None else self.latest.top

    def set_interval(self, seconds: float) -> None:
        """Change the length of intervals, from the next one on. Raises ``OptionError``."""
        self.options = dataclasses.replace(self.options, interval=seconds)
        self.totals.set_interval(seconds)

    def note(self, events: Sequence[Event]) -> None:
        """Count the restarts among events about the capture."""
        self._restarts += sum(isinstance(event, BackendChanged | LinkUp) for event in events)

    def update(
        self,
        start: int,
        end: int,
        capture: CaptureStatistics,
        equations: Sequence[Equation],
        lagged: int,
        knows: Knowledge,
        *,
        is_last: bool = False,
    ) -> StatsUpdated:
        """Return the event of the interval that was added to the sums, and begin another.

        ``capture``, ``equations``, ``lagged``: the books of now.
        """
        totals = self.totals
        totals.add_up()
        event = StatsUpdated(
            ts=end,
            interface=knows.interface,
            number=1 if self.latest is None else self.latest.number + 1,
            start=start,
            traffic=totals.traffic(INTERVAL),
            top=totals.top(INTERVAL, knows.device_name, knows.host_name),
            since_start=totals.traffic(ALL),
            top_since_start=totals.top(ALL, knows.device_name, knows.host_name),
            health=self._meter.measure(
                capture,
                equations,
                lagged=lagged,
                devices=knows.device_count,
                devices_online=knows.devices_online(end),
                restarts=self._restarts,
                is_last=is_last,
            ),
        )
        totals.clear()
        self.latest = event
        if self._learns:
            self._learn(knows.link_prefixes)
        return event

    def _learn(self, prefixes: Sequence[Network]) -> None:
        """Take the prefixes of the link for local ones, beside the private ones."""
        private = PRIVATE_NETWORKS
        local = (*private, *(p for p in prefixes if p not in private))
        if local != self._local:
            self._local = local
            self.totals.set_local(local)
