"""Builds hellos of TLS and DTLS, byte by byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RANDOM = bytes(range(100, 132))
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def vector(data: bytes, size: int) -> bytes:
    """Bytes behind their length."""
    return len(data).to_bytes(size, "big") + data


def numbers(values: Iterable[int]) -> bytes:
    """Numbers of two bytes each."""
    return b"".join(value.to_bytes(2, "big") for value in values)


def extension(number: int, body: bytes = b"") -> bytes:
    """One extension."""
    return number.to_bytes(2, "big") + vector(body, 2)


def server_name(name: bytes) -> bytes:
    """The extension that names the server."""
    return extension(0, vector(b"\0" + vector(name, 2), 2))


def alpn(*names: bytes) -> bytes:
    """The extension with the protocols that are offered, or chosen."""
    return extension(16, vector(b"".join(vector(name, 1) for name in names), 2))


def versions(*values: int) -> bytes:
    """The extension with the versions that a client offers."""
    return extension(43, vector(numbers(values), 1))


def key_share(group: int) -> bytes:
    """The extension with a server's key."""
    return extension(51, numbers([group]) + vector(b"k" * 32, 2))


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + vector(body, 3)


def client_hello(
    extensions: bytes | None = b"",
    *,
    version: int = 0x0303,
    session: bytes = b"",
    cookie: bytes | None = None,
    ciphers: Sequence[int] = (0x1301, 0xC02F),
) -> bytes:
    """A ClientHello; with a cookie, of DTLS. Extensions of None: it ends before them."""
    body = numbers([version]) + RANDOM + vector(session, 1)
    body += b"" if cookie is None else vector(cookie, 1)
    body += vector(numbers(ciphers), 2) + b"\x01\0"
    return _message(1, body if extensions is None else body + vector(extensions, 2))


def server_hello(
    extensions: bytes | None = b"",
    *,
    version: int = 0x0303,
    session: bytes = b"",
    cipher: int = 0xC02F,
    random: bytes = RANDOM,
) -> bytes:
    """A ServerHello."""
    body = numbers([version]) + random + vector(session, 1) + numbers([cipher]) + b"\0"
    return _message(2, body if extensions is None else body + vector(extensions, 2))


def record(data: bytes, *, kind: int = 22, version: int = 0x0301) -> bytes:
    """A record of TLS."""
    return bytes([kind]) + numbers([version]) + vector(data, 2)


def fragment(message: bytes, sequence: int, offset: int = 0, length: int | None = None) -> bytes:
    """A fragment of a message of DTLS."""
    body = message[4:][offset:][:length]
    head = message[:4] + numbers([sequence]) + offset.to_bytes(3, "big")
    return head + vector(body, 3)


def datagram_record(data: bytes, *, kind: int = 22, version: int = 0xFEFD, epoch: int = 0) -> bytes:
    """A record of DTLS."""
    return bytes([kind]) + numbers([version, epoch]) + bytes(6) + vector(data, 2)
