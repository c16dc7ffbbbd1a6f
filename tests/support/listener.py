"""A small TCP server for the ways in which servers misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

__all__ = ["CONNACK", "Listener", "close_without_answer", "protocol_level", "relay"]

CONNACK = bytes([0x20, 3, 0, 0, 0])  # of MQTT 5: accepted, without properties


class Listener:
    """Gives each connection to ``handler``, in a thread, and closes it. A context manager.

    ``accepted`` has the times of the connections.
    """

    def __init__(self, handler: Callable[[socket.socket], None]) -> None:
        self.accepted: list[float] = []
        self._handler = handler
        self._open: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.accepted.append(time.monotonic())
            self._open.add(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._handler(connection)
        self._open.discard(connection)


def protocol_level(connect: bytes) -> int:
    """The version that a CONNECT asks for: 5, or 4 for MQTT 3.1.1; 0 of other packets."""
    _, name, rest = connect.partition(b"MQTT")
    return rest[0] if name else 0


def close_without_answer(connection: socket.socket) -> None:
    connection.recv(4096)


def relay(connection: socket.socket, port: int, begin: bytes = b"") -> None:
    """Join the connection with one to another port of this machine, until either ends."""
    with socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(begin)

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65_536):
                    sink.sendall(data)
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=pump, args=[other, connection])
        back.start()
        pump(connection, other)
        back.join()
