"""libpcap, opened at run time. Only this file knows it.

It compiles filter expressions, lists programs and reads capture files. The package does not link
it: without libpcap it installs, and captures without a filter.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from netring_bpf.errors import (
    CaptureFileError,
    FilterError,
    LibpcapMissingError,
    PermissionDeniedError,
    UnavailableError,
    limits_explained,
)
from netring_bpf.remedies import install_anywhere

__all__ = [
    "DLT_EN10MB",
    "NETMASK_UNKNOWN",
    "FileFrame",
    "Instruction",
    "Interpreter",
    "Savefile",
    "compile_for_file",
    "compile_for_interface",
    "dlt_of",
    "image",
    "link_name",
    "version",
]

DLT_EN10MB = 1
NETMASK_UNKNOWN = 0xFFFF_FFFF
_ERRBUF_SIZE = 256
_MAXIMUM_SNAPLEN = 262_144
_PERMISSION_DENIED = -8  # PCAP_ERROR_PERM_DENIED
_END_OF_FILE = -2  # PCAP_ERROR_BREAK
_SMALL_BUFFER = 1 << 16  # bytes: the live handle compiles and never captures
_INSTALL = f"libpcap is not installed; install it ({install_anywhere('libpcap')})"


class Instruction(NamedTuple):
    """One classic BPF instruction (struct sock_filter in linux/filter.h)."""

    code: int
    jt: int
    jf: int
    k: int


class FileFrame(NamedTuple):
    """A frame of a capture file: its captured bytes, and its length on the wire."""

    data: bytes
    wire_length: int


class _Insn(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Insn)))


class _Header(ctypes.Structure):
    """struct pcap_pkthdr."""

    _fields_ = (
        ("ts", ctypes.c_long * 2),
        ("caplen", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
    )


def _find(kind: type[ctypes.CDLL]) -> ctypes.CDLL:
    with limits_explained("load libpcap"):
        for name in _names():
            try:
                return kind(name)
            except OSError:
                # This fails as well if the limit on open files is the reason.
                os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    raise LibpcapMissingError(f"compile a filter expression: {_INSTALL}")


def _names() -> Iterator[str]:
    yield from ("libpcap.so.0.8", "libpcap.so.1")
    # It runs other programs, so it comes last.
    if found := ctypes.util.find_library("pcap"):
        yield found


@functools.cache
def _libpcap() -> ctypes.CDLL:
    library = _find(ctypes.CDLL)
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    number, program = ctypes.c_int, ctypes.POINTER(_Program)
    for name, result, arguments in (
        ("pcap_open_dead", handle, (number, number)),
        ("pcap_create", handle, (text, text)),
        ("pcap_set_snaplen", number, (handle, number)),
        ("pcap_set_buffer_size", number, (handle, number)),
        ("pcap_activate", number, (handle,)),
        ("pcap_compile", number, (handle, program, text, number, ctypes.c_uint32)),
        ("pcap_freecode", None, (program,)),
        ("pcap_geterr", text, (handle,)),
        ("pcap_lib_version", text, ()),
        ("pcap_statustostr", text, (number,)),
        ("pcap_close", None, (handle,)),
        ("pcap_datalink_val_to_name", text, (number,)),
        ("pcap_datalink_val_to_description", text, (number,)),
        ("pcap_open_offline", handle, (text, text)),
        ("pcap_datalink", number, (handle,)),
        ("pcap_snapshot", number, (handle,)),
        ("pcap_next_ex", number, (handle, handle, handle)),
        ("pcap_offline_filter", number, (program, ctypes.POINTER(_Header), text)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@functools.cache
def _bpf_image() -> ctypes._NamedFuncPointer:
    # PyDLL holds the GIL during the call: libpcap has the text in a static buffer.
    function = _find(ctypes.PyDLL).bpf_image
    function.restype, function.argtypes = ctypes.c_char_p, (ctypes.POINTER(_Insn), ctypes.c_int)
    return function


def image(instructions: Sequence[Instruction]) -> str:
    """Return the program as ``tcpdump -d`` prints it, a line per instruction."""
    to_text = _bpf_image()
    lines = [to_text(_Insn(*insn), at).decode() for at, insn in enumerate(instructions)]
    return "\n".join(lines)


def version() -> str:
    """Return libpcap's own version text."""
    return str(_libpcap().pcap_lib_version().decode())


# libpcap numbers most link types as files do (tcpdump.org/linktypes.html).
_DLT = {14: 12, 100: 11, 101: 12, 102: 15, 103: 16, 106: 19}


def dlt_of(linktype: int) -> int:
    """Return libpcap's number of a link type of files."""
    return _DLT.get(linktype, linktype)


def link_name(linktype: int) -> str:
    """Return what people call a link type of files: ``DOCSIS (143: DOCSIS)``.

    Its number alone if libpcap is not installed or does not know it.
    """
    dlt = dlt_of(linktype)
    try:
        library = _libpcap()
    except LibpcapMissingError:
        return str(linktype)
    name, told = (
        getattr(library, f"pcap_datalink_val_to_{kind}")(dlt) for kind in ("name", "description")
    )
    if not name:
        return str(linktype)
    return (
        f"{name.decode()} ({linktype}: {told.decode()})"
        if told
        else f"{name.decode()} ({linktype})"
    )


# -- compiling --


def compile_for_file(
    expression: str, linktype: int, snaplen: int, netmask: int, *, optimize: bool = True
) -> tuple[Instruction, ...]:
    """Compile for frames as a capture file has them: VLAN tags are among the bytes.

    ``optimize``: also by libpcap's optimizer, which takes long over long expressions. Raises
    ``FilterError`` with libpcap's message, ``LibpcapMissingError``.
    """
    text = _encoded(expression)
    library = _libpcap()
    handle = library.pcap_open_dead(linktype, snaplen)
    if not handle:
        raise MemoryError("pcap_open_dead")
    try:
        return _compile(library, handle, expression, text, netmask, optimize=optimize)
    finally:
        library.pcap_close(handle)


