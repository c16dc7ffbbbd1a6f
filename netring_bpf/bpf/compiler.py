"""Compiles C to eBPF bytecode by BCC, or takes the bytecode from the cache.

``helper.py`` does the work in a process of its own, so that a capturing process never holds LLVM.
``headers/`` has the few kernel headers that BCC asks for.
"""

from __future__ import annotations

import base64
import errno
import functools
import hashlib
import json
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netring_bpf.errors import (
    BccMissingError,
    CompileError,
    NetringError,
    ProgramError,
    ResourceLimitError,
    SyscallError,
)
from netring_bpf.privileges import explain_refusal
from netring_bpf.program_cache import Cache, directory
from netring_bpf.remedies import install_anywhere

__all__ = ["Bcc", "Bytecode", "Source", "compile_c", "find_bcc"]

_HERE = Path(__file__).resolve().parent
_TIMEOUT = 60.0  # seconds, far longer than any compilation
_FORMAT = 1  # of a cache entry
_INSTRUCTION = struct.Struct("=BBhi")  # struct bpf_insn: code, registers, offset, immediate
_LD_IMM64, _PSEUDO_MAP_FD = 0x18, 1
_INSTALL = f"install BCC from the distribution ({install_anywhere('BCC')})"


@dataclass(frozen=True, slots=True)
class Source:
    """A program to compile: its text, its function, the compiler's flags and its maps' names."""

    text: str
    function: str
    cflags: tuple[str, ...]
    maps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bytecode:
    """A compiled program that names each map by its index in ``Source.maps``.

    ``key``: its key in the cache. ``cached``: whether it came from the cache.
    """

    code: bytes
    maps: tuple[str, ...]
    key: str
    cached: bool

    def bound_to(self, descriptors: Mapping[str, int]) -> bytes:
        """Return the code with the maps' descriptors in place of their indices."""
        result = bytearray(self.code)
        for at in range(0, len(result), _INSTRUCTION.size):
            opcode, registers, offset, number = _INSTRUCTION.unpack_from(result, at)
            if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
                fd = descriptors[self.maps[number]]
                _INSTRUCTION.pack_into(result, at, opcode, registers, offset, fd)
        return bytes(result)

    def forget(self) -> None:
        """Remove the program from the cache."""
        Cache(directory()).remove(self.key)


@dataclass(frozen=True, slots=True)
class Bcc:
    """The BCC that compiles: its version, the folder of its Python package, and its libraries."""

    version: str
    package: str
    libraries: tuple[str, ...]


def find_bcc() -> Bcc:
    """Load BCC in the helper process, and compile nothing. Raises ``BccMissingError``."""
    answer = _ask_helper({})
    if "failed" in answer:
        raise _failure(answer)
    return Bcc(answer["version"], answer["package"], tuple(answer["libraries"]))


def compile_c(source: Source, *, use_cache: bool = True) -> Bytecode:
    """Return the bytecode, from the cache or freshly compiled.

    Raises ``BccMissingError`` or ``ProgramError`` (``CompileError``).
    """
    cache, key = Cache(directory()), _key(source)
    if use_cache and (code := _usable(cache.get(key))):
        return Bytecode(code, source.maps, key, cached=True)
    answer = _ask_helper(
        {
            "source": source.text,
            "function": source.function,
            "cflags": source.cflags,
            "maps": source.maps,
            "headers": str(_HERE / "headers"),
        }
    )
    if "failed" in answer:
        raise _failure(answer)
    entry = {"made_by": _fingerprints(answer["made_by"]), "code": answer["code"]}
    cache.put(key, json.dumps(entry).encode())
    return Bytecode(base64.b64decode(answer["code"]), source.maps, key, cached=False)


# -- the cache: an entry is good while the files of BCC that made it are unchanged --


def _key(source: Source) -> str:
    parts = (_FORMAT, platform.machine(), _header_tree(), source.text, source.function)
    text = json.dumps([*parts, source.cflags, source.maps])
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _header_tree() -> str:
    digest = hashlib.sha256()
    for path in sorted((_HERE / "headers").rglob("*.h")):
        digest.update(f"{path.relative_to(_HERE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _fingerprints(paths: Sequence[str]) -> list[list[Any]]:
    """Return the state of BCC's files: an upgrade changes them, even under the same version."""
    found = []
    for path in paths:
        status = os.stat(path)
        found.append([path, status.st_size, status.st_mtime_ns, status.st_ino])
    return found


def _usable(entry: bytes | None) -> bytes | None:
    if entry is None:
        return None
    try:
        content = json.loads(entry)
        made_by = content["made_by"]
        if made_by and _fingerprints([path for path, *_ in made_by]) == made_by:
            return base64.b64decode(content["code"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # BCC was removed or replaced, or the entry has another format: compile
    return None


# -- the helper --


def _ask_helper(request: dict[str, Any]) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-B", str(_HERE / "helper.py")],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        what = "compile the XDP program: start the helper process"
        if error.errno == errno.EAGAIN:
            raise ResourceLimitError(
                f"{what}: {error.strerror}; raise the limit on processes (ulimit -u, systemd: "
                "TasksMax=, a container's pids limit)",
                resource="threads",
            ) from error
        raise SyscallError(what, error.errno or 0) from error
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"compile the XDP program: the helper process was not done in {_TIMEOUT:.1f} s"
        ) from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode(errors="replace")
        raise ProgramError(
            f"compile the XDP program: the helper process ended with status "
            f"{done.returncode}: {said.strip()[-300:]}",
            log=said,
        ) from None
    return answer


def _failure(answer: dict[str, Any]) -> NetringError:
    kind, message, log = answer["failed"], answer["message"], answer["log"]
    match kind:
        case "bcc-missing":
            return BccMissingError(f"load BCC: not found on this machine; {_INSTALL}")
        case "bcc-wrong":
            return BccMissingError(
                f"load BCC: the package named 'bcc' in {message} is not the BPF compiler "
                f"collection (PyPI's 'bcc' is unrelated: pip uninstall bcc); {_INSTALL}"
            )
        case "bcc-broken":
            return BccMissingError(f"load BCC: {message}; {_INSTALL}")
        case _ if found := re.search(r"could not open bpf map: (.*), error: (.*)", log):
            if found[2] == os.strerror(errno.EPERM) and (
                denied := explain_refusal(
                    f"compile the XDP program: create its map {found[1]!r}",
                    errno.EPERM,
                    "CAP_BPF",
                    "CAP_NET_ADMIN",
                )
            ):
                return denied
            return ProgramError(
                f"compile the XDP program: create its map {found[1]!r}: {found[2]}; on kernels "
                "before 5.11 raise the memory-lock limit (ulimit -l), else free memory",
                log=log,
            )
        case _:
            lines = [line.strip() for line in log.splitlines() if "error:" in line]
            return CompileError(
                f"compile the XDP program: {' / '.join(lines[:2]) or message}; this is a defect "
                "of netring_bpf: report it with the .log of this error",
                log=log or message,
            )
