"""One filter and one frame at a time, through each engine: what each says of it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from netring_bpf import Filter
from netring_bpf._core import ffi, lib
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.program import Program
from netring_bpf.filter_set import FilterSet
from netring_bpf.libpcap import _Header, _Insn, _libpcap, _Program

XDP_PASS = 2
TAGS = (b"\x81\x00", b"\x88\xa8")
MIN_XDP = 14  # bytes: BPF_PROG_TEST_RUN takes no shorter frame


def without_tag(frame: bytes) -> bytes:
    """The frame as the kernel shows it to a live filter, without its outermost tag."""
    if frame[12:14] in TAGS and len(frame) >= 18:
        return frame[:12] + frame[16:]
    return frame


class Libpcap:
    """pcap_offline_filter, libpcap's own interpreter."""

    def __init__(self, program: Filter) -> None:
        self._code = (_Insn * len(program.instructions))(*program.instructions)
        self._native = _Program(len(self._code), self._code)
        self._call = _libpcap().pcap_offline_filter

    def run(self, frame: bytes, wire_length: int | None = None) -> int:
        length = len(frame) if wire_length is None else wire_length
        header = _Header(caplen=len(frame), len=length)
        said = self._call(ctypes.byref(self._native), ctypes.byref(header), frame)
        return int(said) & 0xFFFF_FFFF


class Xdp:
    """The program as it is loaded for a capture, its own counters as the witness."""

    def __init__(self, program: Program, maps: Maps) -> None:
        self._program = program
        self._maps = maps
        self._before = maps.counters_of_queue(0)
        self._duration = ffi.new("uint32_t *")

    def matches(self, frame: bytes) -> bool:
        # No socket is in the map: what matches passes as well, and is counted apart.
        action = lib.nr_program_run(self._program.fd, frame, len(frame), 1, self._duration)
        assert action == XDP_PASS, action
        after = self._maps.counters_of_queue(0)
        seen, not_matched, no_socket, redirected = (
            new - old for new, old in zip(after, self._before, strict=True)
        )
        assert (seen, not_matched + no_socket, redirected) == (1, 1, 0)
        self._before = after
        return bool(no_socket)


@contextlib.contextmanager
def xdp(program: Filter) -> Iterator[Xdp]:
    with Maps(1) as maps, Program.load(FilterSet.of(program), maps) as loaded:
        yield Xdp(loaded, maps)
