"""The files of the page, read once, with a tag for each."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

__all__ = ["StaticFile", "load_static"]

_TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


class StaticFile(NamedTuple):
    """A file as it is served."""

    content: bytes
    type: str
    etag: str


def load_static() -> dict[str, StaticFile]:
    """Return the files of the page by their names."""
    found = {}
    for entry in files("netring_bpf.web").joinpath("static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            found[entry.name] = StaticFile(content, kind, hashlib.sha256(content).hexdigest()[:32])
    return found
