"""Checks payloads of MQTT against the schemas that ship with the package."""

from __future__ import annotations

import functools
import json
import re
from importlib.resources import files
from typing import Any

import jsonschema

from tests.support.broker import Message

__all__ = ["check", "checked", "payloads"]

KINDS = ("availability", "flows", "info", "link", "stats", "top", "devices", "events")


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    path = files("netring_bpf.sinks").joinpath("schemas").joinpath(f"{name}.json")
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def check(message: Message) -> str:
    """Raise an error unless the payload is one of its topic; return the name of its schema."""
    level = message.topic.split("/")
    name = next(level[-n] for n in (1, 2) if level[-n] in KINDS)
    if name == "availability":
        _validator(name).validate(message.text)
    elif message.payload:
        _validator(name).validate(json.loads(message.text))
        # No space outside of strings: compact.
        assert " " not in re.sub(r'"(\\.|[^"\\])*"', '""', message.text)
    return name


def checked(messages: list[Message]) -> set[str]:
    """Check all messages of a node; return the names of the schemas that they have."""
    return {check(message) for message in messages if "/device/" not in message.topic}


def payloads(messages: list[Message], topic: str) -> list[dict[str, Any]]:
    """The payloads of a topic, in their order; None of an empty one."""
    return [json.loads(m.text or "null") for m in messages if m.topic == topic]
