"""Writes a file with every key that there is, its default, and words about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from netring_bpf.config.schema import REQUIRED, Choice, Field, Many, Maybe, Table, table_of
from netring_bpf.config.tables import (
    CaptureConfig,
    MetricsConfig,
    MqttConfig,
    RecorderConfig,
    RunConfig,
)

__all__ = ["default_text"]

_WIDTH: Final = 96
_HEAD: Final = """\
# The configuration of `netring-bpf run -c FILE`. `netring-bpf config --check FILE` checks it.
#
# A line that begins with "# " is a comment. A line that begins with "#" and a key is a setting with
# its default: remove the "#" and change the value. "none" stands for no value, as does an empty
# text. SIGHUP makes the process read the file again.
#
# A path may begin with $CREDENTIALS_DIRECTORY, $STATE_DIRECTORY and the like, which systemd sets.
# Secrets never stand in this file: credentials_file names a file that only its owner can read.
"""
_EXAMPLES: Final = {
    "interface": "eth1",
    "path": "/var/log/netring-bpf/eth1.pcapng",
    "url": "mqtts://broker.example",
    "address": "127.0.0.1:9560",
}


def default_text() -> str:
    """Return the file. It is one capture with all defaults; all else is commented out."""
    blocks = [
        _HEAD,
        *_blocks(table_of(RunConfig, RunConfig()), "run"),
        *_blocks(table_of(CaptureConfig), "captures.lan", is_there=True),
        *_blocks(table_of(MqttConfig), "mqtt.hub"),
        *_blocks(table_of(MetricsConfig), "metrics.prometheus"),
        *_blocks(table_of(RecorderConfig), "recorders.all"),
    ]
    return "\n".join(blocks)


def _blocks(table: Table, name: str, *, is_there: bool = False) -> Iterator[str]:
    """Yield the text of a table, then those of the tables below it."""
    mark = "" if is_there else "#"
    lines = [*_comment(table.words), f"{mark}[{name}]"]
    for words, fields in groupby(table.fields.values(), key=_words):
        lines += _comment(words)
        for field in fields:
            lines += _setting(field, is_there=is_there)
    yield "\n".join(lines) + "\n"
    for inner, below in table.tables.items():
        yield from _blocks(below, f"{name}.{inner}")


def _words(field: Field) -> str:
    """Return the words of a field, and the values that it can have."""
    kind = field.kind
    while isinstance(kind, Maybe | Many):
        kind = kind.kind
    known = f" [{', '.join(kind.values)}]" if isinstance(kind, Choice) else ""
    return field.words + known


def _comment(words: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words, _WIDTH)]


def _setting(field: Field, *, is_there: bool) -> list[str]:
    value: Any = field.default
    is_required = value is REQUIRED
    if is_required:
        value = _EXAMPLES[field.name]
    mark = "" if is_required and is_there else "#"
    text = f"{field.name} = {field.kind.write(value)}"
    return [f"{mark}{line}" for line in text.split("\n")]
