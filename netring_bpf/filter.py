"""Filter expressions: the language of tcpdump (pcap-filter(7)), compiled by libpcap.

The only file that knows libpcap, which is opened at run time. What comes out is classic BPF:
TPACKET_V3 runs it as it is, ``bpf/cbpf.py`` translates it for XDP.

A filter sees a frame as tcpdump sees live traffic on Linux: without its outermost VLAN tag,
which the kernel has taken out of the frame by then.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from netring_bpf.errors import FilterError, LibpcapMissingError

__all__ = ["Filter", "Instruction"]

_DLT_EN10MB = 1
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS: the kernel takes no more in a socket filter
_RET_K = 0x06
_VLAN_WORD = re.compile(r"(?<![\w.:-])vlan(?![\w.:-])")


class Instruction(NamedTuple):
    """One classic BPF instruction (struct sock_filter in linux/filter.h)."""

    code: int
    jt: int
    jf: int
    k: int


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled filter expression, for Ethernet frames.

    The empty expression matches every frame. ``snaplen`` is how many bytes of a matching frame
    TPACKET_V3 captures. Raises ``FilterError`` with libpcap's message for an expression it does
    not understand, and ``LibpcapMissingError``.
    """

    expression: str
    snaplen: int = 65_535
    instructions: tuple[Instruction, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.expression.strip():
            program: tuple[Instruction, ...] = (Instruction(_RET_K, 0, 0, self.snaplen),)
        else:
            _refuse_vlan(self.expression)
            program = _compile(self.expression, self.snaplen)
        object.__setattr__(self, "instructions", program)

    @property
    def matches_all(self) -> bool:
        """Whether every frame matches, so that no filter need run."""
        return len(self.instructions) == 1 and self.instructions[0] == (_RET_K, 0, 0, self.snaplen)


def _refuse_vlan(expression: str) -> None:
    # The kernel has taken the tag out before a socket filter runs: compiled without a live
    # handle, `vlan` would look for it in the frame and silently never match.
    if _VLAN_WORD.search(expression):
        raise FilterError(
            f"filter {expression!r}: 'vlan' is not supported yet; leave it out (plain expressions "
            "match tagged frames too) and look at the flows' vlans",
            expression=expression,
        )


class _Insn(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Insn)))


@functools.cache
def _libpcap() -> ctypes.CDLL:
    for name in ("libpcap.so.0.8", "libpcap.so.1", ctypes.util.find_library("pcap")):
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(_Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
        library.pcap_freecode.restype = None
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        library.pcap_close.restype = None
        return library
    raise LibpcapMissingError(
        "compile a filter expression: libpcap is not installed; install it (Debian, Ubuntu: "
        "apt-get install libpcap0.8; Fedora: dnf install libpcap)"
    )


def _compile(expression: str, snaplen: int) -> tuple[Instruction, ...]:
    try:
        text = expression.encode()
    except UnicodeEncodeError:
        raise FilterError(
            f"filter {expression!r}: has bytes that are no UTF-8", expression=expression
        ) from None
    if b"\0" in text:
        raise FilterError("filter: contains a NUL character", expression=expression)
    library = _libpcap()
    handle = library.pcap_open_dead(_DLT_EN10MB, snaplen)
    if not handle:
        raise MemoryError("pcap_open_dead")
    program = _Program()
    netmask_unknown = 0xFFFF_FFFF
    try:
        if library.pcap_compile(handle, ctypes.byref(program), text, 1, netmask_unknown) != 0:
            reason = library.pcap_geterr(handle).decode(errors="replace")
            raise FilterError(f"filter {expression!r}: {reason}", expression=expression)
        try:
            result = tuple(
                Instruction(insn.code, insn.jt, insn.jf, insn.k)
                for insn in program.instructions[: program.length]
            )
        finally:
            library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)
    if len(result) > _MAX_INSTRUCTIONS:
        raise FilterError(
            f"filter {expression!r}: compiles to {len(result)} instructions, the kernel takes "
            f"{_MAX_INSTRUCTIONS}; name fewer hosts, nets or ports",
            expression=expression,
        )
    return result
