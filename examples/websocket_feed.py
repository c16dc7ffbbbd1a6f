"""Feed the flows of an interface, as they end, to WebSockets: websocket_feed.py eth1 [PORT].

Connect to ws://127.0.0.1:8080/flows. Each message is a flow as JSON, or "lagged": how many a client
that was too slow has missed. Pages of other sites may not connect. It needs aiohttp:
pip install "netring-bpf[web]".
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from aiohttp import web

import netring_bpf as nr

RING = web.AppKey("RING", nr.Netring)


async def feed(request: web.Request) -> web.WebSocketResponse:
    """Send one client each flow, until it leaves or the capture ends."""
    site = f"http://{request.host}"
    if request.headers.get("Origin", site) != site:
        raise web.HTTPForbidden(text="not from the page of another site")
    socket = web.WebSocketResponse(heartbeat=20)
    async with request.app[RING].subscribe(kinds=nr.FlowEnded) as events:
        await socket.prepare(request)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leave(socket, events))
            with contextlib.suppress(ConnectionError):
                async for event in events:
                    await socket.send_str(event.to_json())
            await socket.close()
    return socket


async def leave(socket: web.WebSocketResponse, events: nr.FlowSubscriber) -> None:
    """Wait until the client leaves, then end its events."""
    async for _ in socket:
        pass
    events.close()


async def capture(app: web.Application) -> AsyncIterator[None]:
    """Capture while the server runs."""
    async with nr.Netring(sys.argv[1]) as app[RING]:
        yield


async def end_feeds(app: web.Application) -> None:
    await app[RING].close()


if __name__ == "__main__":
    server = web.Application()
    server.router.add_get("/flows", feed)
    server.cleanup_ctx.append(capture)
    server.on_shutdown.append(end_feeds)
    web.run_app(server, host="127.0.0.1", port=int((sys.argv[2:] or ["8080"])[0]))
