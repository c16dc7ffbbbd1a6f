"""The HTTP server of metrics: the standard library's, with its threads and their time bounded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["MetricsServer"]


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application, at most ``most`` clients at a time; others are turned away.

    ``idle``: the seconds that a client may take to ask. Raises ``OSError`` if it cannot listen.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], app: Callable[..., Any], *, idle: float, most: int
    ) -> None:
        self.address_family: int = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        handler = type("_Handler", (_QuietHandler,), {"timeout": idle})
        self._places = threading.BoundedSemaphore(most)
        super().__init__(address, handler)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread of its own, if there is a place."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there can be no thread
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the client, then give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        """Bind, without asking a name server for the host's own name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        host, port = self.socket.getsockname()[:2]
        self.server_address: Any = self.socket.getsockname()
        self.server_name: str = str(host)
        self.server_port: int = int(port)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks off is not an error."""


class _QuietHandler(WSGIRequestHandler):
    """Writes no line a request to standard error."""

    def log_message(self, format: str, *args: Any) -> None:
        """Drop the line."""
