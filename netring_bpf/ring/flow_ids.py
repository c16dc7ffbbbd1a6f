"""The first id of a capture's flows: different captures have no id in common.

The ids of one capture follow each other. JSON's readers round integers above 2**53, so the first
id is below 2**51.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

try:  # hashlib loads OpenSSL, which takes longer than a short file
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # a Python that is built without it
        from hashlib import sha256 as _sha256

__all__ = ["id_of_content", "random_id"]

_BITS = 51  # NR_ID_BITS of api.h


def random_id() -> int:
    """Return the first id of a live capture."""
    return int.from_bytes(os.urandom(8)) >> (64 - _BITS)


def id_of_content(parts: Iterable[bytes]) -> int:
    """Return the first id of a capture whose files have this content: always the same."""
    digest = _sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return int.from_bytes(digest.digest()[:8]) >> (64 - _BITS)
