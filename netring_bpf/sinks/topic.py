"""Names as levels of an MQTT topic."""

from __future__ import annotations

from urllib.parse import quote

from netring_bpf.errors import SinkError

__all__ = ["topic_level"]


def topic_level(text: str) -> str:
    """Return ``text`` as one level of an MQTT topic, percent-encoded.

    Letters, digits and ``-._~`` stand for themselves; ``urllib.parse.unquote`` undoes it.
    Raises ``SinkError`` for the empty string, which cannot be a level.
    """
    if not text:
        raise SinkError("topic level: the name is empty; give one of at least a character")
    return quote(text, safe="", errors="surrogateescape")
