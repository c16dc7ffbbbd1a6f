"""Runs classic BPF on bytes, in the C core: the verdict of one program on one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netring_bpf._core import ffi, lib

if TYPE_CHECKING:
    from netring_bpf.filter.address_set import AddressSet

__all__ = ["Verdict", "native_program"]

_TAGS = (b"\x81\x00", b"\x88\xa8")  # 802.1Q, 802.1ad: the kernel takes these out of a frame
_TAG_AT, _TAG_SIZE = 12, 4


def native_program(
    instructions: Sequence[tuple[int, int, int, int]], sets: Sequence[AddressSet] = ()
) -> tuple[Any, list[Any]]:
    """Return an ``nr_filter_program``, and the objects that must live as long as it does."""
    code = ffi.new("nr_bpf_insn[]", [tuple(i) for i in instructions])
    held = ffi.new("nr_address_set[]", len(sets))
    kept: list[Any] = [code, held]
    for number, one in enumerate(sets):
        v4, v6 = ffi.from_buffer(one.ranges4), ffi.from_buffer(one.ranges6)
        kept += [v4, v6]
        held[number] = (
            ffi.cast("nr_range4 *", v4),
            ffi.cast("nr_range6 *", v6),
            len(one.ranges4) // ffi.sizeof("nr_range4"),
            len(one.ranges6) // ffi.sizeof("nr_range6"),
        )
    program = ffi.new("nr_filter_program *", (code, held, len(instructions), len(sets)))
    return program, kept


class Verdict:
    """A program, checked once. Raises ``ValueError`` if it is not well formed."""

    __slots__ = ("_kept", "_live", "_program")

    def __init__(
        self,
        instructions: Sequence[tuple[int, int, int, int]],
        sets: Sequence[AddressSet] = (),
        *,
        live: bool,
    ) -> None:
        self._program, self._kept = native_program(instructions, sets)
        self._live = live
        if lib.nr_filter_check(self._program):
            raise ValueError("not a well-formed classic BPF program")

    def run(self, frame: bytes | bytearray | memoryview, wire_length: int) -> int:
        """Return what the program returns: the bytes to capture, 0 for a frame it rejects.

        A live program sees the frame as in the kernel: without its outermost VLAN tag, which is
        beside the frame.
        """
        tpid = tci = 0
        if self._live and len(frame) >= _TAG_AT + _TAG_SIZE + 2:
            front = bytes(frame[: _TAG_AT + _TAG_SIZE])
            if front[_TAG_AT : _TAG_AT + 2] in _TAGS:
                tpid = int.from_bytes(front[_TAG_AT : _TAG_AT + 2], "big")
                tci = int.from_bytes(front[_TAG_AT + 2 :], "big")
                frame = front[:_TAG_AT] + bytes(frame[_TAG_AT + _TAG_SIZE :])
                wire_length -= _TAG_SIZE
        data = ffi.from_buffer(frame)
        shown = ffi.new("nr_filter_frame *", (data, len(frame), wire_length, tci, tpid, self._live))
        return int(lib.nr_filter_run(self._program, shown))
