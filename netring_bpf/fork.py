"""Keeps what the kernel gave to this process out of its forked children.

A child's copy of a descriptor keeps an XDP program attached, or a queue bound, after its parent has
ended. So each object that owns such descriptors tells how a child closes its copies, and Python
does that in every child that it forks. Rings are not mapped in children at all (MADV_DONTFORK).

A fork by other means than Python's, such as a C library's, runs none of this; what it starts by
exec(2) has no copies either, as all descriptors are CLOEXEC.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol

__all__ = ["close_in_child", "held_off"]


class Inherited(Protocol):
    """Owns descriptors that a forked child must not keep."""

    def abandon(self) -> None:
        """In a child: close the copies, and change nothing that the parent shares."""


_lock = threading.RLock()
_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()


def close_in_child(owner: Inherited) -> None:
    """Have forked children call ``owner.abandon()``, as long as the owner lives."""
    _inherited.add(owner)


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Let no thread fork in the block, where descriptors have no owner yet."""
    with _lock:
        yield


def _after_in_child() -> None:
    for owner in list(_inherited):
        with contextlib.suppress(OSError):  # the other descriptors must be closed all the same
            owner.abandon()
    _inherited.clear()
    _lock.release()


os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_in_child
)
