"""The server of the page: opened beside a capture, and closed with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

from netring_bpf.errors import ClosedError, OptionError, PackageMissingError
from netring_bpf.web.listen import DEFAULT_LISTEN, Listen, bind, is_loopback, resolve
from netring_bpf.web.token import Token

try:
    from aiohttp import web
    from aiohttp.http import HttpProcessingError
except ImportError as _error:
    raise PackageMissingError(
        'serve a page: aiohttp is not installed; pip install "netring-bpf[web]"',
        package="aiohttp",
    ) from _error

from netring_bpf.web.api import MAX_BODY, OPEN_FOLDER, OPEN_PATHS, Api
from netring_bpf.web.connections import _Connection, timed
from netring_bpf.web.guard import Guard, is_name
from netring_bpf.web.state import State
from netring_bpf.web.viewers import Viewers

if TYPE_CHECKING:
    from types import TracebackType

    from netring_bpf.netring import Netring

__all__ = ["WebServer", "serve"]

_SPARE: Final = 64  # connections beside those of viewers
_EVERY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_GRACE: Final = 2.0  # seconds for the last answers


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record tells of a fault in here, not of a request that is none."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log = logging.getLogger("netring_bpf.web.http")
_http_log.addFilter(_is_ours)


def serve(
    ring: Netring,
    listen: str = DEFAULT_LISTEN,
    *,
    token: str | None = None,
    names: Sequence[str] = (),
    max_viewers: int = 100,
) -> WebServer:
    """Serve a page about the capture, while the returned context manager is entered.

    ``listen``: ``HOST:PORT``; any other address than loopback needs a ``token``, and port 0 is any
    free one. ``names``: host names by which browsers may reach the server, as ``"edge.lan"``;
    its addresses need not be named. ``max_viewers``: pages that are live at one time.

    The ring must be made with ``stats``; with ``devices`` the page has those too. Make the server
    before the ring is entered, or right after, to miss no event, and enter it inside of the ring:

        async with nr.Netring("eth1", stats=True, devices=True) as ring, serve(ring) as server:
            print(server.url)

    Raises ``OptionError``, and on entering ``AddressInUseError``, ``AddressUnavailableError`` and
    ``PermissionDeniedError``.
    """
    return WebServer(ring, Listen.read(listen), token, names, max_viewers)


class WebServer:
    """A server that ``serve()`` has made: an async context manager."""

    def __init__(
        self,
        ring: Netring,
        listen: Listen,
        token: str | None,
        names: Sequence[str],
        max_viewers: int,
    ) -> None:
        if isinstance(names, str) or not all(map(is_name, names)):
            raise OptionError(
                f"names={names!r}: must be a list of host names, as ['edge.lan']", option="names"
            )
        if not 1 <= max_viewers <= 10_000:
            raise OptionError(
                f"max_viewers={max_viewers!r}: must be 1 to 10000", option="max_viewers"
            )
        self._listen = listen
        self._token = None if token is None else Token(token)
        guard = Guard(self._token, names, OPEN_PATHS, OPEN_FOLDER)
        self._viewers = Viewers(max_viewers)
        self._most = max_viewers + _SPARE
        self._state = State(ring, self._viewers)
        app = web.Application(middlewares=[timed, guard.middleware], client_max_size=MAX_BODY)
        app.on_response_prepare.append(guard.on_prepare)
        app.add_routes(Api(ring, self._state, self._viewers, guard).routes())
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_GRACE
        )
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._addresses: tuple[Listen, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses on which it listens, as ``HOST:PORT``."""
        return tuple(map(str, self._addresses))

    @property
    def url(self) -> str:
        """The address of the page on this machine. Raises ``ClosedError`` before it was entered."""
        if not self._addresses:
            raise ClosedError(f"the server on {self._listen} is not open")
        host, port = self._addresses[0]
        # A browser may ask for no address that stands for all of them.
        return f"http://{Listen(_EVERY.get(host, host), port)}/"

    @property
    def viewers(self) -> int:
        """The number of pages that are live."""
        return len(self._viewers)

    @property
    def error(self) -> Exception | None:
        """Why the page itself failed; None while it goes on. The capture has its own error."""
        return self._state.error

    async def wait_end(self) -> None:
        """Wait for the end of the capture; the server goes on."""
        await self._state.ended.wait()

    async def __aenter__(self) -> Self:
        try:
            addresses = await asyncio.to_thread(resolve, self._listen)
            if self._token is None and not all(map(is_loopback, addresses)):
                raise OptionError(
                    f"listen={str(self._listen)!r}: an address that others can reach needs a "
                    "token (--token-file, or NETRING_WEB_TOKEN in the environment)",
                    option="listen",
                )
            await self._open(addresses)
        except BaseException:
            await self.close()
            raise
        return self

    async def _open(self, addresses: list[Listen]) -> None:
        sockets = bind(addresses)
        self._addresses = tuple(
            Listen(made.getsockname()[0], made.getsockname()[1]) for made in sockets
        )
        try:
            await self._runner.setup()
            loop = asyncio.get_running_loop()
            while sockets:
                server = await loop.create_server(self._protocol, sock=sockets[0])
                del sockets[0]
                self._servers.append(server)
        finally:
            for left in sockets:
                left.close()
        self._tasks = [
            loop.create_task(self._state.run(), name="netring-web"),
            loop.create_task(self._state.pulse(), name="netring-web-pulse"),
        ]

    def _protocol(self) -> asyncio.BaseProtocol:
        """Return what talks to a new connection; nobody does beyond a bound."""
        serving = self._runner.server
        if serving is None or len(serving.connections) >= self._most:
            return _Refused()
        return _Connection(serving, asyncio.get_running_loop(), _http_log)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening, and end every connection. Idempotent."""
        for server in self._servers:
            server.close()
        self._viewers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._state.close()
        await self._runner.cleanup()
        for server in self._servers:
            with contextlib.suppress(asyncio.CancelledError):
                await server.wait_closed()
        self._servers, self._tasks = [], []


class _Refused(asyncio.Protocol):
    """Ends a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
