"""Sends what is on the board over one connection, within the broker's limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netring_bpf.sinks.mqtt_connection import (
    PACKET_TOO_LARGE,
    PUBLISH_OVERHEAD,
    Connection,
    ConnectionFailed,
    Refusal,
)
from netring_bpf.sinks.mqtt_state import Message, StateBoard, fitting
from netring_bpf.sinks.topic import LONGEST_TOPIC

__all__ = ["StateSender"]


class StateSender:
    """Takes the messages of a board one by one, each when its time has come.

    ``tell``: logs a warning once, by its subject. ``tell_refused``: logs what the broker refuses,
    once by the kind of the topic, as there may be any number of devices.
    """

    def __init__(
        self,
        board: StateBoard,
        tell: Callable[[str, str], None],
        tell_refused: Callable[[str, Refusal, str, str], None],
    ) -> None:
        self._board = board
        self._tell, self._tell_refused = tell, tell_refused
        self._changed = asyncio.Event()
        board.on_change = self._changed.set

    async def send_all(self, connection: Connection) -> None:
        """Send until the board is closed and empty. Raises ``ConnectionFailed``."""
        try:
            while not self._board.finished:
                self._changed.clear()
                message = self._board.take(_now())
                if message is None:
                    await self._wait()
                else:
                    await self._send(connection, message)
                    await asyncio.sleep(0)  # at QoS 0 no call above has to wait
        finally:
            self._board.give_back()

    async def _wait(self) -> None:
        due = self._board.next_due()
        patience = None if due is None else max(0.0, due - _now())
        try:
            async with asyncio.timeout(patience):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _send(self, connection: Connection, message: Message) -> None:
        topic = message.topic
        limits = connection.limits
        size = len(topic.encode())
        room = min(message.largest, limits.packet_size - PUBLISH_OVERHEAD - size)
        if message.room is not None:
            room = min(room, message.room)
        payload = None
        if size <= LONGEST_TOPIC and room >= 0:
            payload = fitting(message.render, room)
        if payload is None:
            self._board.dropped(message, "too_large", _now())
            self._tell(
                f"too_large {message.kind}",
                f"the broker takes packets up to {limits.packet_size} bytes: too small for {topic}",
            )
            return
        if message.is_end and not limits.retain:
            self._board.published(message, _now())  # there is nothing to clear
            return
        try:
            refusal = await connection.publish(
                topic,
                payload,
                qos=min(message.qos, limits.qos),
                retain=message.retain and limits.retain,
            )
        except ConnectionFailed as failure:
            if connection.broken_over == topic and failure.closed:
                self._suspect(message, len(payload))
            raise
        if refusal is None:
            self._board.published(message, _now())
        elif refusal.code == PACKET_TOO_LARGE:
            message.room = len(payload) // 2
            self._board.give_back()
        else:
            self._board.dropped(message, "refused", _now())
            self._tell_refused(topic, refusal, f"{message.kind} is not told", message.kind)

    def _suspect(self, message: Message, size: int) -> None:
        if self._board.suspect(message, size, _now()):
            self._tell(
                f"hopeless {message.kind}",
                f"the broker closes the connection at a message of {size} bytes on "
                f"{message.topic}: it is dropped and counted as refused; let this client publish "
                "there",
            )


def _now() -> float:
    return asyncio.get_running_loop().time()
