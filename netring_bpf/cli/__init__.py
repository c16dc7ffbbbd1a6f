"""The command ``netring-bpf``: flags to a ``Netring`` and its sinks, nothing more."""

from __future__ import annotations

import contextlib
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits 0, 1 for an error that has a message, 2 for wrong usage."""
    try:
        from netring_bpf.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich", "msgspec"}:
            raise
        sys.exit(
            f"netring-bpf: the command line needs {error.name}, which is not installed; "
            'pip install "netring-bpf[cli]"'
        )
    with contextlib.suppress(KeyboardInterrupt):  # before the command has its own handler
        app()
