"""The C core under sanitizers, compiled once for all processes of a run and for later runs."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.paths import ROOT
from tests.support.sizes import size

__all__ = ["ADDRESSES", "THREADS", "link"]

_RING: Final = ROOT / "netring_bpf" / "ring"
_BUILD: Final = ROOT / "build" / "sanitized"
_STRICT: Final = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", f"-I{_RING}")
ADDRESSES: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# The fences around the snapshot of the books order atomic words, which TSan sees anyway.
THREADS: Final = ("-fsanitize=thread", "-Wno-tsan")


def link(program: Path, source: Path, *extra: str, sanitize: tuple[str, ...] = ADDRESSES) -> Path:
    """Compile ``source`` into ``program``, with what it needs of the C core."""
    # gcc takes most of a short run, and the programs most of a long one.
    flags = (*_STRICT, size("-O0", "-O1"), *sanitize)
    # The lock is on this file, so no lock file stays behind.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        core = _core(flags)
        _gcc(*flags, *extra, "-o", program, source, core, "-lpthread", "-ldl")
    return program


def _core(flags: tuple[str, ...]) -> Path:
    """The archive of the C core's objects; the caller holds the lock."""
    kind = hashlib.sha256("\0".join(flags).encode()).hexdigest()[:8]
    folder = _BUILD / f"{kind}-{_digest(flags)}"
    archive = folder / "core.a"
    if archive.exists():
        return archive
    _BUILD.mkdir(parents=True, exist_ok=True)
    for old in _BUILD.glob(f"{kind}-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=_BUILD, prefix=f"{kind}-") as name:
        made = Path(name, "made")
        made.mkdir()

        def compile_one(source: Path) -> Path:
            out = made / f"{'-'.join(source.relative_to(_RING).parts)}.o"
            _gcc(*flags, "-c", "-o", out, source)
            return out

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(compile_one, sorted(_RING.rglob("*.c"))))
        _run("ar", "rcs", made / "core.a", *objects)
        made.rename(folder)
    return archive


@functools.cache
def _digest(flags: tuple[str, ...]) -> str:
    """A digest of all that decides what the objects are."""
    version = subprocess.run(["gcc", "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(repr((flags, version)).encode())
    for path in sorted(_RING.rglob("*.[ch]")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_RING)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _gcc(*arguments: str | Path) -> None:
    _run("gcc", *arguments)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
