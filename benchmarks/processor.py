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
    """Put the process before the others on its CPU, and what it starts from now on.

    By a real-time priority: a nice value has no say between sessions (autogroup), and does not
    end the slice of who is running, of some 3 ms, in which a ring of 16,384 frames runs over.
    """
    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
