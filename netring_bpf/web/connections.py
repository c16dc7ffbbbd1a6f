"""A connection of a client: it has a deadline, and an error of it says little."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web

from netring_bpf.web.guard import HEADERS

__all__ = ["_Connection", "allow", "timed"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FIRST: Final = 10.0  # seconds until a new connection must have sent a request
ANSWER: Final = 60.0  # seconds that a request and its answer may take
IDLE: Final = 20.0  # seconds that a connection may wait between two requests
_MAX_LINE: Final = 4096  # bytes


class _Connection(web.RequestHandler):
    """Talks to one client, and leaves one that is silent or takes nothing.

    Without deadlines those who send no request would hold every connection that there may be.
    """

    def __init__(
        self, server: web.Server, loop: asyncio.AbstractEventLoop, logger: logging.Logger
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            logger=logger,
            keepalive_timeout=IDLE,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, and wait for its first request."""
        super().connection_made(transport)
        self.allow(FIRST)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self.allow(None)
        super().connection_lost(exc)

    def allow(self, seconds: float | None) -> None:
        """End the connection after so many seconds, unless this is called again; None: never."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if seconds is not None and isinstance(transport := self.transport, asyncio.Transport):
            self._end = asyncio.get_running_loop().call_later(seconds, transport.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return an answer that repeats nothing of the request."""
        super().handle_error(request, status, exc, message)  # writes the log
        answer = web.Response(
            status=status, text=f"{status} the server cannot answer this\n", headers=HEADERS
        )
        answer.force_close()
        return answer


def allow(request: web.Request, seconds: float | None) -> None:
    """Set the deadline of the request's connection."""
    if isinstance(request.protocol, _Connection):
        request.protocol.allow(seconds)


@web.middleware
async def timed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request its time."""
    allow(request, ANSWER)
    return await handler(request)


if not TYPE_CHECKING:  # pyright does not read the types of its base class: it stays private
    Connection = _Connection
