"""The machine of a measurement, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["describe"]


def _first(path: str, label: str) -> str:
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":" if ":" in line else "=")
        if name.strip() == label:
            return value.strip().strip('"')
    return "unknown"


def describe() -> str:
    """Name the kernel, processor, CPUs, memory, system and Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"Linux {platform.release()}, {_first('/proc/cpuinfo', 'model name')}, "
        f"{len(os.sched_getaffinity(0))} CPUs, {memory:.0f} GiB, "
        f"{_first('/etc/os-release', 'PRETTY_NAME')}, Python {platform.python_version()}"
    )
