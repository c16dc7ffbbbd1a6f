"""The state of a capture in an interval: what its books have gained since the last look."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from netring_bpf.events.stats import Health
from netring_bpf.statistics import CaptureStatistics, Equation

__all__ = ["HealthMeter"]

_ON_ITS_WAY: Final = 1.0  # seconds after which a frame or an event is counted on both sides
_STATM: Final = Path("/proc/self/statm")
_EVICTED: Final = "evicted"


class HealthMeter:
    """Compares the books with those of the last look."""

    def __init__(self) -> None:
        self._received = self._lost = self._evicted = self._events_lost = self._lagged = 0
        self._not_keyed: dict[str, int] = {}
        self._cpu, self._clock = time.process_time(), time.monotonic()
        self._looks: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()

    def measure(
        self,
        capture: CaptureStatistics,
        equations: Sequence[Equation],
        *,
        lagged: int,
        devices: int | None,
        devices_online: int | None,
        restarts: int,
        is_last: bool,
    ) -> Health:
        """Return what was gained since the last call, and the state of now.

        ``lagged``: events that subscribers missed so far. ``is_last``: nothing moves any more, so
        the books must balance exactly.
        """
        evicted = capture.flows.ended.get(_EVICTED, 0)
        health = Health(
            received=capture.received - self._received,
            lost=capture.lost - self._lost,
            not_keyed={
                reason: n - self._not_keyed.get(reason, 0)
                for reason, n in capture.not_keyed.items()
            },
            balanced=self._is_balanced(equations, is_last),
            flows_live=capture.flows.live,
            flows_capacity=capture.flows.capacity,
            flows_evicted=evicted - self._evicted,
            events_lost=capture.events_lost - self._events_lost,
            events_lagged=lagged - self._lagged,
            memory=_memory(),
            cpu=self._cpu_share(),
            devices=devices,
            restarts=restarts,
            devices_online=devices_online,
        )
        self._received, self._lost, self._evicted = capture.received, capture.lost, evicted
        self._events_lost, self._lagged = capture.events_lost, lagged
        self._not_keyed = dict(capture.not_keyed)
        return health

    def _cpu_share(self) -> float:
        cpu, clock = time.process_time(), time.monotonic()
        spent, passed = cpu - self._cpu, clock - self._clock
        self._cpu, self._clock = cpu, clock
        return spent / passed if passed > 0 else 0.0

    def _is_balanced(self, equations: Sequence[Equation], is_last: bool) -> bool:
        """Whether every equation holds, but for what is on its way.

        The counters of a running capture are read at slightly different moments. So each side must
        by now have reached what the other had at an earlier look.
        """
        if is_last:
            return all(equation.holds for equation in equations)
        now = time.monotonic()
        before = self._look_before(now - _ON_ITS_WAY)
        self._looks.append((now, {e.law: (e.left, e.right) for e in equations}))
        return all(equation.holds or _may_hold(equation, before) for equation in equations)

    def _look_before(self, moment: float) -> Mapping[str, tuple[int, int]]:
        """Return the latest look before this moment; the earlier ones are needed no more."""
        while len(self._looks) > 1 and self._looks[1][0] <= moment:
            self._looks.popleft()
        return self._looks[0][1] if self._looks and self._looks[0][0] <= moment else {}


def _may_hold(equation: Equation, before: Mapping[str, tuple[int, int]]) -> bool:
    left, right = before.get(equation.law, (0, 0))
    return left <= equation.right and right <= equation.left


def _memory() -> int:
    """Return the resident bytes of this process."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:  # /proc is not there
        return 0
