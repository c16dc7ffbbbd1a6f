"""Runs what a page tells its reader to type, and compares what that prints with the page."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import PATIENCE

__all__ = ["Told", "fits", "run_session", "told_by"]

_MARK = "~~ the command has ended ~~"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# ([\w.-]+)\n")


@dataclass(frozen=True)
class Told:
    """A command of a ``console`` block, with the output that stands below it."""

    command: str
    output: str


def told_by(page: Path, folder: Path) -> list[Told]:
    """The commands of a page. Blocks that name a file in a first comment are written there."""
    told: list[Told] = []
    for language, block in _BLOCK.findall(page.read_text()):
        if language == "console":
            told += _commands(block)
        elif named := _NAMED.match(block):
            (folder / named[1]).write_text(block)
    return told


def _commands(block: str) -> list[Told]:
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert parts[0] == "", "a block of a console begins with a command"
    told = []
    for part in parts[1:]:
        lines = part.splitlines(keepends=True)
        end = next(n for n, line in enumerate(lines) if not line.endswith("\\\n")) + 1
        told.append(Told("".join(lines[:end]).strip(), "".join(lines[end:])))
    return told


def run_session(
    commands: list[Told], folder: Path, env: dict[str, str], *, before: tuple[str, ...] = ()
) -> list[str]:
    """Run the commands in one shell, one after the other; return what each printed."""
    script = "".join(f"{told.command}\necho '{_MARK}'\n" for told in commands)
    with tempfile.TemporaryFile("w+") as output:
        # A file and not a pipe: what a command leaves in the background may hold it open.
        shell = subprocess.Popen(
            [*before, "bash", "--norc", "-c", f"exec 2>&1\n{script}"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            shell.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left of it
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        output.seek(0)
        *printed, rest = output.read().split(f"{_MARK}\n")
    assert rest == ""
    return printed


def fits(expected: str, printed: str) -> bool:
    """Whether the output is that of the page, where … stands for any text or any lines."""
    pattern = ""
    for line in expected.splitlines():
        if line == "…":
            pattern += "(?:.*\n)*"
        else:
            pattern += ".*".join(map(re.escape, line.split("…"))) + "\n"
    return re.fullmatch(pattern, printed) is not None
