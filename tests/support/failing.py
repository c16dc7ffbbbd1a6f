"""Fails to open or close a capture, in a process of its own, and tells what came of it.

``python -m tests.support.failing SITUATION WAY`` prints the errors and the descriptors that it
had before and after them, as JSON; ``fail()`` runs that in a namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from netring_bpf import Capture, FlowOptions, Netring, NetringError, XdpMode, XdpOptions
from tests.support.lab import Namespace
from tests.support.rig import PORT
from tests.support.seccomp import BPF, SOCKET, deny

__all__ = ["Failure", "fail"]

TIMES: Final = 10
_AF_PACKET, _AF_XDP = 17, 44
_BPF_LINK_CREATE: Final = 28
_ROOT: Final = Path(__file__).resolve().parents[2]
_SMALL: Final = FlowOptions(max_flows=1000, event_slots=1024)
_WAYS: Final[dict[str, dict[str, Any]]] = {
    "af_xdp": {
        "backend": "af_xdp",
        "steal": True,
        "xdp": XdpOptions(mode=XdpMode.NATIVE, ring_size=64, chunks=64),
    },
    "tpacket_v3": {"backend": "tpacket_v3"},
    "auto": {"backend": "auto"},
}


@dataclass
class Failure:
    """The outcome: each error once, and the most descriptors that were open after one.

    ``opened``: the backends of the attempts that did not fail, with the reason for a fallback.
    """

    errors: list[dict[str, Any]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    before: int = 0
    after: int = 0
    attempts: int = 0

    @property
    def types(self) -> set[str]:
        """The names of the errors' classes."""
        return {error["type"] for error in self.errors}

    @property
    def texts(self) -> str:
        """All messages, a line each."""
        return "\n".join(error["text"] for error in self.errors)


def fail(namespace: Namespace, situation: str, way: str, *, before: Sequence[str] = ()) -> Failure:
    """Run the situation in the namespace. ``before``: a command that runs the command."""
    python = [sys.executable, "-m", "tests.support.failing"]
    done = namespace.run([*before, "env", "-C", str(_ROOT), *python, situation, way], timeout=120.0)
    return Failure(**json.loads(done.stdout.splitlines()[-1]))


# -- in that process --


def _open(way: str, **options: Any) -> None:
    asked = {"flow": _SMALL, "filter": "udp port 99", **_WAYS[way], **options}
    with Capture(PORT, **asked) as capture:
        raise _OpenedError(f"{capture.backend}: {capture.fallback_reason}")


class _OpenedError(Exception):
    """No error came."""


async def _enter(way: str) -> None:
    async with Netring(PORT, flow=_SMALL, filter="udp port 99", **_WAYS[way]) as ring:
        raise _OpenedError(f"{ring.backend}: {ring.fallback_reason}")


def _descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def _attempts(outcome: Failure, attempt: Callable[[], None], times: int = TIMES) -> None:
    for _ in range(times):
        outcome.attempts += 1
        try:
            attempt()
        except _OpenedError as opened:
            outcome.opened.append(str(opened))
        except BaseException as error:  # noqa: BLE001 - each must be one of ours
            told = {"type": type(error).__name__, "text": str(error), **_told(error)}
            if told not in outcome.errors:
                outcome.errors.append(told)


def _told(error: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = {"ours": isinstance(error, NetringError)}
    for name in ("resource", "capability"):
        if hasattr(error, name):
            told[name] = getattr(error, name)
    return told


@contextlib.contextmanager
def _limit(which: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def _under_limit(outcome: Failure, way: str, which: int, first: int, step: int) -> None:
    """Raise a limit by steps until opening succeeds: a different call fails at each."""
    limit = first
    while not outcome.opened:
        with _limit(which, limit):
            _attempts(outcome, lambda: _open(way), 2)
        outcome.after = max(outcome.after, _descriptors())
        limit += step


def _too_few_descriptors(outcome: Failure, way: str) -> None:
    # The lowest number that is free counts, not how many are open.
    lowest = os.dup(0)
    os.close(lowest)
    _under_limit(outcome, way, resource.RLIMIT_NOFILE, lowest, 1)


def _too_little_memory(outcome: Failure, way: str) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _under_limit(outcome, way, resource.RLIMIT_AS, size, 1 << 22)


def _large_table(outcome: Failure, way: str) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with _limit(resource.RLIMIT_AS, size + (1 << 28)):
        _attempts(outcome, lambda: _open(way, flow=FlowOptions(max_flows=1 << 26)))


def _denied(call: int, error: int, **only: int) -> Callable[[Failure, str], None]:
    def run(outcome: Failure, way: str) -> None:
        deny(call, error, **only)
        _attempts(outcome, lambda: _open(way))

    return run


def _plain(outcome: Failure, way: str) -> None:
    _attempts(outcome, lambda: _open(way), 2)  # each may compile the program


def _entered(outcome: Failure, way: str) -> None:
    deny(BPF)
    _attempts(outcome, lambda: asyncio.run(_enter(way)))


def _while_closing(outcome: Failure, way: str) -> None:
    """Deny bpf(2) once the capture is open, then close it again and again."""
    capture = Capture(PORT, flow=_SMALL, **_WAYS[way])
    capture.open()
    deny(BPF)
    _attempts(outcome, capture.close, 1)
    _attempts(outcome, capture.close)  # idempotent
    outcome.opened.append(f"{capture.statistics().backend}: closed")


_SITUATIONS: Final[dict[str, Callable[[Failure, str], None]]] = {
    "descriptors": _too_few_descriptors,
    "memory": _too_little_memory,
    "large table": _large_table,
    "bpf denied": _denied(BPF, errno.EPERM),
    "bpf hidden": _denied(BPF, errno.ENOSYS),
    "packet sockets denied": _denied(SOCKET, errno.EPERM, first_argument=_AF_PACKET),
    "links unknown": _denied(BPF, errno.EINVAL, first_argument=_BPF_LINK_CREATE),
    "AF_XDP unknown": _denied(SOCKET, errno.EAFNOSUPPORT, first_argument=_AF_XDP),
    "closing": _while_closing,
    "entered": _entered,
    "plain": _plain,
}


def _main(situation: str, way: str) -> None:
    outcome = Failure()
    if situation != "plain":
        _attempts(Failure(), lambda: _open(way), 1)  # loads all modules, compiles the program
    outcome.before = outcome.after = _descriptors()
    _SITUATIONS[situation](outcome, way)
    outcome.after = max(outcome.after, _descriptors())
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
