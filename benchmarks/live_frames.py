"""The process of ``Generator``: sends a load out of an interface.

    python -m benchmarks.live_frames INTERFACE LOAD

``generator.c`` rewrites one frame over and over and redirects it (``live_run.py``). The process
prints "ready" when that program is loaded, sends when it reads "go", and prints the number of
frames and the ns that they took.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.generator import Load, Offered
from benchmarks.live_run import LiveRun
from netring_bpf._core import ffi, lib
from netring_bpf.bpf.compiler import Source, compile_c

__all__ = ["frame_of"]

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parent / "build" / "bpf-cache"
_ARRAY, _XDP = 2, 6
_STATE = struct.Struct("=4Q5I8I4x")  # struct state of generator.c
_CLOCKED = 500_000  # frames a second
_TAKES = 0.1  # seconds: more than a call takes that sends nothing
_PORTS = {"udp": 9000, "tcp": 443}
_PRIMES = (
    2654435761, 2246822519, 3266489917, 668265263, 374761393, 3628273133, 2860486313, 1299709,
)  # fmt: skip


# -- the frame and the program's definitions --


def frame_of(load: Load) -> bytes:
    """The frame that the program rewrites, with all that is the same in every packet."""
    ethernet = bytes.fromhex("02000000000b02000000000a") + (b"\x86\xdd" if load.ipv6 else b"\x08\0")
    number = socket.IPPROTO_TCP if load.protocol == "tcp" else socket.IPPROTO_UDP
    ip_size = load.size - len(ethernet)
    if load.ipv6:
        ip = struct.pack("!IHBB32x", 6 << 28, ip_size - 40, number, 64)
    else:
        ip = struct.pack("!BBHIBBH8x", 0x45, 0, ip_size, 0, 64, number, 0)
    if load.protocol == "tcp":
        transport = struct.pack("!HHIIBBHHH", 0, 0, 0, 0, 0x50, 0, 0xFFFF, 0, 0)
    else:
        transport = struct.pack("!HHHH", 0, 0, ip_size - len(ip), 0)
    return (ethernet + ip + transport).ljust(load.size, b"\0")


def _group(load: Load) -> int:
    """The frames that fall due together: at high rates a clock reading for each costs too much."""
    return 1 if load.rate <= _CLOCKED else 16


def _cflags(load: Load, index: int) -> tuple[str, ...]:
    number = socket.IPPROTO_TCP if load.protocol == "tcp" else socket.IPPROTO_UDP
    group = _group(load)
    names = {
        "SIZE": load.size,
        "CONTROL": 60 if not load.ipv6 else 74,
        "COUNT": f"{load.count}ull",
        "FLOWS": load.flows,
        "PER_FLOW": load.per_flow,
        "INTERVAL": f"{(1_000_000_000 << 8) * group // load.rate if load.rate else 0}ull",
        "GROUP": group,
        "PORT": _PORTS[load.protocol],
        "HEADER_SUM": 0x4500 + (64 << 8 | number),
        "OUT": index,
    }
    if load.stamp:
        names["STAMP"] = load.stamp
    wanted = {"IPV6": load.ipv6, "TCP": load.protocol == "tcp"}
    return (
        *(f"-D{name}={value}" for name, value in names.items()),
        *(f"-D{name}" for name, holds in wanted.items() if holds),
    )


def _strides(flows: int) -> tuple[int, ...]:
    """Strides that each visit every flow once a round."""
    return tuple(p % flows if math.gcd(p, flows) == 1 else 1 % flows for p in _PRIMES)


# -- the process --


class _Program:
    """The program in the kernel and its state."""

    def __init__(self, load: Load, interface: str) -> None:
        text = (_HERE / "generator.c").read_text(encoding="ascii")
        flags = _cflags(load, socket.if_nametoindex(interface))
        code = compile_c(Source(text, "generate", flags, ("states",)))
        self._map = self._checked(lib.nr_map_create(_ARRAY, 4, _STATE.size, 1, 0, b"states"))
        state = [0] * 9 + list(_strides(load.flows))
        self._key = ffi.new("uint32_t *", 0)
        self._checked(lib.nr_map_update(self._map, self._key, _STATE.pack(*state)))
        bound = code.bound_to({"states": self._map})
        log = ffi.new("char[]", 1 << 20)
        self._fd = int(lib.nr_program_load(_XDP, bound, len(bound) // 8, log, 1 << 20))
        if self._fd < 0:
            raise OSError(-self._fd, ffi.string(log)[-2000:].decode())
        self.live = LiveRun(self._fd, frame_of(load))

    def _checked(self, rc: int) -> int:
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        return rc

    def state(self) -> tuple[int, ...]:
        """The state as the program has written it."""
        value = ffi.new("char[]", _STATE.size)
        self._checked(lib.nr_map_lookup(self._map, self._key, value))
        return _STATE.unpack(ffi.buffer(value))


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Interrupt the call under way by a signal, after so many seconds."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send(program: _Program, load: Load) -> Offered:
    """Call until all is sent or the time is over, most often once."""
    left = load.seconds
    while True:
        sent, first, last = program.state()[:3]
        missing = load.count - sent
        if missing == 0 or left <= 0:
            return Offered(sent, last - first)
        if load.rate:
            # Most runs of the program find nothing due, so the time limits the call, not a count.
            seconds = min(left, missing / load.rate + _TAKES)
            with _limit(seconds):
                program.live.run((1 << 32) - 1, 16 if _group(load) == 1 else 64)
            left -= seconds
        else:
            with _limit(left):
                program.live.run(missing, 64)
            left = left if program.state()[0] > sent else 0


def main() -> None:
    """Load the program, then send when told."""
    os.environ["NETRING_BPF_CACHE"] = str(_CACHE)
    interface, text = sys.argv[1:]
    load = Load(**json.loads(text))
    program = _Program(load, interface)
    signal.signal(signal.SIGALRM, lambda *_: None)
    print("ready", flush=True)
    if sys.stdin.readline() == "go\n":
        print(json.dumps(dataclasses.asdict(_send(program, load))), flush=True)


if __name__ == "__main__":
    main()