def compile_for_interface(
    expression: str, interface: str, snaplen: int, netmask: int, *, optimize: bool = True
) -> tuple[Instruction, ...]:
    """Compile as tcpdump does for live traffic: the program looks for a VLAN tag beside the frame.

    libpcap compiles so only for a handle that is open on an interface. This opens one, which
    captures nothing. Needs CAP_NET_RAW, in the thread's network namespace. Raises
    ``FilterError``, ``LibpcapMissingError``, ``UnavailableError``.
    """
    text = _encoded(expression)
    library = _libpcap()
    errors = ctypes.create_string_buffer(_ERRBUF_SIZE)
    handle = library.pcap_create(interface.encode(), errors)
    if not handle:
        raise MemoryError("pcap_create")
    try:
        library.pcap_set_snaplen(handle, snaplen)
        library.pcap_set_buffer_size(handle, _SMALL_BUFFER)
        status = library.pcap_activate(handle)
        if status < 0:
            why = library.pcap_geterr(handle) or library.pcap_statustostr(status)
            raise _cannot_open(
                f"compile filter {expression!r} for {interface}: libpcap cannot open it: "
                f"{why.decode(errors='replace')}; it must be up, and the process needs CAP_NET_RAW",
                status,
            )
        return _compile(library, handle, expression, text, netmask, optimize=optimize)
    finally:
        library.pcap_close(handle)


def _cannot_open(message: str, status: int) -> UnavailableError:
    if status == _PERMISSION_DENIED:
        return PermissionDeniedError(message, capability="CAP_NET_RAW")
    return UnavailableError(message)


def _encoded(expression: str) -> bytes:
    try:
        text = expression.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"filter {expression!r}: has bytes that are no UTF-8",
            expression=expression,
            position=error.start,
        ) from None
    if b"\0" in text:
        raise FilterError(
            "filter: contains a NUL character",
            expression=expression,
            position=expression.index("\0"),
        )
    return text


def _compile(
    library: ctypes.CDLL,
    handle: int,
    expression: str,
    text: bytes,
    netmask: int,
    *,
    optimize: bool = True,
) -> tuple[Instruction, ...]:
    program = _Program()
    if library.pcap_compile(handle, ctypes.byref(program), text, optimize, netmask) != 0:
        reason = library.pcap_geterr(handle).decode(errors="replace")
        position = _position(expression, reason)
        where = "" if position is None else f" (at character {position + 1})"
        raise FilterError(
            f"filter {expression!r}: {reason}{where}", expression=expression, position=position
        )
    try:
        return tuple(
            Instruction(insn.code, insn.jt, insn.jf, insn.k)
            for insn in program.instructions[: program.length]
        )
    finally:
        library.pcap_freecode(ctypes.byref(program))


def _position(expression: str, reason: str) -> int | None:
    """Return the place in the expression of the word that libpcap names, if it has it once."""
    for named in re.findall(r"'([^']+)'|\"([^\"]+)\"|host (\S+)|([\w.:/-]+)$", reason):
        word = next(filter(None, named))
        if len(found := [m.start() for m in re.finditer(re.escape(word), expression)]) == 1:
            return found[0]
    return None


class Interpreter:
    """libpcap's own interpreter (pcap_offline_filter(3PCAP)), the reference for all others."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self._code = (_Insn * len(instructions))(*(_Insn(*i) for i in instructions))
        self._program = _Program(len(self._code), self._code)
        self._call = _libpcap().pcap_offline_filter

    def run(self, frame: bytes, wire_length: int) -> int:
        """Return what the program returns: 0 for a frame it rejects."""
        header = _Header(caplen=len(frame), len=wire_length)
        said = self._call(ctypes.byref(self._program), ctypes.byref(header), frame)
        return int(said) & 0xFFFF_FFFF


# -- capture files --


class Savefile:
    """A capture file, pcap or pcapng, read by libpcap. A context manager; iterate for frames.

    ``linktype`` and ``snaplen`` are the file's. Raises ``CaptureFileError``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        library = self._library = _libpcap()
        errors = ctypes.create_string_buffer(_ERRBUF_SIZE)
        handle = library.pcap_open_offline(str(path).encode(errors="surrogateescape"), errors)
        if not handle:
            raise CaptureFileError(
                f"open capture file {path}: {errors.value.decode(errors='replace')}", path=path
            )
        self._handle: int | None = handle
        self.linktype: int = int(library.pcap_datalink(handle))
        # Some files have 0 or nonsense here; libpcap itself takes that for "no limit".
        said = int(library.pcap_snapshot(handle))
        self.snaplen: int = said if 0 < said <= _MAXIMUM_SNAPLEN else _MAXIMUM_SNAPLEN

    def __iter__(self) -> Iterator[FileFrame]:
        header = ctypes.POINTER(_Header)()
        data = ctypes.c_void_p()
        count = 0
        while self._handle is not None:
            status = self._library.pcap_next_ex(
                self._handle, ctypes.byref(header), ctypes.byref(data)
            )
            if status == 1:
                count += 1
                frame = header.contents
                captured = ctypes.string_at(data, frame.caplen) if frame.caplen else b""
                yield FileFrame(captured, frame.len)
                continue
            if status == _END_OF_FILE:
                return
            reason = self._library.pcap_geterr(self._handle).decode(errors="replace")
            raise CaptureFileError(
                f"read capture file {self._path}: after {count} frames: {reason}", path=self._path
            )

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._library.pcap_close(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
