"""The topic that says whether a capture is there, and the others who write it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from netring_bpf.sinks.mqtt_connection import PUBLISH_OVERHEAD, Connection, Refusal

__all__ = ["Availability"]

_PERIOD: Final = 1.0  # seconds between two answers to other users of the topic


class Availability:
    """Says ``online`` and ``offline`` on a topic, and listens whether somebody else does.

    ``tell``: logs a warning once, by its subject. ``tell_refused``: logs what the broker refuses.
    """

    def __init__(
        self,
        tell: Callable[[str, str], None],
        tell_refused: Callable[[str, Refusal, str], None],
    ) -> None:
        self.topic = ""
        self._tell, self._tell_refused = tell, tell_refused
        # The texts of ours that will come back, and what others wrote.
        self._echoes: deque[bytes] = deque()
        self._other_online = self._other_offline = False
        self._others = asyncio.Event()
        self._ending = False

    def begin(self) -> None:
        """Start on a new connection: nothing that was said before comes back."""
        self._echoes.clear()
        self._other_online = self._other_offline = False

    async def announce(self, connection: Connection, text: bytes) -> None:
        """Publish the availability, as far as the broker allows it.

        ``offline`` is the last word: nobody is answered after it.
        """
        self._ending |= text == b"offline"
        limits = connection.limits
        if len(self.topic.encode()) + len(text) + PUBLISH_OVERHEAD > limits.packet_size:
            self._tell(
                "availability",
                f"the broker takes packets up to {limits.packet_size} bytes: too small for "
                f"{self.topic}",
            )
            return
        self._echoes.append(text)
        qos = min(1, limits.qos)
        refusal = await connection.publish(self.topic, text, qos=qos, retain=limits.retain)
        if refusal is not None:
            self._tell_refused(self.topic, refusal, "nobody learns the availability")

    def on_message(self, payload: bytes, retained: bool) -> None:
        """Take what somebody, maybe this sink, said on the topic."""
        if retained:
            return  # the past
        if self._echoes and self._echoes[0] == payload:
            self._echoes.popleft()
        else:
            self._other_online |= payload == b"online"
            self._other_offline |= payload != b"online"
            self._others.set()

    async def answer_others(self, connection: Connection) -> None:
        """Say ``online`` again when somebody says otherwise, and warn of a second user.

        ``offline`` may also be the will of our own connection before this one.
        """
        answered = False
        while True:
            await self._others.wait()
            self._others.clear()
            online, offline = self._other_online, self._other_offline
            self._other_online = self._other_offline = False
            if self._ending:
                return
            if online:
                self._tell(
                    "second user",
                    f"another client writes {self.topic} too: two captures share this node; give "
                    "each its own (node, --mqtt-node)",
                )
            # Answer "online" once, so that the other one notices, too; it does the same.
            if offline or (online and not answered):
                answered = True
                await self.announce(connection, b"online")
                await asyncio.sleep(_PERIOD)
