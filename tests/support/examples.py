"""The examples as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.lab import Namespace
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

__all__ = ["EXAMPLES", "Running", "command", "make_lesson", "run"]

EXAMPLES = ROOT / "examples"


def command(name: str, *arguments: str | Path) -> list[str]:
    """The command line that runs an example, unbuffered, with warnings as errors."""
    return [sys.executable, "-u", "-W", "error", str(EXAMPLES / name), *map(str, arguments)]


def run(
    name: str, *arguments: str | Path, input: bytes | None = None, status: int = 0
) -> tuple[list[str], str]:
    """Run an example to its end; return the lines that it printed, and its messages."""
    done = subprocess.run(
        command(name, *arguments),
        input=b"" if input is None else input,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode().splitlines(), done.stderr.decode()


def make_lesson(path: Path) -> Path:
    """The capture of the tutorials."""
    assert run("lesson.py", path) == ([], "")
    return path


class Running:
    """An example in a namespace, until a signal ends it. A context manager."""

    def __init__(self, namespace: Namespace, name: str, *arguments: str | Path) -> None:
        pipe = subprocess.PIPE
        self.process = namespace.popen(command(name, *arguments), stdout=pipe, stderr=pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def lines(self, count: int) -> list[str]:
        """The next lines that it prints."""
        return [self.line() for _ in range(count)]

    def until(self, pattern: str) -> re.Match[str]:
        """The first line from here that is of this pattern."""
        while line := self.line():
            if found := re.fullmatch(pattern, line):
                return found
        raise AssertionError(f"no line {pattern}")

    def end(self, number: int, *, said: Sequence[str] = ()) -> list[str]:
        """Send a signal; return the lines up to the end, which is one without an error."""
        self.process.send_signal(number)
        out, error = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, error.splitlines()) == (0, list(said))
        return out.splitlines()
