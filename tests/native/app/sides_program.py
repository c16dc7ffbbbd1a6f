"""Runs sides_parse.c: flows go in piece by piece, and the exchanges of the parsers come out."""

from __future__ import annotations

import functools
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.sanitized import link

HERE: Final = Path(__file__).resolve().parent
PROTOCOLS: Final = {
    4: "http", 5: "http2", 13: "ssh", 14: "mqtt", 15: "ntp", 16: "rdp", 17: "smb",
    18: "bittorrent", 19: "wireguard", 20: "stun", 21: "rtp", 22: "smtp", 23: "imap", 24: "pop3",
    25: "ftp", 26: "ldap", 27: "xmpp", 28: "postgresql", 29: "mysql",
}  # fmt: skip
NUMBERS: Final = {1: "cut", 3: "version", 23: "status"}
TEXTS: Final = {
    20: "method", 21: "host", 22: "path", 24: "agent", 25: "type", 26: "reason", 60: "client",
    61: "server", 62: "id",
}  # fmt: skip

Value = int | bytes


class Piece(NamedTuple):
    """Bytes of one side; ``data`` None: its end."""

    by: str  # "O": the originator, "R": the responder
    data: bytes | None


class Exchange(NamedTuple):
    """One exchange, or an alone message; ``over`` if both sides begin anew behind it."""

    protocol: str
    asked: dict[str, Value]
    answered: dict[str, Value] | None = None
    carrier: str | None = None


class Over(NamedTuple):
    """Both sides begin anew."""

    protocol: str


@functools.cache
def build() -> Path:
    """Compile the program, once a process."""
    program = Path(tempfile.mkdtemp(prefix="sides-")) / "sides_parse"
    return link(program, HERE / "sides_parse.c")


class Sides:
    """The running program."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        """End the program, which must have found no fault."""
        self._process.communicate()
        assert self._process.returncode == 0

    def flow(self, pieces: Iterable[Piece], ports: tuple[int, int] = (40000, 8000)) -> list[object]:
        """Give the pieces in order; return the exchanges."""
        return self._ask(
            ports,
            (
                piece.by.lower().encode()
                if piece.data is None
                else piece.by.encode() + _sized(piece.data)
                for piece in pieces
            ),
        )

    def datagram(
        self, data: bytes, ports: tuple[int, int] = (40000, 8000), by: str = "O"
    ) -> str | None:
        """Give one datagram; return its label."""
        command = b"D" if by == "O" else b"d"
        said = self._ask(ports, [command + _sized(data)])
        assert len(said) <= 1
        if not said:
            return None
        assert isinstance(said[0], Exchange)
        assert said[0].asked == {}
        return said[0].protocol

    def _ask(self, ports: tuple[int, int], commands: Iterable[bytes]) -> list[object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"N" + struct.pack("=HH", *ports) + b"".join(commands) + b".")
        self._process.stdin.flush()
        said: list[object] = []
        for line in self._process.stdout:
            if line == b".\n":
                return said
            said.append(_read(line.decode().split()))
        raise AssertionError("the program ended")


def _sized(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


def _read(words: list[str]) -> Exchange | Over:
    if words[0] == "over":
        return Over(PROTOCOLS[int(words[1])])
    protocol, _, carrier = words[0].partition("<")
    records: list[dict[str, Value]] = [{}]
    for word in words[1:]:
        if word == "|":
            records.append({})
            continue
        number, _, text = word.partition(":")
        field, value = int(number), bytes.fromhex(text)
        if field in NUMBERS:
            records[-1][NUMBERS[field]] = struct.unpack("=I", value)[0]
        else:
            records[-1][TEXTS[field]] = value
    return Exchange(
        PROTOCOLS[int(protocol)],
        records[0],
        records[1] if len(records) > 1 else None,
        PROTOCOLS[int(carrier)] if carrier else None,
    )
