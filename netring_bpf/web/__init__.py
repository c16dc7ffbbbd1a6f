"""A page for people, and the same as JSON: a capture over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.web.listen import DEFAULT_LISTEN
    from netring_bpf.web.server import WebServer, serve
    from netring_bpf.web.token import TOKEN_VARIABLE, read_token

__all__ = ["DEFAULT_LISTEN", "TOKEN_VARIABLE", "WebServer", "read_token", "serve"]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "DEFAULT_LISTEN": "netring_bpf.web.listen",
            "TOKEN_VARIABLE": "netring_bpf.web.token",
            "WebServer": "netring_bpf.web.server",
            "read_token": "netring_bpf.web.token",
            "serve": "netring_bpf.web.server",
        },
    )
