"""The paths of the server, and what each answers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

from aiohttp import web

from netring_bpf.errors import PackageMissingError
from netring_bpf.sinks.metrics import CONTENT_TYPE, exposition, metrics_of
from netring_bpf.web.guard import Guard
from netring_bpf.web.openapi import document
from netring_bpf.web.state import MAX_FLOWS, MAX_ROWS, State
from netring_bpf.web.static_files import StaticFile, load_static
from netring_bpf.web.viewers import Viewer, Viewers, message

if TYPE_CHECKING:
    from netring_bpf.netring import Netring

__all__ = ["MAX_BODY", "OPEN_FOLDER", "OPEN_PATHS", "Api"]

#: The paths that need no token: the door, and what the door is made of.
OPEN_PATHS: Final = ("/", "/login")
OPEN_FOLDER: Final = "/static/"
VERSION: Final = 1  # of the payloads
MAX_BODY: Final = 4096  # bytes of a request
_MAX_SEARCH: Final = 200  # characters
_BEAT: Final = 15.0  # seconds without a message until a comment goes out
_STUCK: Final = 60.0  # seconds that a viewer may take for one message


class Api:
    """Answers requests from ``State``; nothing here waits for the capture."""

    def __init__(self, ring: Netring, state: State, viewers: Viewers, guard: Guard) -> None:
        self._ring = ring
        self._state = state
        self._viewers = viewers
        self._guard = guard
        self._files = load_static()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/", self._page),
            web.post("/login", self._login),
            web.get("/static/{name}", self._static),
            web.get("/healthz", self._healthz),
            web.get("/metrics", self._metrics),
            web.get("/api/info", self._info),
            web.get("/api/stats", self._stats),
            web.get("/api/history", self._history),
            web.get("/api/top", self._top),
            web.get("/api/devices", self._devices),
            web.get("/api/flows", self._flows),
            web.get("/api/events", self._events, allow_head=False),
            web.get("/api/openapi.json", self._openapi),
        ]

    # -- the page --

    async def _page(self, request: web.Request) -> web.StreamResponse:
        if (shown := request.query.get("token")) is not None:
            answer = web.Response(status=303, headers={"Location": "/"})
            self._guard.admit(answer, shown)  # a wrong one leads to the form
            return answer
        known = self._guard.is_known(request)
        return self._file(
            request, self._files["index.html" if known else "login.html"], 200 if known else 401
        )

    async def _login(self, request: web.Request) -> web.StreamResponse:
        try:
            given = json.loads(await request.content.read(MAX_BODY))
            shown = given["token"]
        except (ValueError, TypeError, KeyError, RecursionError):
            shown = None
        if not isinstance(shown, str):
            return _json({"error": 'the body must be {"token": "…"}'}, 400)
        answer = web.Response(status=204)
        if not self._guard.admit(answer, shown):
            return _json({"error": "this is not the token"}, 401)
        return answer

    async def _static(self, request: web.Request) -> web.StreamResponse:
        file = self._files.get(request.match_info["name"])
        if file is None or file.type == "text/html":
            raise web.HTTPNotFound
        return self._file(request, file)

    @staticmethod
    def _file(request: web.Request, file: StaticFile, status: int = 200) -> web.Response:
        answer = web.Response(
            body=file.content, content_type=file.type, charset="utf-8", status=status
        )
        if file.type == "text/html":
            return answer
        answer.etag = file.etag
        answer.headers["Cache-Control"] = "no-cache"  # a browser asks whether it has changed
        asked = request.if_none_match or ()
        if any(tag.value in {file.etag, "*"} for tag in asked):
            unchanged = web.Response(status=304)
            unchanged.etag = file.etag
            unchanged.headers["Cache-Control"] = "no-cache"
            return unchanged
        return answer

    # -- values --

    async def _info(self, _: web.Request) -> web.Response:
        return _json({"info": self._state.info()})

    async def _stats(self, _: web.Request) -> web.Response:
        return _json({"stats": self._state.stats()})

    async def _history(self, _: web.Request) -> web.Response:
        return _json(self._state.history())

    async def _top(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", 10, MAX_ROWS)
        return _json(self._state.top(limit))

    async def _devices(self, request: web.Request) -> web.Response:
        limit = _number(request, "limit", 200, 4096)
        return _json(
            {
                "watched": self._state.watches_devices,
                "known": self._state.known,
                "devices": self._state.devices(limit),
            }
        )

    async def _flows(self, request: web.Request) -> web.Response:
        search = request.query.get("search", "")
        if len(search) > _MAX_SEARCH:
            return _json({"error": f"search: at most {_MAX_SEARCH} characters"}, 400)
        return _json(self._state.flows(search, _number(request, "limit", 100, MAX_FLOWS)))

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(document())

    async def _healthz(self, _: web.Request) -> web.Response:
        latest = self._state.latest
        balanced = latest is None or latest.health.balanced
        is_well = self._state.is_running and balanced
        return _json(
            {"healthy": is_well, "balanced": balanced, **self._state.state()},
            200 if is_well else 503,
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        told = metrics_of(
            self._ring.statistics(), self._ring.interface, self._state.capture, self._state.latest
        )
        try:
            body = exposition(told)
        except PackageMissingError:
            return web.Response(
                status=501,
                text='501 metrics need prometheus_client: pip install "netring-bpf[metrics]"\n',
            )
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    # -- events --

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._viewers.is_full:
            return web.Response(
                status=503, text="503 too many viewers\n", headers={"Retry-After": "30"}
            )
        viewer = self._viewers.join()
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        try:
            await response.prepare(request)
            await self._stream(response, viewer)
        except ConnectionError:
            pass  # it has left
        except TimeoutError:  # it takes nothing
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._viewers.leave(viewer)
        return response

    async def _stream(self, response: web.StreamResponse, viewer: Viewer) -> None:
        """Send what there is, and then each message, to the end."""
        self._state.tell()
        viewer.clear()  # the snapshot has it
        first = message("snapshot", {"version": VERSION, **self._state.snapshot()})
        sent: bytes | None = b"retry: 2000\n\n" + first
        while sent is not None:
            async with asyncio.timeout(_STUCK):
                await response.write(sent)
            sent = await self._next(viewer)

    @staticmethod
    async def _next(viewer: Viewer) -> bytes | None:
        try:
            async with asyncio.timeout(_BEAT):
                return await viewer.next()
        except TimeoutError:
            return b": still here\n\n"


def _json(value: dict[str, object], status: int = 200) -> web.Response:
    body = json.dumps({"version": VERSION, **value}, ensure_ascii=False, separators=(",", ":"))
    return web.Response(
        body=body.encode(errors="backslashreplace"), content_type="application/json", status=status
    )


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    """Return a parameter, within its bounds."""
    text = request.query.get(name, "")
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return max(1, min(int(text), most)) if is_number else default
