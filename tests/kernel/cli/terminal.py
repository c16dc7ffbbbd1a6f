"""A pseudo-terminal, on which a command runs as under a login shell."""

from __future__ import annotations

import os
import re
import select
import termios
from typing import Self

from tests.kernel.cli.command import LIMIT

STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A pseudo-terminal with a keyboard and a screen."""

    def __init__(self, columns: int) -> None:
        self._keyboard, self.line = os.openpty()
        termios.tcsetwinsize(self.line, (24, columns))
        modes = termios.tcgetattr(self.line)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(self.line, termios.TCSANOW, modes)
        self._shown = b""

    @property
    def shown(self) -> str:
        """All that was written, with the terminal's control sequences."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        return STYLE.sub("", self.shown).splitlines()

    def wait_for(self, text: str) -> None:
        """Wait until a line contains ``text``."""
        while not any(text in line for line in self.lines):
            assert self._read(), f"not shown: {self.lines}"

    def read_to_the_end(self) -> list[str]:
        """Return all lines, once every process has closed the terminal."""
        while self._read():
            pass
        return self.lines

    @property
    def raw(self) -> bytes:
        """All bytes so far."""
        return self._shown

    def resize(self, columns: int) -> None:
        """Give the window another width."""
        termios.tcsetwinsize(self._keyboard, (24, columns))

    def type(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    def _read(self) -> bool:
        assert select.select([self._keyboard], [], [], LIMIT)[0], f"silence after: {self.lines}"
        try:
            self._shown += os.read(self._keyboard, 1 << 16)
        except OSError:  # EIO: the other end is closed
            return False
        return True

    def hand_over(self) -> None:
        """Leave the line to the process alone."""
        os.close(self.line)
        self.line = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.line >= 0:
            os.close(self.line)
        os.close(self._keyboard)
