"""The guard of the server: who may ask, from where, and what a browser may do with the answer."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from netring_bpf.web.token import MAX_TOKEN, SESSION_ENDS, Token
from netring_bpf.web.tries import Tries

__all__ = ["COOKIE", "CSP", "HEADERS", "Guard", "cookie_name", "is_name"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE: Final = "netring_session"  # and the port
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
#: The headers of every answer.
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "netring_bpf",
}


class Guard:
    """Checks each request before a handler sees it.

    ``names``: host names under which the server may be asked for, besides its addresses; each is
    ``NAME`` (any port) or ``NAME:PORT``, an IPv6 address in brackets. ``open_paths``
    and what is in ``open_folder`` need no token.
    """

    def __init__(
        self,
        token: Token | None,
        names: Iterable[str],
        open_paths: Iterable[str],
        open_folder: str,
    ) -> None:
        self._token = token
        self._names = frozenset(map(_split, names))
        self._tries = Tries()
        self._open = frozenset(open_paths)
        self._open_folder = open_folder

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what is refused, and hand on the rest."""
        try:
            return self._refusal(request) or await handler(request)
        except web.HTTPException as error:  # of the router: 404 and 405
            return _text(error.status, f"{error.status} {error.reason}\n", dict(error.headers))

    async def on_prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every answer has."""
        response.headers.update(HEADERS)
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
        try:
            cookie = request.cookies.get(cookie_name(request), "")
        except ValueError:
            cookie = ""
        if self._token.is_session(cookie):
            return True
        kind, _, shown = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._is_token(request, self._token, shown.strip())

    def admit(self, request: web.Request, response: web.Response, shown: str) -> bool:
        """Give the response the cookie of a session, if ``shown`` is the token."""
        if self._token is None or not self._is_token(request, self._token, shown):
            return False
        response.set_cookie(
            cookie_name(request), self._token.new_session(), httponly=True, samesite="Strict",
            path="/", max_age=SESSION_ENDS, secure=_is_by_https(request),
        )  # fmt: skip
        return True

    def _is_token(self, request: web.Request, token: Token, shown: str) -> bool:
        """Compare; refuses those who have shown too many wrong ones."""
        if wait := self._tries.wait(request.remote):
            raise web.HTTPTooManyRequests(headers={"Retry-After": str(math.ceil(wait))})
        if token.is_token(shown[: MAX_TOKEN + 1]):
            return True
        self._tries.wrong(request.remote)
        return False

    # -- the name of the server --

    def _is_ours(self, host: str, transport: object) -> bool:
        """Whether a browser that names this host means us, and no name that leads here by guile.

        An address is ours if the connection came to it.
        """
        named = _split(host)
        if named is None:
            return False
        name, port = named
        if (name, None) in self._names or named in self._names:
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


def _split(host: str) -> tuple[str, int | None] | None:
    """Return the name and the port of a header Host, or None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    if not name or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    address = _address(name)
    return (name if address is None else str(address)), port


def is_name(text: object) -> bool:
    """Whether a server may go by this name."""
    if not isinstance(text, str) or not 0 < len(text) < 254:
        return False
    return text.isascii() and text.isprintable() and " " not in text and _split(text) is not None


def cookie_name(request: web.Request) -> str:
    """Return the name of the session's cookie: cookies are of a host, whatever its port is."""
    named = _split(request.headers.get("Host", ""))
    port = None if named is None else named[1]
    return f"{COOKIE}_{80 if port is None else port}"


def _is_by_https(request: web.Request) -> bool:
    """Whether the browser says that it speaks TLS, to a proxy."""
    return request.headers.get("Origin", "").lower().startswith("https:")


def _is_same(origin: str, host: str) -> bool:
    """Whether the origin is the server, by http or through a proxy by https."""
    return origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


_KEPT: Final = {"Allow", "Retry-After", "WWW-Authenticate"}


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    kept = {k: v for k, v in (headers or {}).items() if k in _KEPT}
    return web.Response(status=status, text=text, headers=kept)
