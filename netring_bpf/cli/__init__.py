"""The command ``netring-bpf``: turns flags into calls of the library."""

from __future__ import annotations

import gc
import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits 0, 1 for an error that has a message, 2 for wrong usage."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it asks for statistics, and must never kill
    # A standard stream that is closed must not become the number of a file of ours.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)

    from netring_bpf.cli.app import run

    try:
        status = run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        sys.exit(
            f"netring-bpf: the command line needs {error.name}, which is not installed; "
            'pip install "netring-bpf[cli]"'
        )
    except BrokenPipeError:  # `| head`; keep the interpreter from flushing once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:  # before the command has its own handler
        sys.exit(130)
    # Spare the interpreter its last search for garbage in all modules.
    gc.freeze()
    sys.exit(status)
