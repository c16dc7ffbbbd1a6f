"""Servers for real clients: web, names, mail, a proxy and SSH, in one process.

``python -m tests.kernel.app.servers CERTIFICATE KEY`` says ``ready`` and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import socketserver
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

from tests.kernel.app.addresses import PORTS, SERVER, SERVER6, SSH_BANNER

_PAGE: Final = b"<title>hello</title>"

# -- HTTP --


class _Web(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1; or, where TLS has chosen it, HTTP/2."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        if isinstance(self.connection, ssl.SSLSocket):
            self.connection.do_handshake()
            if self.connection.selected_alpn_protocol() == "h2":
                _serve_http2(self.rfile, self.wfile)
                return
        super().handle()

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/chunks":
            self._answer(b"4\r\nGET \r\n4\r\nHTTP\r\n0\r\n\r\n", "Transfer-Encoding", "chunked")
        else:
            self._answer(_PAGE)

    def do_HEAD(self) -> None:
        self._answer(b"", "Content-Length", "12345")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"thanks")

    def _answer(self, body: bytes, *header: str) -> None:
        name, value = header or ("Content-Length", str(len(body)))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header(name, value)
        if self.headers["Connection"] == "close":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: Any) -> None:
        """Say nothing."""


def _serve_http2(incoming: Any, outgoing: Any) -> None:
    """Answer each request of a connection with status 200 and a page."""
    data, headers, settings, goaway = 0, 1, 4, 7
    incoming.read(24)
    outgoing.write(_http2_frame(settings))
    while len(head := incoming.read(9)) == 9:
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
        incoming.read(int.from_bytes(head[:3]))
        if kind == settings and not flags & 1:
            outgoing.write(_http2_frame(settings, 1))
        elif kind == headers:
            outgoing.write(_http2_frame(headers, 4, stream, b"\x88"))
            outgoing.write(_http2_frame(data, 1, stream, _PAGE))
        elif kind == goaway:
            return


def _http2_frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


class _PlainHttp2(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        _serve_http2(self.rfile, self.wfile)


class _Proxy(socketserver.StreamRequestHandler):
    """CONNECT to whatever name: it is here."""

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].rsplit(b":", 1)
        while self.rfile.readline().strip():
            pass
        with socket.create_connection(("127.0.0.1", int(target[1]))) as upstream:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            _copy(self.connection, upstream)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Http3(QuicConnectionProtocol):
    _http: H3Connection | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        for heard in self._http.handle_event(event) if self._http else []:
            if isinstance(heard, HeadersReceived):
                assert self._http is not None
                headers = [(b":status", b"200"), (b"content-type", b"text/html")]
                self._http.send_headers(heard.stream_id, headers)
                self._http.send_data(heard.stream_id, _PAGE, end_stream=True)
                self.transmit()


# -- names --

_A, _CNAME, _MX, _TXT, _AAAA = 1, 5, 15, 16, 28
_IN_QUESTION: Final = b"\xc0\x0c"


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"


_HERE: Final = socket.inet_aton(SERVER)
_RECORDS: Final[dict[tuple[str, int], list[tuple[bytes, int, bytes]]]] = {
    ("alias.example", _A): [
        (_IN_QUESTION, _CNAME, _labels("web.example")),
        (_labels("web.example"), _A, _HERE),
    ],
    ("six.example", _A): [],
    ("six.example", _AAAA): [(_IN_QUESTION, _AAAA, socket.inet_pton(socket.AF_INET6, SERVER6))],
    ("mail.example", _MX): [(_IN_QUESTION, _MX, b"\0\x0a" + _labels("mx.example"))],
    ("long.example", _TXT): [
        (_IN_QUESTION, _TXT, b"\xc8" + bytes([letter]) * 200) for letter in b"abcdefgh"
    ],
}


def _answer(query: bytes, limit: int) -> bytes:
    """Return the answer to a question; without its records, if it is longer than the limit."""
    at, parts = 12, []
    while size := query[at]:
        parts.append(query[at + 1 : at + 1 + size].decode().lower())
        at += 1 + size
    name, kind = ".".join(parts), int.from_bytes(query[at + 1 : at + 3])
    none: list[tuple[bytes, int, bytes]] = []
    records = _RECORDS.get((name, kind), [(_IN_QUESTION, _A, _HERE)] if kind == _A else none)
    code = 3 if name == "missing.example" else 0
    if code:
        records = []
    body = b"".join(
        owner + struct.pack(">HHIH", kind, 1, 300, len(data)) + data
        for owner, kind, data in records
    )
    question = query[12 : at + 5]
    is_long = 12 + len(question) + len(body) > limit
    counts = struct.pack(">HHHH", 1, 0 if is_long else len(records), 0, 0)
    flags = 0x8180 | 0x0200 * is_long | code
    return query[:2] + flags.to_bytes(2) + counts + question + (b"" if is_long else body)


class _UdpNames(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, sock = self.request
        sock.sendto(_answer(query, 512), self.client_address)


class _TcpNames(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while head := self.rfile.read(2):
            answer = _answer(self.rfile.read(int.from_bytes(head)), 65535)
            self.wfile.write(len(answer).to_bytes(2) + answer)


# -- SSH and mail --


class _Ssh(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(f"{SSH_BANNER}\r\n".encode())
        self.rfile.readline()


def _mail(context: ssl.SSLContext) -> type[socketserver.BaseRequestHandler]:
    class Mail(socketserver.BaseRequestHandler):
        """SMTP with STARTTLS."""

        def handle(self) -> None:
            self.request.sendall(b"220 mail.example ESMTP\r\n")
            if not self._commands(self.request, b"250-mail.example\r\n250 STARTTLS\r\n"):
                return
            with context.wrap_socket(self.request, server_side=True) as hidden:
                self._commands(hidden, b"250 mail.example\r\n")

        def _commands(self, sock: socket.socket, hello: bytes) -> bool:
            """Answer commands; return whether TLS is to begin."""
            with sock.makefile("rb") as lines:
                for line in lines:
                    command = line.strip().upper()
                    answers = {b"EHLO": hello, b"STARTTLS": b"220 go\r\n", b"QUIT": b"221 bye\r\n"}
                    sock.sendall(answers.get(command.split()[0], b"250 ok\r\n"))
                    if command in {b"STARTTLS", b"QUIT"}:
                        return command == b"STARTTLS"
            return False

    return Mail


# -- all of them --


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    address_family = socket.AF_INET6  # and IPv4, as Linux has it by default
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return sock, address

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that ends in the middle is none of our business."""


