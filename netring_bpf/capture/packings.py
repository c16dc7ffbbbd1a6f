"""The packings of capture files: how each is recognised, and what unpacks it."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

__all__ = ["LONGEST_MAGIC", "DamagedError", "MissingError", "Packing", "Unpacker", "recognise"]

_PIECE = 1 << 18  # bytes unpacked at once: little input may become much
_XZ_MEMORY = 1 << 28  # bytes: xz -9 needs a quarter of it


class DamagedError(Exception):
    """The packed data cannot be unpacked from here on."""


class MissingError(Exception):
    """Nothing that is installed unpacks these data; the message names the remedy."""


class _Decompressor(Protocol):
    """Unpacks one member of a stream, as the classes of ``bz2`` and ``lzma`` do."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """``zlib``'s, with the names of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    def copy(self) -> _Gzip:
        other = _Gzip()
        other._inner = self._inner.copy()
        return other


def _bzip2() -> _Decompressor:
    import bz2

    return bz2.BZ2Decompressor()


def _xz() -> _Decompressor:
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


def _zstd() -> _Decompressor:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor
    else:
        from backports.zstd import ZstdDecompressor
    return ZstdDecompressor()


def _lz4() -> _Decompressor:
    from lz4.frame import LZ4FrameDecompressor

    made: _Decompressor = LZ4FrameDecompressor()
    return made


@dataclass(frozen=True, slots=True)
class Packing:
    """A packing. ``command``: the program that unpacks it; ``package``: needed to do it here."""

    name: str
    magics: tuple[bytes, ...]
    command: str
    start: Callable[[], _Decompressor] | None = None
    package: str | None = None

    def check(self, path: str) -> None:
        """Raise ``MissingError`` if nothing unpacks it here. ``path``: the file, for the remedy."""
        if self.start is not None:
            try:
                self.start()
            except ImportError:
                pass
            else:
                return
        install = (
            f'pip install "netring-bpf[{_EXTRA}]" ({self.package}), or ' if self.package else ""
        )
        piped = f"{self.command} | …" if path == "-" else f"{self.command} {path} | … -r -"
        raise MissingError(
            f"it is packed with {self.name}, which cannot be unpacked here; {install}let a program "
            f"unpack it into the pipe: {piped}"
        )


_EXTRA = "packed"
_SKIPPED_BY_ZSTD = tuple(bytes([0x50 + n]) + b"\x2a\x4d\x18" for n in range(16))
_PACKINGS = (
    Packing("gzip", (b"\x1f\x8b",), "gzip -dc", _Gzip),
    Packing("bzip2", (b"BZh",), "bzip2 -dc", _bzip2),
    Packing("xz", (b"\xfd7zXZ\0",), "xz -dc", _xz),
    Packing("zstd", (b"\x28\xb5\x2f\xfd", *_SKIPPED_BY_ZSTD), "zstd -dc", _zstd, "backports.zstd"),
    Packing("lz4", (b"\x04\x22\x4d\x18",), "lz4 -dc", _lz4, "lz4"),
    Packing("lz4 of old", (b"\x02\x21\x4c\x18",), "lz4 -dc"),
    Packing("compress", (b"\x1f\x9d",), "gzip -dc"),
    Packing("zip", (b"PK\x03\x04",), "unzip -p"),
    Packing("7z", (b"7z\xbc\xaf\x27\x1c",), "7z x -so"),
)
LONGEST_MAGIC = max(len(magic) for packing in _PACKINGS for magic in packing.magics)


def recognise(beginning: bytes) -> Packing | None:
    """Return the packing of data that begin so, None if they are not packed."""
    for packing in _PACKINGS:
        if beginning.startswith(packing.magics):
            return packing
    return None


class Unpacker:
    """Unpacks a stream of one or more members, as it comes."""

    def __init__(self, packing: Packing, member: _Decompressor | None = None) -> None:
        self._packing = packing
        self._member = member  # the one that was begun

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield all that these further bytes give, in pieces. Raises ``DamagedError``."""
        assert self._packing.start is not None
        while data or self._member is not None:
            if self._member is None:
                data = data.lstrip(b"\0")  # padding behind a member
                if not data:
                    return
                self._member = self._packing.start()
            try:
                piece = self._member.decompress(data, _PIECE)
            except Exception as error:  # each library has its own
                raise DamagedError(f"damaged as {self._packing.name}: {error}") from error
            if piece:
                yield piece
            if self._member.eof:
                data = self._member.unused_data or b""
                self._member = None
            elif self._member.needs_input and len(piece) < _PIECE:
                return
            else:
                data = b""

    def end(self) -> None:
        """Tell that there are no further bytes. Raises ``DamagedError`` if some are missing."""
        if self._member is not None:
            raise DamagedError(f"cut short: the {self._packing.name} data end before their end")

    def copy(self) -> Self | None:
        """Return another one in the same state, None if this packing's library cannot do that."""
        if self._member is None:
            return type(self)(self._packing)
        if not isinstance(self._member, _Gzip):
            return None
        return type(self)(self._packing, self._member.copy())
