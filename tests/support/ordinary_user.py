"""Python code run as an ordinary user, who may not be able to read the checkout or its .venv."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_UID = "65534"
_IMPORTED = ("netring_bpf", "cffi", "_cffi_backend", "pyroute2")


class OrdinaryUser:
    """Imports the package from a copy that everybody can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def with_a_copy(cls) -> Iterator[OrdinaryUser]:
        """Make the copy for the block."""
        # Not below TMPDIR, which may be private.
        with tempfile.TemporaryDirectory(prefix="netring-readable-", dir="/tmp") as name:
            for module in _IMPORTED:
                _copy(module, Path(name))
            subprocess.run(["chmod", "--recursive", "a+rX", name], check=True)
            yield cls(Path(name))

    def command(self, code: str, *arguments: str, capabilities: tuple[str, ...]) -> list[str]:
        """Return the command that runs ``code`` as that user, with these capabilities only."""
        held = ",".join(["-all", *(f"+{name}" for name in capabilities)])
        # The interpreter of the .venv is behind a link; -P ignores the package in this folder.
        python = str(Path(sys.executable).resolve())
        return [
            *("env", f"PYTHONPATH={self.folder}"),
            *("setpriv", "--reuid", _UID, "--clear-groups"),
            *("--inh-caps", held, "--ambient-caps", held),
            *(python, "-P", "-c", code, *arguments),
        ]


def _copy(module: str, folder: Path) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        shutil.copy(origin, folder)
    else:
        unneeded = shutil.ignore_patterns("__pycache__")
        shutil.copytree(origin.parent, folder / module, ignore=unneeded)
