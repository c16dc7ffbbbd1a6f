"""A client of HTTP/3: ``python -m tests.kernel.app.http3 1:NAME 2:NAME`` asks by these versions."""

from __future__ import annotations

import asyncio
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from aioquic.quic.packet import QuicProtocolVersion

_VERSIONS = {"1": QuicProtocolVersion.VERSION_1, "2": QuicProtocolVersion.VERSION_2}


class _Client(QuicConnectionProtocol):
    async def get(self, name: str) -> bytes:
        self._http = H3Connection(self._quic)
        self._body, self._is_done = b"", asyncio.Event()
        stream = self._quic.get_next_available_stream_id()
        wanted = {":method": "GET", ":scheme": "https", ":authority": name, ":path": "/"}
        headers = [(key.encode(), value.encode()) for key, value in wanted.items()]
        self._http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        await self._is_done.wait()
        return self._body

    def quic_event_received(self, event: QuicEvent) -> None:
        if not hasattr(self, "_http"):
            return
        for heard in self._http.handle_event(event):
            if isinstance(heard, DataReceived):
                self._body += heard.data
                if heard.stream_ended:
                    self._is_done.set()


async def _ask(version: str, name: str) -> None:
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        server_name=name,
        verify_mode=ssl.CERT_NONE,
        original_version=_VERSIONS[version],
        supported_versions=[_VERSIONS[version]],
    )
    async with connect(name, 443, configuration=configuration, create_protocol=_Client) as client:
        assert isinstance(client, _Client)
        print((await client.get(name)).decode())


async def _run() -> None:
    for wanted in sys.argv[1:]:
        await _ask(*wanted.split(":"))


if __name__ == "__main__":
    asyncio.run(_run())