class _Datagrams(socketserver.UDPServer):
    allow_reuse_address = True
    max_packet_size = 65535


def _context(certificate: str, key: str, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(protocols))
    return context


def _start(server: socketserver.BaseServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


async def _run(certificate: str, key: str) -> None:
    both = _context(certificate, key, "h2", "http/1.1")
    old, new = _context(certificate, key), _context(certificate, key)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    handlers: dict[str, tuple[Callable[..., Any], ssl.SSLContext | None]] = {
        "ssh": (_Ssh, None), "smtp": (_mail(new), None), "dns": (_TcpNames, None),
        "http": (_Web, None), "https": (_Web, both), "old": (_Web, old), "new": (_Web, new),
        "odd http": (_Web, None), "proxy": (_Proxy, None), "h2c": (_PlainHttp2, None),
    }  # fmt: skip
    for name, (handler, context) in handlers.items():
        server = _Threads(("::", PORTS[name]), handler)
        server.context = context
        _start(server)
    _start(_Datagrams((SERVER, PORTS["dns"]), _UdpNames))
    quic = QuicConfiguration(alpn_protocols=["h3"], is_client=False)
    quic.load_cert_chain(certificate, key)
    await serve(SERVER, PORTS["https"], configuration=quic, create_protocol=_Http3)
    print("ready", flush=True)
    await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], sys.argv[2]))
