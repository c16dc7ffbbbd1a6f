"""The memory that the flow table of a file may take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["memory_bound"]

_GROUPS = Path("/sys/fs/cgroup")


def memory_bound() -> int:
    """Return half of the memory that this machine has, or that this container may have."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([installed, *_limits_of_groups()]) // 2


def _limits_of_groups() -> list[int]:
    """Return the limits of this process's control group, version 2, and of those around it."""
    limits = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                own = _GROUPS / line.removeprefix("0::/")
                for group in (own, *own.parents):
                    if _GROUPS in (group, *group.parents):
                        limits += _limit_of(group)
    return limits


def _limit_of(group: Path) -> list[int]:
    try:
        text = (group / "memory.max").read_text().strip()
    except OSError:  # the root has no limit
        return []
    return [int(text)] if text.isdecimal() else []
