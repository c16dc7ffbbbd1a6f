"""Handshakes that tlslite-ng makes, in pieces of any kind, are read as its ends agreed."""

from __future__ import annotations

import errno
import itertools
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netring_bpf._core import lib
from tests.native.app.test_driver import exchanges, of_pieces, told
from tests.native.app.test_tls import names
from tests.support.certificates import Certificates
from tests.support.sizes import size

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports asyncore where there is one
    from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey

_JA4_VERSIONS = {(3, 1): b"10", (3, 2): b"11", (3, 3): b"12", (3, 4): b"13"}
_VERSIONS = list(_JA4_VERSIONS)


class _End:
    """The socket of one end, in memory."""

    def __init__(self) -> None:
        self.arrived, self.sent = bytearray(), bytearray()
        self.peer = self

    def send(self, data: bytes) -> int:
        self.sent += data
        self.peer.arrived += data
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def close(self) -> None:
        """Nothing is open."""

    def recv(self, most: int) -> bytes:
        if not self.arrived:
            raise OSError(errno.EWOULDBLOCK, "nothing has come yet")
        taken = bytes(self.arrived[:most])
        del self.arrived[:most]
        return taken


@dataclass(frozen=True)
class Identity:
    """The server's certificate and key, as tlslite-ng has them."""

    chain: Any
    key: Any


@dataclass(frozen=True)
class Handshake:
    """What each side sent, and what they agreed on."""

    client: bytes
    server: bytes
    version: tuple[int, int]
    cipher: int
    protocol: bytes


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    files = Certificates(tmp_path_factory.mktemp("tlslite"))
    chain = X509CertChain()
    chain.parsePemList(Path(files.server).read_text())
    return Identity(chain, parsePEMKey(Path(files.server_key).read_text(), private=True))


def _settings(lowest: tuple[int, int], highest: tuple[int, int]) -> Any:
    chosen = HandshakeSettings()
    chosen.minVersion, chosen.maxVersion = lowest, highest
    chosen.eccCurves = ["x25519", "secp256r1", "secp384r1"]
    chosen.versions = [version for version in _VERSIONS[::-1] if lowest <= version <= highest]
    return chosen


def shake(
    identity: Identity, name: str, offered: list[bytes], lowest: tuple[int, int],
    client_highest: tuple[int, int], server_highest: tuple[int, int],
) -> Handshake:  # fmt: skip
    """Connect in memory; the ends take turns."""
    ends = _End(), _End()
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    client, server = map(TLSConnection, ends)
    steps: list[Iterator[object]] = [
        client.handshakeClientCert(
            settings=_settings(lowest, client_highest), serverName=name,
            alpn=[bytearray(word) for word in offered] or None, async_=True,
        ),
        server.handshakeServerAsync(
            certChain=identity.chain, privateKey=identity.key,
            settings=_settings(lowest, server_highest),
            alpn=[bytearray(word) for word in reversed(offered)] or None,
        ),
    ]  # fmt: skip
    over = object()
    while steps:
        steps = [step for step in steps if next(step, over) is not over]
    session = client.session
    return Handshake(
        bytes(ends[0].sent), bytes(ends[1].sent), client.version, session.cipherSuite,
        bytes(session.appProto or b""),
    )  # fmt: skip


def _pieces(data: bytes, order: random.Random) -> list[tuple[int, bytes]]:
    """Pieces of all the bytes, some of them more than once and overlapping, in any order."""
    cuts = sorted({0, len(data), *(order.randrange(len(data)) for _ in range(order.randint(0, 6)))})
    pieces = [(a, data[a:b]) for a, b in itertools.pairwise(cuts)]
    for _ in range(order.randint(0, 4)):
        at = order.randrange(len(data))
        pieces.append((at, data[at : at + order.randint(1, 1400)]))
    order.shuffle(pieces)
    return pieces


@settings(max_examples=size(40, 1000), deadline=None)
@given(
    name=names,
    offered=st.lists(st.binary(min_size=1, max_size=30), max_size=12, unique=True),
    bounds=st.tuples(*[st.sampled_from(_VERSIONS)] * 3),
    seed=st.integers(0, 1 << 30),
)
def test_a_handshake_is_read_as_its_ends_agreed(
    identity: Identity,
    name: str,
    offered: list[bytes],
    bounds: tuple[tuple[int, int], ...],
    seed: int,
) -> None:
    order = random.Random(seed)
    lowest, *highest = sorted(bounds)
    order.shuffle(highest)
    client_highest, server_highest = highest
    done = shake(identity, name, offered, lowest, client_highest, server_highest)
    assert done.version == min(highest)
    events, books = told(of_pieces(_pieces(done.client, order), _pieces(done.server, order)))
    [exchange] = exchanges(events)
    assert exchange.protocol == lib.NR_APP_TLS
    assert exchange.fields["SERVER_NAME"] == name.encode()
    version = done.version[0] << 8 | done.version[1]
    highest_offered = client_highest[0] << 8 | client_highest[1]
    assert (exchange.number("CLIENT_VERSION"), exchange.number("VERSION")) == (
        highest_offered, version,
    )  # fmt: skip
    assert exchange.number("CIPHER") == done.cipher
    assert ("ALPN_OFFERED" in exchange.fields) == bool(offered)
    in_clear = done.protocol if done.version < (3, 4) else b""
    assert exchange.fields.get("ALPN", b"") == in_clear
    assert len(exchange.fields["JA4"]) == 36
    assert exchange.fields["JA4"].startswith(b"t%b" % _JA4_VERSIONS[client_highest])
    assert sum(books.names_missed.values()) == 0
