"""The release of the running kernel, for errors of calls that older kernels lack."""

from __future__ import annotations

import os
import re

__all__ = ["if_older"]


def if_older(major: int, minor: int, what: str) -> str | None:
    """Return that ``what`` needs Linux ``major.minor``; None if the running kernel is no older.

    Vendors carry features back to older kernels, so ask only after the kernel refused a call.
    """
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or (int(found[1]), int(found[2])) >= (major, minor):
        return None
    return f"{what} needs Linux {major}.{minor} or newer, and this is Linux {release}"
