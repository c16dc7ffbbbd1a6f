"""TLS hellos in a stream: real ones, and those that old, odd and hostile clients send."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.native.app.hellos import (
    RETRY_RANDOM,
    alpn,
    client_hello,
    extension,
    key_share,
    record,
    server_hello,
    server_name,
    versions,
)
from tests.native.app.tls_program import (
    ALERT,
    ALPN,
    ALPN_OFFERED,
    ANSWERS,
    ASKS,
    CIPHER,
    CLIENT_VERSION,
    CUT,
    ECH,
    GROUP,
    NOTHING,
    RESUMED,
    SAME,
    SERVER_NAME,
    SILENT,
    TLS,
    VERSION,
    Program,
)
from tests.support.certificates import certificate
from tests.support.sizes import size

EXAMPLES = size(40, 2000)
ID = bytes(range(1, 33))
CCS = record(b"\x01", kind=20)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("tls")) as program:
        yield program


# -- real handshakes --


@cache
def server_context(highest: ssl.TLSVersion, tickets: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    context.maximum_version = highest
    context.set_alpn_protocols(["h2", "http/1.1"])
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    return context
