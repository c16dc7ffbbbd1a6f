"""A disk that is soon full."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

__all__ = ["SmallDisk"]


class SmallDisk:
    """A tmpfs of ``size`` bytes in a mount namespace of its own, held by a child process.

    ``path`` leads into it from outside. A context manager.
    """

    def __init__(self, folder: Path, size: int) -> None:
        mount = f'mount -t tmpfs -o size={size} none "$0" && echo ready && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, error = self._holder.communicate()
            raise RuntimeError(f"cannot mount a tmpfs: {error.strip()}")
        self.path = Path(f"/proc/{self._holder.pid}/root{folder}")

    def fill(self, but: int) -> Path:
        """Make a file that takes all of the room but these bytes."""
        path = self.path / "filler"
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(path.stat().st_size - but)
        return path

    def close(self) -> None:
        """Let the disk go, with all that is on it."""
        self._holder.kill()
        self._holder.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
