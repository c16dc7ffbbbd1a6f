"""Runs one filter on one frame at a time, on each engine that can: to ask, and to compare.

A capture uses none of these: there the kernel runs the filter.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from netring_bpf.bpf.attach_filter import attach_filter, attach_program
from netring_bpf.bpf.engine_names import EngineName
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Hook, Program
from netring_bpf.errors import FilterError, KernelFeatureError
from netring_bpf.filter.filter import Filter
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.filter.libpcap import Interpreter

__all__ = ["Engine", "EngineName", "open_engine"]

_LEN_LOADS = {0x80, 0x81}
_ABSOLUTE_LOADS, _NEGATIVE = {0x20, 0x28, 0x30}, 0x8000_0000
_MIN_XDP = 14
_SEND_BUFFER = 1 << 20


class Engine(ABC):
    """Runs one filter on frames. Closed by ``close()`` or by ``with``."""

    def __init__(self, program: Filter) -> None:
        self._filter = program

    @abstractmethod
    def matches(self, frame: bytes, wire_length: int) -> bool:
        """Whether ``frame``, which had ``wire_length`` bytes on the wire, matches.

        Raises ``FilterError`` or ``KernelFeatureError`` where this engine cannot tell.
        """

    @abstractmethod
    def close(self) -> None:
        """Free everything. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_cut(self, frame: bytes, wire_length: int) -> None:
        """The kernel takes the length of the bytes for that of the frame: wrong for a cut one."""
        if wire_length != len(frame) and any(
            i.code in _LEN_LOADS for i in self._filter.instructions
        ):
            raise FilterError(
                f"filter {self._filter.expression!r}: needs the frame's length, but this frame was "
                "cut when it was captured, and the kernel takes only the bytes that are left; "
                "choose the engine 'python'",
                expression=self._filter.expression,
            )


class _Libpcap(Engine):
    """libpcap's own interpreter."""

    def __init__(self, program: Filter) -> None:
        super().__init__(program)
        if program.sets:
            raise FilterError(
                f"filter {program.expression!r}: has sets of addresses, which libpcap does not "
                "know; choose another engine",
                expression=program.expression,
            )
        self._interpreter = Interpreter(program.instructions)

    def matches(self, frame: bytes, wire_length: int) -> bool:
        return self._interpreter.run(frame, wire_length) != 0

    def close(self) -> None:
        """Nothing is held."""


class _Python(Engine):
    """``Filter.matches``."""

    def matches(self, frame: bytes, wire_length: int) -> bool:
        return self._filter.matches(frame, wire_length)

    def close(self) -> None:
        """Nothing is held."""


class _Tpacket(Engine):
    """The kernel's socket filter, on a pair of sockets: frames that match arrive."""

    def __init__(self, program: Filter) -> None:
        super().__init__(program)
        if program.has_loop or any(
            i.code in _ABSOLUTE_LOADS and i.k >= _NEGATIVE for i in program.instructions
        ):
            raise FilterError(
                f"filter {program.expression!r}: has a loop, or needs the kernel's own data about "
                "a packet, which a frame of a file has not; choose the engine 'python'",
                expression=program.expression,
            )
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            if program.sets:
                with (
                    Maps(1) as maps,
                    Program.load(FilterSet.of(program), maps, hook=Hook.SOCKET) as loaded,
                ):
                    attach_program(self._receiver.fileno(), loaded.fd)
            else:
                attach_filter(self._receiver.fileno(), program.instructions)
        except BaseException:
            self.close()
            raise

    def matches(self, frame: bytes, wire_length: int) -> bool:
        self._refuse_cut(frame, wire_length)
        self._sender.send(frame)
        try:
            self._receiver.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


class _Xdp(Engine):
    """The XDP program of a capture, run by BPF_PROG_TEST_RUN; its counters give the verdict."""

    def __init__(self, program: Filter) -> None:
        super().__init__(program)
        self._maps = Maps(1)
        try:
            self._program = Program.load(FilterSet.of(program), self._maps)
        except BaseException:
            self._maps.close()
            raise
        self._matched = 0

    def matches(self, frame: bytes, wire_length: int) -> bool:
        self._refuse_cut(frame, wire_length)
        if len(frame) < _MIN_XDP:
            raise KernelFeatureError(
                f"run an XDP program on a frame of {len(frame)} bytes: the kernel takes no frame "
                f"shorter than {_MIN_XDP}; choose the engine 'python'",
                feature="BPF_PROG_TEST_RUN",
            )
        self._program.run(frame)
        # The map has no socket, so matching frames pass too, and count as "no socket".
        before, self._matched = self._matched, self._maps.counters_of_queue(0)[2]
        return self._matched != before

    def close(self) -> None:
        self._program.close()
        self._maps.close()


_ENGINES: dict[EngineName, Callable[[Filter], Engine]] = {
    "libpcap": _Libpcap,
    "python": _Python,
    "tpacket": _Tpacket,
    "xdp": _Xdp,
}


def open_engine(name: EngineName, program: Filter) -> Engine:
    """Return the named engine with the filter loaded. Raises as opening a capture does."""
    return _ENGINES[name](program)
