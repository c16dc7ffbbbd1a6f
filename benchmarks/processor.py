"""A CPU for a process under test: the process is pinned on it and runs before all others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["RECEIVER", "SENDER", "command_on", "favour", "python_on"]

SENDER = 0  #: the generator, and the kernel's receive path, which runs inline with it
RECEIVER = min(1, (os.cpu_count() or 1) - 1)
_ROOT = Path(__file__).resolve().parents[1]


def command_on(cpu: int, *argv: str) -> Sequence[str]:
    """Pin the command."""
    return ["taskset", "--cpu-list", str(cpu), *argv]


def python_on(cpu: int, module: str, *argv: str) -> Sequence[str]:
    """Run a module of ours as a program, pinned, from any working directory."""
    return ["env", f"PYTHONPATH={_ROOT}", *command_on(cpu, sys.executable, "-m", module, *argv)]


def favour(pid: int) -> None:
    """Run the process, and the processes that it starts from now on, before all others on its CPU.

    A real-time priority does that. A nice value has no effect between sessions (autogroup), and it
    does not end another process's slice, which is long enough for a ring to overflow.
    """
    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
