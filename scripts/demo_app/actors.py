"""The client and the server of the demo, each a process in a namespace of its own.

``actors.py server`` prints "ready" and serves until its standard input closes.
``actors.py client SECONDS`` talks in rounds for that long, at least one, then prints the number
of flows of each protocol as JSON.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import Any

CLIENT, SERVER, PREFIX = "10.77.0.1", "10.77.0.2", 24
HTTP_PORT, DNS_PORT = 8080, 53
NOISE_TCP_PORT, NOISE_UDP_PORT = 9090, 9999
FILTER = f"tcp port {HTTP_PORT} or udp port {DNS_PORT} or icmp"

_CONNECTIONS, _REQUESTS, _QUERIES, _PINGS, _NOISE = 3, 4, 5, 4, 20
_TIMEOUT = 5.0


class _Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"netring " * 300
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # The demo kills its client when it is stopped.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _udp(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((SERVER, port))
    return sock


def _answer(sock: socket.socket) -> None:
    while True:
        query, peer = sock.recvfrom(512)
        # The answer of a name server: the query's id, the response bit, and the question again.
        sock.sendto(query[:2] + b"\x81\x80" + query[4:], peer)


def _swallow(sock: socket.socket) -> None:
    while True:
        sock.recv(2048)


def serve() -> None:
    """Serve HTTP, DNS-like UDP, and the ports that the filter rejects."""
    for port in (HTTP_PORT, NOISE_TCP_PORT):
        server = _Server((SERVER, port), _Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=_answer, args=(_udp(DNS_PORT),), daemon=True).start()
    threading.Thread(target=_swallow, args=(_udp(NOISE_UDP_PORT),), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def _browse(port: int, requests: int) -> None:
    connection = http.client.HTTPConnection(SERVER, port, timeout=_TIMEOUT)
    with contextlib.closing(connection):
        for _ in range(requests):
            connection.request("GET", "/")
            connection.getresponse().read()


def _query(number: int) -> None:
    question = b"\7netring\7example\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_TIMEOUT)
        sock.sendto(struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + question, (SERVER, DNS_PORT))
        sock.recv(512)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _ping(ident: int, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(_TIMEOUT)
        for sequence in range(count):
            echo = struct.pack("!BBHHH", 8, 0, 0, ident, sequence) + b"netring!"
            echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
            sock.sendto(echo, (SERVER, 0))
            while sock.recv(2048)[20] != 0:  # skip all but the reply
                pass


def _noise() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(_NOISE):
            sock.sendto(b"not for you", (SERVER, NOISE_UDP_PORT))
    _browse(NOISE_TCP_PORT, 1)


def talk(seconds: float) -> None:
    """Talk in rounds, each with flows of its own, and print the number of flows."""
    deadline = time.monotonic() + seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < deadline:
        for _ in range(_CONNECTIONS):
            _browse(HTTP_PORT, _REQUESTS)
        for number in range(_QUERIES):
            _query(number)
        _ping((os.getpid() * 31 + rounds) % 0xFFFF + 1, _PINGS)
        _noise()
        rounds += 1
        time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))  # the pace of a person
    flows = {"tcp": rounds * _CONNECTIONS, "udp": rounds * _QUERIES, "icmp": rounds}
    print(json.dumps(flows), flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "server" else talk(float(sys.argv[2]))
