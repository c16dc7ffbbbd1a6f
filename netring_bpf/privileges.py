"""The capabilities of this thread, and the reasons for which the kernel refuses a call."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import Final

from netring_bpf.errors import KernelFeatureError, NetringError, PermissionDeniedError

__all__ = [
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "ambient",
    "effective",
    "explain_refusal",
    "in_user_namespace",
    "is_filtered",
    "missing",
    "names_in",
]

CAP_SYS_ADMIN: Final = 1 << 21
CAP_PERFMON: Final = 1 << 38
_BITS: Final = {
    "CAP_NET_ADMIN": 1 << 12,
    "CAP_NET_RAW": 1 << 13,
    "CAP_IPC_LOCK": 1 << 14,
    "CAP_SYS_ADMIN": CAP_SYS_ADMIN,
    "CAP_SYS_RESOURCE": 1 << 24,
    "CAP_PERFMON": CAP_PERFMON,
    "CAP_BPF": 1 << 39,
}
_OF_CAPTURES: Final = dict.fromkeys(("CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"))
_SECCOMP_FILTER: Final = 2
_ALL_USERS: Final = ["0", "0", "4294967295"]


def effective() -> int:
    """Return the effective set of this thread, as a bit mask (linux/capability.h)."""
    return int(_status("CapEff") or "0", 16)


def ambient() -> int:
    """Return the ambient set, which programs that this thread starts inherit, as a bit mask."""
    return int(_status("CapAmb") or "0", 16)


def names_in(mask: int) -> tuple[str, ...]:
    """Return those capabilities of a bit mask that captures may need, by name."""
    return tuple(sorted(name for name, bit in _BITS.items() if mask & bit))


def missing(*needed: str) -> tuple[str, ...]:
    """Return those of these capabilities that the thread lacks."""
    held = effective()
    if held & CAP_SYS_ADMIN:  # stands for CAP_BPF, as before Linux 5.8
        held |= _BITS["CAP_BPF"]
    return tuple(name for name in needed if not held & _BITS[name])


def explain_refusal(what: str, error: int, *needed: str, instead: str = "") -> NetringError | None:
    """Return the error for a call that the kernel refused, None if that is not the matter.

    ``what``: the action, for the message. ``error``: the errno. ``needed``: the capabilities that
    the call asks for; if the thread has them all, something else denies the call. ``instead``: a
    way to do without them.
    """
    if error == errno.ENOSYS:
        why = "the kernel was built without it; choose another kernel, or backend='tpacket_v3'"
        if is_filtered():
            why = f"a seccomp filter hides it; {_SECCOMP_REMEDY}"
        return KernelFeatureError(f"{what}: {os.strerror(error)}: {why}", feature="system call")
    if error not in {errno.EPERM, errno.EACCES}:
        return None
    if lacking := missing(*needed):
        wanted = _OF_CAPTURES if set(lacking) <= _OF_CAPTURES.keys() else dict.fromkeys(lacking)
        return PermissionDeniedError(
            f"{what}: the process lacks {', '.join(lacking)}; run it as root, or give it "
            f"{', '.join(wanted)} (systemd: AmbientCapabilities=){instead}",
            capability=", ".join(lacking),
        )
    return PermissionDeniedError(
        f"{what}: {os.strerror(error)}, though the process has {', '.join(needed)}: {_denier()}",
        capability="",
    )


_SECCOMP_REMEDY: Final = (
    "let it through (systemd: SystemCallFilter=@system-service bpf; a container: another seccomp "
    "profile)"
)


def _denier() -> str:
    if is_filtered():
        return f"a seccomp filter denies the call; {_SECCOMP_REMEDY}"
    if in_user_namespace():
        return (
            "its capabilities are those of a user namespace, and this call asks for the ones of "
            "the machine; run it outside of the user namespace (a rootless container is one)"
        )
    return (
        "a security module or a setting of the kernel denies it (lockdown, SELinux, AppArmor, "
        "sysctl kernel.unprivileged_bpf_disabled); the kernel's log may tell which (dmesg, "
        "ausearch -m avc)"
    )


def is_filtered() -> bool:
    """Whether a seccomp filter judges the system calls of this thread."""
    return _status("Seccomp") == str(_SECCOMP_FILTER)


def in_user_namespace() -> bool:
    """Whether the capabilities are those of a user namespace, and not of the machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/uid_map").read_text(encoding="ascii").split() != _ALL_USERS
    return False


def _status(name: str) -> str | None:
    """Return a line of the thread's status; None without /proc."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        text = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
        found = re.search(rf"^{name}:\s*(\w+)$", text, re.MULTILINE)
        return found[1] if found else None
    return None
