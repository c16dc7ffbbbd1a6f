"""The XDP program: compiled, verified and loaded, as the descriptors it comes down to.

The work is done by ``helper.py`` in a process of its own, so that a capturing process never
holds LLVM. Needs CAP_BPF and CAP_NET_ADMIN, and no kernel headers: the few that BCC asks for
are in ``headers/``.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from netring_bpf.bpf.cbpf import to_c
from netring_bpf.errors import (
    BccMissingError,
    ClosedError,
    CompileError,
    NetringError,
    PermissionDeniedError,
    ProgramError,
    VerifierError,
)
from netring_bpf.filter import Filter

__all__ = ["Program"]

_HERE = Path(__file__).resolve().parent
_TIMEOUT = 60.0  # seconds; a compilation takes 0.3
_DESCRIPTORS = 3
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
_CAP_SYS_ADMIN = 1 << 21
_COMPUTED_ADDRESSES = _CAP_SYS_ADMIN | 1 << 38  # CAP_PERFMON
_INSTALL = (
    "install BCC from the distribution (Debian, Ubuntu: apt-get install python3-bpfcc; "
    "Fedora: dnf install python3-bcc; Arch: pacman -S python-bcc)"
)


class Program:
    """A loaded ``xdp_redirect.c`` with its maps; closed by ``close()`` or by ``with``.

    ``fd``, ``xsks_map_fd`` and ``counters_fd`` are descriptors of this process, CLOEXEC.
    ``queues`` is the number of slots in both maps.
    """

    def __init__(self, fd: int, xsks_map_fd: int, counters_fd: int, queues: int) -> None:
        self.fd = fd
        self.xsks_map_fd = xsks_map_fd
        self.counters_fd = counters_fd
        self.queues = queues
        self._closed = False

    @classmethod
    def load(cls, program_filter: Filter, *, queues: int) -> Self:
        """Compile and load the program with ``program_filter`` for ``queues`` receive queues.

        Blocks for about half a second. Raises ``PermissionDeniedError``, ``BccMissingError``,
        ``FilterError`` for a filter that XDP cannot run, or ``ProgramError`` (``CompileError``,
        ``VerifierError``).
        """
        held = _capabilities()
        _check_capabilities(held)
        cflags = [f"-DNETRING_QUEUES={queues:d}"]
        if not held & _COMPUTED_ADDRESSES:
            cflags.append("-DNETRING_LOAD_BY_HELPER")
        source = to_c(program_filter) + (_HERE / "xdp_redirect.c").read_text(encoding="ascii")
        request = {
            "source": source,
            "function": "netring_redirect",
            "cflags": cflags,
            "headers": str(_HERE / "headers"),
        }
        answer, descriptors = _ask_helper(request)
        if len(descriptors) != _DESCRIPTORS:
            for descriptor in descriptors:
                os.close(descriptor)
            raise _failure(answer)
        fd, xsks_map_fd, counters_fd = descriptors
        return cls(fd, xsks_map_fd, counters_fd, queues)

    def close(self) -> None:
        """Close the descriptors; the kernel frees what nothing else holds. Idempotent."""
        if not self._closed:
            self._closed = True
            for descriptor in (self.fd, self.xsks_map_fd, self.counters_fd):
                os.close(descriptor)

    def __enter__(self) -> Self:
        if self._closed:
            raise ClosedError("use of an XDP program that is closed")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _capabilities() -> int:
    """The effective set of this thread, as a bit mask (linux/capability.h)."""
    status = Path("/proc/thread-self/status").read_text(encoding="ascii")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _check_capabilities(held: int) -> None:
    """Without CAP_BPF, BCC says only "Failed to compile BPF module": ask beforehand."""
    if held & _CAP_SYS_ADMIN:
        return
    missing = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    if missing:
        names = ", ".join(missing)
        raise PermissionDeniedError(
            f"load an XDP program: the process lacks {names}; run it as root, or give it "
            "CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW (systemd: AmbientCapabilities=)",
            capability=names,
        )


def _ask_helper(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """The helper's answer and the descriptors that came with it, which the caller owns."""
    descriptors = array.array("i")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        ours.settimeout(_TIMEOUT)
        helper = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-B", str(_HERE / "helper.py"), str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            theirs.close()
            # One that ends without having read the request says why on its stderr.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                ours.sendall(json.dumps(request).encode() + b"\n")
            text = _receive(ours, descriptors)
            _, stderr = helper.communicate(timeout=_TIMEOUT)
            if not text:
                said = stderr.decode(errors="replace")
                raise ProgramError(
                    f"compile the XDP program: the helper process ended with status "
                    f"{helper.returncode}: {said.strip()[-300:]}",
                    log=said,
                )
            return json.loads(text), list(descriptors)
        except BaseException as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, (TimeoutError, subprocess.TimeoutExpired)):
                raise ProgramError(
                    f"compile the XDP program: the helper process was not done in {_TIMEOUT:.0f} s"
                ) from None
            raise
        finally:
            if helper.poll() is None:
                helper.kill()
                helper.wait()
            if helper.stderr is not None:
                helper.stderr.close()


def _receive(channel: socket.socket, descriptors: array.array[int]) -> bytes:
    """The bytes to the end of the stream; the descriptors among them are put into the array."""
    text = b""
    room = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    with contextlib.suppress(ConnectionResetError):
        while True:
            # Not socket.recv_fds(), which in Python 3.11 does not pass its flags on.
            part, ancillary, _, _ = channel.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
            for _, _, data in ancillary:
                descriptors.frombytes(data)
            if not part:
                break
            text += part
    return text


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
        case "compile" if found := re.search(r"could not open bpf map: (.*), error: (.*)", log):
            return ProgramError(
                f"load the XDP program: create its map {found[1]!r}: {found[2]}; on kernels "
                "before 5.11 raise the memory-lock limit (ulimit -l), else free memory",
                log=log,
            )
        case "compile":
            return CompileError(
                f"compile the XDP program: {_telling(log, 'error:') or message}; this is a defect "
                "of netring_bpf: report it with the .log of this error",
                log=log or message,
            )
        case _:
            return VerifierError(
                f"load the XDP program: the kernel's verifier refused it: "
                f"{_telling(log) or message}; try a simpler filter or backend='tpacket_v3', and "
                "report it with the .log of this error",
                log=log or message,
            )


def _telling(log: str, mark: str = "") -> str:
    """The lines that matter: those with the mark, else the last that are not statistics."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    noise = ("processed ", "verification time", "stack depth", "HINT:")
    chosen = [line for line in lines if mark in line and not line.startswith(noise)]
    return " / ".join(chosen[:2] if mark else chosen[-2:])
