"""Runs a block of code in another network namespace."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from netring_bpf.errors import SyscallError, did_you_mean
from netring_bpf.interface.netlink import enter_namespace
from netring_bpf.privileges import explain_refusal

__all__ = ["in_namespace", "in_new_namespace"]

_CLONE_NEWNET = 0x4000_0000


@contextlib.contextmanager
def in_namespace(namespace: str | None) -> Iterator[None]:
    """Run the block with the calling thread in ``namespace``; with None, the thread stays.

    ``namespace``: a name, as in ``ip netns``, or a path such as ``/proc/PID/ns/net``. Sockets
    opened in the block belong to that namespace for life. Needs CAP_SYS_ADMIN. Raises
    ``SyscallError``, ``PermissionDeniedError``.
    """
    if namespace is None:
        yield
        return
    path = Path(namespace) if "/" in namespace else Path("/var/run/netns") / namespace
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        what = f"open network namespace {path}{_meant(path)}"
        raise SyscallError(what, error.errno or 0) from error
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(target, str(path))
        try:
            yield
        finally:
            _enter(home, "the namespace it came from")
    finally:
        os.close(target)
        os.close(home)


def _meant(path: Path) -> str:
    """Return ``(did you mean NAME?)`` if there is a namespace of a name like this."""
    try:
        meant = did_you_mean(path.name, (one.name for one in path.parent.iterdir()))
    except OSError:
        return ""
    return f" ({meant.removeprefix('; ')})" if meant else ""


@contextlib.contextmanager
def in_new_namespace() -> Iterator[None]:
    """Run the block with the calling thread in a new network namespace, which has no name.

    The kernel takes it away with all that is in it once the block is left, or the process has
    ended. Needs CAP_SYS_ADMIN. Raises ``SyscallError``, ``PermissionDeniedError``.
    """
    try:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SyscallError("open this network namespace", error.errno or 0) from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            what, number = "make a network namespace", ctypes.get_errno()
            denied = explain_refusal(what, number, "CAP_SYS_ADMIN")
            raise denied or SyscallError(what, number)
        try:
            yield
        finally:
            if libc.setns(home, _CLONE_NEWNET):
                raise SyscallError("leave a network namespace", ctypes.get_errno())
    finally:
        os.close(home)


def _enter(descriptor: int, name: str) -> None:
    try:
        enter_namespace(descriptor)
    except OSError as error:
        what, number = f"enter network namespace {name}", error.errno or 0
        within = "; or start it inside the namespace (ip netns exec)"
        denied = explain_refusal(what, number, "CAP_SYS_ADMIN", instead=within)
        raise (denied or SyscallError(what, number)) from error
