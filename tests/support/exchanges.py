"""Exchanges of the web as frames: what real clients and servers say, without a network.

OpenSSL and aioquic shake hands in memory; their bytes go into segments and datagrams as a capture
at the client's would have them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from scapy.layers.dns import DNS, DNSQR, DNSRR

from tests.support.certificates import Certificates
from tests.support.frames import tcp, udp

__all__ = [
    "Endpoint",
    "Said",
    "TlsOptions",
    "connection",
    "datagrams",
    "dns",
    "http",
    "quic",
    "tls",
]

Endpoint: TypeAlias = tuple[str, int]
Said: TypeAlias = tuple[bool, bytes]  #: whether the client said it, and the bytes
_SEGMENT = 1448
_CLIENT, _SERVER = ("192.0.2.1", 50_000), ("198.51.100.1", 443)  # of aioquic's own books


# -- what is said --


@dataclass(frozen=True)
class TlsOptions:
    """A client's choices."""

    alpn: Sequence[str] = ("h2", "http/1.1")
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3


def tls(
    made: Certificates,
    name: str | None,
    turns: Iterable[tuple[int, int]],
    options: TlsOptions = TlsOptions(),
) -> list[Said]:
    """A handshake, then turns: so many bytes of a request, so many of its answer."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.server, made.server_key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = options.newest
    if options.alpn:
        client.set_alpn_protocols([*options.alpn])
        server.set_alpn_protocols([options.alpn[0]])
    pipes = [ssl.MemoryBIO() for _ in range(4)]
    sides = (
        client.wrap_bio(pipes[0], pipes[1], server_hostname=name),
        server.wrap_bio(pipes[2], pipes[3], server_side=True),
    )
    said: list[Said] = []

    def deliver() -> None:
        for is_client, source, target in ((True, pipes[1], pipes[2]), (False, pipes[3], pipes[0])):
            if data := source.read():
                said.append((is_client, data))
                target.write(data)

    def shake(side: ssl.SSLObject) -> bool:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    shaken = [shake(side) for side in sides]
    while not all(shaken):
        deliver()
        shaken = [shake(side) for side in sides]
    deliver()
    for asked, answered in turns:
        for sender, receiver, count in ((*sides, asked), (*sides[::-1], answered)):
            sender.write(bytes(count))
            deliver()
            left = count
            while left > 0:
                left -= len(receiver.read(left))
            deliver()
    return said


def quic(
    made: Certificates, name: str, turns: Iterable[tuple[int, int]], *, version: int = 1
) -> list[Said]:
    """The datagrams of a handshake, then of turns: bytes of a request, bytes of its answer."""
    known = [version]
    client = QuicConnection(
        configuration=QuicConfiguration(
            is_client=True, server_name=name, alpn_protocols=["h3"], supported_versions=known,
            original_version=version, verify_mode=ssl.CERT_NONE,
        )
    )  # fmt: skip
    answering = QuicConfiguration(is_client=False, alpn_protocols=["h3"], supported_versions=known)
    answering.load_cert_chain(made.server, made.server_key)
    server = QuicConnection(
        configuration=answering,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    said: list[Said] = []
    now = 0.0

    def deliver() -> None:
        nonlocal now
        moved = True
        while moved:
            moved = False
            for is_client, source, target in ((True, client, server), (False, server, client)):
                for data, _ in source.datagrams_to_send(now):
                    said.append((is_client, data))
                    target.receive_datagram(data, _CLIENT if is_client else _SERVER, now)
                    moved = True
                now += 0.001

    client.connect(_SERVER, now)
    deliver()
    for number, (asked, answered) in enumerate(turns):
        for sender, count in ((client, asked), (server, answered)):
            sender.send_stream_data(4 * number, bytes(count), end_stream=True)
            deliver()
    return said


def http(host: str, turns: Iterable[tuple[str, int]], agent: str = "curl/8.5.0") -> list[Said]:
    """Requests for paths, each with an answer of so many bytes."""
    said: list[Said] = []
    for path, size in turns:
        request = (f"GET {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}", "Accept: */*")
        answer = ("HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {size}")
        asked, answered = ("\r\n".join((*lines, "", "")).encode() for lines in (request, answer))
        said += [(True, asked), (False, answered + bytes(size))]
    return said


def dns(name: str, kind: str, answers: Sequence[str], *, id: int = 1, rcode: int = 0) -> list[Said]:
    """A question and its answer."""
    question = DNSQR(qname=name, qtype=kind)
    records = [DNSRR(rrname=name, type=kind, ttl=300, rdata=answer) for answer in answers]
    return [
        (True, bytes(DNS(id=id, rd=1, qd=question))),
        (False, bytes(DNS(id=id, qr=1, rd=1, ra=1, rcode=rcode, qd=question, an=records))),
    ]


# -- as frames --


def connection(client: Endpoint, server: Endpoint, said: Iterable[Said]) -> Iterator[bytes]:
    """A connection of TCP from its first SYN to its last acknowledgement."""
    ends, following = {True: client, False: server}, {True: 1_000, False: 2_000}

    def segment(is_client: bool, flags: str, data: bytes = b"") -> bytes:
        (src, sport), (dst, dport) = ends[is_client], ends[not is_client]
        ack = 0 if flags == "S" else following[not is_client]
        seq = following[is_client]
        following[is_client] += len(data) + ("S" in flags) + ("F" in flags)
        return tcp(src, dst, sport, dport, data, flags=flags, seq=seq, ack=ack)

    yield segment(True, "S")
    yield segment(False, "SA")
    yield segment(True, "A")
    for is_client, data in said:
        for at in range(0, len(data), _SEGMENT):
            yield segment(is_client, "PA", data[at : at + _SEGMENT])
            if at // _SEGMENT % 2 == 1:
                yield segment(not is_client, "A")
    yield segment(True, "FA")
    yield segment(False, "FA")
    yield segment(True, "A")


def datagrams(client: Endpoint, server: Endpoint, said: Iterable[Said]) -> Iterator[bytes]:
    """Datagrams of UDP."""
    for is_client, data in said:
        source, target = (client, server) if is_client else (server, client)
        yield udp(source[0], target[0], source[1], target[1], data)
