"""Runs the parsers of names in the local network: DNS, NetBIOS, DHCP and SSDP."""

from __future__ import annotations

import atexit
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.sanitized import link

_PROGRAMS: Final[list[subprocess.Popen[str]]] = []
NOT_THIS, MORE, MESSAGE = range(3)
ASKS, ANSWERS, ALONE, SILENT = range(4)
DNS, MDNS, LLMNR, NETBIOS, DHCP, DHCPV6, SSDP = range(6, 13)

METHOD, STATUS, USER_AGENT = 20, 23, 24
QUERY, QUERY_TYPE, QUERY_CLASS, RCODE, ID, FLAGS, ANSWER, ADDITIONAL = range(30, 38)
MAC, HOST_NAME, VENDOR_CLASS, ASSIGNED, MESSAGE_TYPE, SERVER, ROUTER = range(40, 47)
PREFIX_LENGTH, CLIENT_FQDN, REQUESTED, DOMAIN, LEASE = range(47, 52)
SERVER_SOFTWARE, SERVICE, LOCATION, SUFFIX = 61, 63, 64, 65
NUMBERS: Final = {STATUS, QUERY_TYPE, QUERY_CLASS, RCODE, ID, FLAGS, ADDITIONAL, MESSAGE_TYPE}
NUMBERS_TOO: Final = NUMBERS | {PREFIX_LENGTH, LEASE, SUFFIX}


@dataclass(frozen=True, slots=True)
class Answer:
    """A field ANSWER, taken apart."""

    owner: bytes
    type: int
    ttl: int
    chained: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """What a parser said."""

    verdict: int
    protocol: int
    role: int
    next: int
    pair: int
    needs: int
    used: int
    cut: bool
    fields: tuple[tuple[int, bytes], ...]

    def of(self, field: int) -> list[bytes | int]:
        """The values of one field."""
        return [
            int.from_bytes(value, "little") if number in NUMBERS_TOO else value
            for number, value in self.fields
            if number == field
        ]

    def one(self, field: int) -> bytes | int | None:
        """The only value of a field; None without one."""
        values = self.of(field)
        assert len(values) <= 1
        return values[0] if values else None

    @property
    def answers(self) -> list[Answer]:
        """The answers."""
        return [take_apart(value) for number, value in self.fields if number == ANSWER]


def take_apart(value: bytes) -> Answer:
    """Read a field ANSWER."""
    ttl, kind, chained, length = struct.unpack_from("=IHBB", value)
    assert chained <= 1
    return Answer(value[8 : 8 + length], kind, ttl, bool(chained), value[8 + length :])


@cache
def build() -> Path:
    """Build the program, once for all modules of tests."""
    folder = Path(tempfile.mkdtemp(prefix="netring-names-"))
    atexit.register(shutil.rmtree, folder)
    return link(folder / "parse", Path(__file__).parent / "dns_parse.c")


@contextmanager
def running() -> Iterator[None]:
    """Start the program, which parse() then asks."""
    with subprocess.Popen(
        [build()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as program:
        _PROGRAMS.append(program)
        try:
            yield
        finally:
            _PROGRAMS.pop()
            program.communicate()
    assert program.returncode == 0


def parse(name: str, data: bytes, src_p: int = 0, dst_p: int = 0, flags: str = "d") -> Said:
    """Ask a parser."""
    program = _PROGRAMS[-1]
    assert program.stdin is not None
    assert program.stdout is not None
    words = (name, src_p, dst_p, flags + "-", data.hex() or "-")
    print(*words, file=program.stdin, flush=True)
    said = json.loads(program.stdout.readline())
    fields = tuple((number, bytes.fromhex(value)) for number, value in said.pop("fields"))
    return Said(fields=fields, **said)
