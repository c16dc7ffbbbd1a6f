"""Keeps compiled programs on disk, so that the second start with a filter compiles nothing.

Only this user can have written an entry: the directory belongs to the process's user and is closed
to everyone else. It is held open while it is examined, so that nobody can swap it for another.
Each entry has a digest; an entry that does not match its digest counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
from pathlib import Path

from netring_bpf.errors import printable

__all__ = ["MAX_ENTRIES", "Cache", "directory"]

MAX_ENTRIES = 128  #: of at most 1 MiB each; the least recently used entry goes
_MAX_SIZE = 1 << 20
_DIGEST_SIZE = 32
_VARIABLE = "NETRING_BPF_CACHE"
_log = logging.getLogger("netring_bpf.bpf")


def directory() -> Path | None:
    """Return the cache's directory; None for no cache.

    The first of these that is set: ``NETRING_BPF_CACHE`` (empty for no cache), systemd's
    ``CACHE_DIRECTORY``, /var/cache for root, ``XDG_CACHE_HOME`` or ~/.cache for other users.
    """
    if (chosen := os.environ.get(_VARIABLE)) is not None:
        return Path(chosen) if chosen else None
    if systemd := os.environ.get("CACHE_DIRECTORY"):
        return Path(systemd.split(":")[0]) / "netring_bpf"
    if os.geteuid() == 0:
        return Path("/var/cache/netring_bpf")
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "netring_bpf"
    try:
        return Path.home() / ".cache" / "netring_bpf"
    except RuntimeError:
        return None  # a user without a home


class Cache:
    """Entries by key. Trouble with the cache is logged, and never raises an error."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def get(self, key: str) -> bytes | None:
        """Return the entry, or None."""
        with contextlib.ExitStack() as stack:
            try:
                folder = self._open(stack)
                if folder is None:
                    return None
                fd = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with open(fd, "rb") as file:
                    if not _is_ours(os.fstat(fd), stat.S_IFREG):
                        _log.warning(
                            "cache entry %s/%s is not ours alone: not used",
                            printable(str(self._path)),
                            key,
                        )
                        return None
                    text = file.read(_MAX_SIZE + _DIGEST_SIZE + 1)
                    os.utime(fd)
            except FileNotFoundError:
                return None
            except OSError as error:
                _log.info("%s", printable(f"cache {self._path} cannot be read: {error}"))
                return None
        digest, content = text[:_DIGEST_SIZE], text[_DIGEST_SIZE:]
        return content if hashlib.sha256(content).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Store the entry, unless it is too large."""
        if self._path is None or len(content) > _MAX_SIZE:
            return
        with contextlib.ExitStack() as stack:
            try:
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder = self._open(stack)
                if folder is None:
                    return
                temporary = f".{os.getpid()}.{os.urandom(8).hex()}"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(temporary, flags, 0o600, dir_fd=folder)
                try:
                    with open(fd, "wb") as file:
                        file.write(hashlib.sha256(content).digest() + content)
                    os.rename(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    os.unlink(temporary, dir_fd=folder)
                    raise
                _trim(folder)
            except OSError as error:
                _log.info("%s", printable(f"cache {self._path} cannot be written: {error}"))

    def remove(self, key: str) -> None:
        """Remove the entry, if there is one."""
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            folder = self._open(stack)
            if folder is not None:
                os.unlink(key, dir_fd=folder)

    def _open(self, stack: contextlib.ExitStack) -> int | None:
        if self._path is None:
            return None
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(self._path, flags)
        stack.callback(os.close, folder)
        if not _is_ours(os.fstat(folder), stat.S_IFDIR):
            _log.warning(
                "cache %s is not used: it must belong to user %d and be closed to others "
                "(chmod 0700)",
                printable(str(self._path)),
                os.geteuid(),
            )
            return None
        return folder


def _is_ours(found: os.stat_result, kind: int) -> bool:
    mode = found.st_mode
    return stat.S_IFMT(mode) == kind and found.st_uid == os.geteuid() and not mode & 0o022


def _trim(folder: int) -> None:
    """Remove the oldest entries over the maximum, and with them half-written ones."""
    entries = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            entries.append((os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns, name))
    for _, name in sorted(entries)[:-MAX_ENTRIES]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
