"""Child processes that cannot outlive us."""

from __future__ import annotations

import os
import subprocess
from typing import IO, TYPE_CHECKING

from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The death signal does not come where we died before it was asked for: whoever finds itself with
# another parent by then must not start at all.
_DIE_WITH_PARENT = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"'),
)

_Stream = int | IO[bytes] | IO[str] | None


def spawn(
    argv: Sequence[str],
    *,
    stdin: _Stream = subprocess.DEVNULL,
    stdout: _Stream = None,
    stderr: _Stream = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start ``argv``; the kernel kills it when the calling thread ends, however that happens.

    It has a session of its own: a Ctrl-C at the terminal is for us to act upon.
    Call this from a thread that lives as long as the process shall.
    """
    return subprocess.Popen(
        [*_DIE_WITH_PARENT, str(os.getpid()), *argv],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        text=True,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[str], *, timeout: float = PATIENCE) -> int:
    """End ``process`` with SIGTERM, with SIGKILL if it does not listen; return its status.

    Its pipes stay open: whoever made them closes them.
    """
    process.terminate()
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
