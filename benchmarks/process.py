"""The time and memory of a whole process, from its start to its end."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Run", "run"]


@dataclass(frozen=True, slots=True)
class Run:
    """``wall`` and ``cpu`` (user and system) in seconds, ``peak`` as resident bytes."""

    wall: float
    cpu: float
    peak: int


def run(command: Sequence[str | Path], output: Path, errors: Path | None = None) -> Run:
    """Run the command to its end, with its standard output in a file. Raises if it fails.

    ``peak`` is at least the peak of this process: a child inherits it on Linux.
    """
    with output.open("wb") as stdout, (errors or Path(os.devnull)).open("wb") as stderr:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, [str(part) for part in command])
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
