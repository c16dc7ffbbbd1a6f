"""A CPU for a process under test, as far as one can have it: pinned, and before all others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["RECEIVER", "SENDER", "command_on", "favour", "python_on"]

SENDER = 0  #: the generator and, as its frames are received inline, the kernel's receive path
RECEIVER = min(1, (os.cpu_count() or 1) - 1)
_ROOT = Path(__file__).resolve().parents[1]


def command_on(cpu: int, *argv: str) -> Sequence[str]:
    """The command, pinned."""
    return ["taskset", "--cpu-list", str(cpu), *argv]


def python_on(cpu: int, module: str, *argv: str) -> Sequence[str]:
    """A module of ours as a program, pinned; whatever the working directory is."""
    return ["env", f"PYTHONPATH={_ROOT}", *command_on(cpu, sys.executable, "-m", module, *argv)]


def favour(pid: int) -> None:
    """Put the process before the others on its CPU; it must have a session of its own.

    Not by a real-time priority, with which its own threads would wait for each other. Where the
    kernel groups processes by session, nice values count only within a group.
    """
    os.setpriority(os.PRIO_PROCESS, pid, -20)
    group = Path(f"/proc/{pid}/autogroup")
    if group.exists():
        group.write_text("-20", encoding="ascii")
