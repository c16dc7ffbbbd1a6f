"""Texts and levels in the topics of MQTT."""

from __future__ import annotations

import unicodedata
from typing import Final
from urllib.parse import quote

from netring_bpf.errors import SinkError

__all__ = ["LONGEST_TOPIC", "is_mqtt_text", "topic_level"]

LONGEST_TOPIC: Final = 65_535  # bytes


def topic_level(text: str) -> str:
    """Return ``text`` as one level of an MQTT topic, percent-encoded.

    Letters, digits and ``-._~`` stand for themselves; ``urllib.parse.unquote`` undoes it.
    Raises ``SinkError`` for the empty string, which cannot be a level.
    """
    if not text:
        raise SinkError("topic level: the name is empty; give one of at least a character")
    return quote(text, safe="", errors="surrogateescape")


def is_mqtt_text(text: str) -> bool:
    """Whether the text is a string of MQTT that every broker takes (MQTT 5, 1.5.4).

    It has no NUL, no control characters, no surrogates and no characters that Unicode leaves out
    for ever, and at most 65,535 bytes.
    """
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return False
    if any(_is_no_character(ord(character)) for character in text):
        return False
    return len(text.encode()) <= LONGEST_TOPIC


def _is_no_character(point: int) -> bool:
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
