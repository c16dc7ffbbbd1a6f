"""Runs tls_parse.c: what the parsers of TLS and DTLS say to bytes."""

from __future__ import annotations

import atexit
import shutil
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from tests.support.sanitized import link

CUT, VERSION, ALERT, SESSION_ID = 1, 3, 8, 9
SERVER_NAME, ALPN_OFFERED, ALPN, CIPHER, RESUMED, ECH, JA4, JA3, GROUP, CLIENT_VERSION = range(
    10, 20
)
NUMBERS = {CUT, VERSION, ALERT, CIPHER, RESUMED, ECH, GROUP, CLIENT_VERSION}
TLS, DTLS, QUIC = 1, 2, 3
ASKS, ANSWERS, ALONE, SILENT = range(4)
SAME, NOTHING = range(2)


@dataclass(frozen=True)
class Message:
    """One answer of the parsers."""

    verdict: str
    protocol: int
    role: int
    next: int
    needs: int
    used: int
    is_cut: bool
    record: bytes

    @property
    def fields(self) -> list[tuple[int, int | bytes]]:
        """Number and value of each field."""
        found: list[tuple[int, int | bytes]] = []
        at = 0
        while at < len(self.record):
            field, _, length = struct.unpack_from("=BBH", self.record, at)
            value = self.record[at + 4 : at + 4 + length]
            found.append((field, int.from_bytes(value, "little") if field in NUMBERS else value))
            at += 4 + length
        return found

    def get(self, number: int) -> int | bytes | None:
        """The first field of this number."""
        return next((value for field, value in self.fields if field == number), None)

    def all(self, number: int) -> list[int | bytes]:
        """All fields of this number."""
        return [value for field, value in self.fields if field == number]


@dataclass(frozen=True)
class Pieces:
    """Fragments of hellos in a datagram."""

    verdict: str
    sequence: int
    is_cut: bool
    is_refused: bool
    alert: int
    pieces: list[tuple[int, bytes]]


@cache
def built() -> Path:
    """The program, built once."""
    binary = Path(mkdtemp(prefix="netring-tls-")) / "tls_parse"
    atexit.register(shutil.rmtree, binary.parent, ignore_errors=True)
    return link(binary, Path(__file__).parent / "tls_parse.c")


class Program:
    """The program, running."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [built()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0

    def _ask(self, what: str, is_all: bool, data: bytes, asked: bytes) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        which = "all" if is_all else "more"
        self._process.stdin.write(f"{what} {which} {data.hex() or '-'} {asked.hex() or '-'}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def parse(
        self, data: bytes, what: str = "tls", *, is_all: bool = False, asked: bytes = b""
    ) -> Message:
        """Ask nr_tls_parse, or nr_hello_parse of a transport: t, d, q."""
        words = self._ask(what, is_all, data, asked)
        record = bytes.fromhex(words[7].removesuffix("-"))
        protocol, role, following, needs, used = (int(word) for word in words[1:6])
        return Message(words[0], protocol, role, following, needs, used, words[6] == "1", record)

    def pieces(self, data: bytes) -> Pieces:
        """Ask nr_dtls_pieces."""
        verdict, sequence, is_cut, is_refused, alert, *rest = self._ask("pieces", False, data, b"")
        split = (word.split(":") for word in rest)
        pieces = [(int(offset), bytes.fromhex(text)) for offset, text in split]
        return Pieces(verdict, int(sequence), is_cut == "1", is_refused == "1", int(alert), pieces)

    def raw(self, data: bytes, transport: str = "t") -> list[str]:
        """The texts of JA4 and JA3 before their digests."""
        return self._ask(f"raw-{transport}", False, data, b"")
