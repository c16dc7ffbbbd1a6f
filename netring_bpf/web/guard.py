"""The guard of the server: who may ask, from where, and what a browser may do with the answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from netring_bpf.web.token import MAX_TOKEN, Token

__all__ = ["COOKIE", "CSP", "Guard"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE: Final = "netring_session"
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "netring_bpf",
}
_SESSION_ENDS: Final = 30 * 24 * 3600  # seconds


class Guard:
    """Checks each request before a handler sees it.

    ``names``: host names under which the server may be asked for, besides its addresses; each is
    ``NAME`` (any port) or ``NAME:PORT``. ``open_paths`` and what is in ``open_folder`` need no
    token.
    """

    def __init__(
        self,
        token: Token | None,
        names: Iterable[str],
        open_paths: Iterable[str],
        open_folder: str,
    ) -> None:
        self._token = token
        self._names = frozenset(name.lower() for name in names)
        self._open = frozenset(open_paths)
        self._open_folder = open_folder

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what is refused, and hand on the rest."""
        if refusal := self._refusal(request):
            return refusal
        try:
            return await handler(request)
        except web.HTTPException as error:  # of the router: 404 and 405
            return _text(error.status, f"{error.status} {error.reason}\n", dict(error.headers))

    async def on_prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every answer has."""
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")

    def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        if request.method not in {"GET", "HEAD", "POST"}:
            return _text(405, "405 only GET is served here\n", {"Allow": "GET, HEAD"})
        if not request.raw_path.startswith("/"):  # another server's, as proxies are asked
            return _text(400, "400 this is no proxy\n")
        host = request.headers.getall("Host", [])
        if len(host) != 1 or not self._is_ours(host[0], request.transport):
            return _text(
                421,
                "421 this server does not go by that name; --name allows one more\n",
            )
        origin = request.headers.get("Origin")
        if origin is not None and not _is_same(origin, host[0]):
            return _text(403, "403 this comes from another site\n")
        fetched = request.headers.get("Sec-Fetch-Site", "none")
        is_visit = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path == "/"
        if fetched not in {"none", "same-origin"} and not is_visit:
            return _text(403, "403 this comes from another site\n")
        if self._needs_token(request) and not self.is_known(request):
            return _text(401, "401 a token is needed\n", {"WWW-Authenticate": "Bearer"})
        return None

    def _needs_token(self, request: web.Request) -> bool:
        return request.path not in self._open and not request.path.startswith(self._open_folder)

    # -- who asks --

    def is_known(self, request: web.Request) -> bool:
        """Whether no token is needed, or the request shows it or a session."""
        if self._token is None:
            return True
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._token.is_token(shown.strip()[: MAX_TOKEN + 1]):
            return True
        try:
            cookie = request.cookies.get(COOKIE, "")
        except ValueError:
            return False
        return self._token.is_session(cookie)

    def admit(self, response: web.Response, shown: str) -> bool:
        """Give the response the cookie of a session, if ``shown`` is the token."""
        if self._token is None or not self._token.is_token(shown[: MAX_TOKEN + 1]):
            return False
        response.set_cookie(
            COOKIE, self._token.session, httponly=True, samesite="Strict", path="/",
            max_age=_SESSION_ENDS,
        )  # fmt: skip
        return True

    # -- the name of the server --

    def _is_ours(self, host: str, transport: object) -> bool:
        """Whether a browser that names this host means us, and no name that leads here by guile.

        An address is ours if the connection came to it.
        """
        try:
            parts = urlsplit(f"//{host}")
            name, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if not name or parts.username is not None or parts.path or parts.query or parts.fragment:
            return False
        if name in self._names or f"{name}:{port}" in self._names:
            return True
        get = getattr(transport, "get_extra_info", None)
        place = get("sockname") if get is not None else None
        if place is None or (80 if port is None else port) != place[1]:
            return False
        here = _address(place[0])
        if name == "localhost":
            return here is not None and here.is_loopback
        return here is not None and _address(name) == here


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        made = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(made, "ipv4_mapped", None) or made


def _is_same(origin: str, host: str) -> bool:
    """Whether the origin is the server, by http or through a proxy by https."""
    return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    kept = {k: v for k, v in (headers or {}).items() if k in {"Allow", "WWW-Authenticate"}}
    return web.Response(status=status, text=text, headers=kept)
