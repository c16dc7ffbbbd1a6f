"""Who gets an answer: the names of the server, origins, tokens, and the headers of each answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from netring_bpf.web import WebServer, connections
from netring_bpf.web.guard import CSP
from netring_bpf.web.token import Token
from tests.support.patience import PATIENCE
from tests.support.web import TOKEN, piped

API = "/api/info"
Asking = Callable[[WebServer, aiohttp.ClientSession], Awaitable[None]]


def ask(folder: Path, asking: Asking, **options: object) -> None:
    """Run a client against a server of its own."""

    async def run() -> None:
        # An IP address has no cookies by default.
        jar = aiohttp.CookieJar(unsafe=True)
        async with (
            piped(folder, **options) as (_, server),
            aiohttp.ClientSession(  # type: ignore[arg-type]
                server.url, cookie_jar=jar
            ) as client,
        ):
            await asking(server, client)

    asyncio.run(run())


async def status(client: aiohttp.ClientSession, path: str, **headers: str) -> int:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.get(path, headers=given) as answer:
        return answer.status


def test_only_names_that_lead_here_are_answered(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        good = [
            f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", "edge.lan",
            "edge.lan:99", "EDGE.lan", "other.lan:7", "[::1]:9000", "[0:0::1]:9000",
        ]  # fmt: skip
        bad = [
            "127.0.0.1", "localhost", f"127.0.0.2:{port}", f"evil.example:{port}", "other.lan",
            f"localhost.evil.example:{port}", f"evil.example@127.0.0.1:{port}", f"[::1]:{port}",
            f"127.0.0.1:{port}/x", f"127.0.0.1:{port + 1}", f"2130706433:{port}", "", "[::1", "a:b",
            f"0x7f000001:{port}", f"edge.lan.:{port}", "[::1]", "[::1]:9001",
        ]  # fmt: skip
        for path in (API, "/", "/static/app.js", "/login"):
            found = {host: await status(client, path, Host=host) for host in bad}
            assert set(found.values()) <= {421, 400}, (path, found)
        assert {host: await status(client, API, Host=host) for host in good} == dict.fromkeys(
            good, 200
        )

    ask(tmp_path, asking, names=["edge.lan", "Other.lan:7", "[::1]:9000"])


def test_every_address_at_which_one_arrives_is_a_name(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for host, told in (
            ("127.0.0.1", 200), ("127.0.0.9", 200), ("127.0.0.9", 421), ("127.0.0.1", 421),
        ):  # fmt: skip
            named = host if told == 200 else "127.0.0.5"
            async with client.get(
                f"http://{host}:{port}{API}", headers={**headers, "Host": f"{named}:{port}"}
            ) as answer:
                assert answer.status == told, (host, named)

    ask(tmp_path, asking, listen="0.0.0.0:0", token=TOKEN)


def test_an_address_of_ipv6_is_named_in_brackets(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        assert server.url == f"http://[::1]:{port}/"
        found = {}
        for host in (f"[::1]:{port}", f"[0:0::1]:{port}", f"localhost:{port}", f"127.0.0.1:{port}"):
            found[host] = await status(client, API, Host=host)
        assert list(found.values()) == [200, 200, 200, 421]

    ask(tmp_path, asking, listen="[::1]:0")


def test_a_host_named_twice_is_refused(tmp_path: Path) -> None:
    async def asking(server: WebServer, _: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        host = f"Host: 127.0.0.1:{port}\r\n"
        writer.write(f"GET {API} HTTP/1.1\r\n{host}{host}\r\n".encode())
        assert (await reader.readline()).split()[1] in {b"400", b"421"}
        writer.close()

    ask(tmp_path, asking)


def test_what_is_no_request_is_refused_without_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def asking(server: WebServer, _: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        host = f"Host: 127.0.0.1:{port}".encode()
        for sent in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + host + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + host + b"\r\nContent-Length: x\r\n\r\n",
            b"GET /\x1b[2J HTTP/1.1\r\n" + host + b"\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\n" + host + b"\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            status = (await reader.readline()).split()[1]
            assert status in {b"400", b"403", b"404", b"405", b"414", b"421", b"431"}, sent
            told = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in told, sent
            assert b"\r\nServer: netring_bpf\r\n" in told, sent
            length = int(told.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            assert re.fullmatch(rb"\d{3} [A-Za-z0-9 ;\-]*\n", await reader.readexactly(length)), (
                sent
            )
            writer.close()

    ask(tmp_path, asking)
    assert caplog.records == []


def test_other_origins_are_refused(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        here = server.url.rstrip("/")
        assert await status(client, API, Origin=here) == 200
        assert await status(client, API, Origin=here.replace("http:", "https:")) == 200
        for origin in ("http://evil.example", "null", "", f"{here}/", here + "0", "file://"):
            assert await status(client, API, Origin=origin) == 403, origin
            async with client.post("/login", headers={"Origin": origin}, json={}) as answer:
                assert answer.status == 403
        for site in ("cross-site", "same-site"):
            assert await status(client, API, Sec_Fetch_Site=site) == 403
            assert await status(client, API, Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == 403
            assert await status(client, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors") == 403
            assert await status(client, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate") == 200
        for site in ("same-origin", "none"):
            assert await status(client, API, Sec_Fetch_Site=site) == 200

    ask(tmp_path, asking)


def test_only_get_is_served(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST"):
            for path in ("/", API, "/static/app.js", "/healthz"):
                async with client.request(method, path) as answer:
                    assert answer.status == 405, (method, path)
        async with client.head(API) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        assert await status(client, "/login") == 405
        assert await status(client, "/api/nothing") == 404
        assert await status(client, "/static/../server.py") == 404
        assert await status(client, "/static/%2e%2e%2fserver.py") == 404
        assert await status(client, "/static/login.html") == 404

    ask(tmp_path, asking)


PATHS = [
    "/", API, "/api/stats", "/api/history", "/api/top", "/api/devices", "/api/flows",
    "/api/openapi.json", "/healthz", "/metrics", "/static/app.js", "/static/style.css",
    "/static/icon.svg", "/nothing",
]  # fmt: skip


@pytest.mark.parametrize("token", [None, TOKEN])
def test_every_answer_has_the_headers_that_protect(token: str | None, tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        for path in PATHS:
            async with client.get(path) as answer:
                kept = answer.headers
                assert kept["Content-Security-Policy"] == CSP, path
                assert kept["X-Content-Type-Options"] == "nosniff"
                assert kept["Referrer-Policy"] == "no-referrer"
                assert kept["Cross-Origin-Resource-Policy"] == "same-origin"
                assert kept["Cache-Control"] == (
                    "no-cache" if path.startswith("/static/") else "no-store"
                )
                assert "Access-Control-Allow-Origin" not in kept
                assert "aiohttp" not in kept["Server"]

    ask(tmp_path, asking, token=token)


def test_static_files_have_their_types_and_are_asked_for_again(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        types = {
            "app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml",
        }  # fmt: skip
        for name, kind in types.items():
            async with client.get(f"/static/{name}") as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                tag = answer.headers["ETag"]
                assert len(await answer.read()) > 100
            async with client.get(f"/static/{name}", headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == tag
            async with client.get(f"/static/{name}", headers={"If-None-Match": '"x"'}) as answer:
                assert answer.status == 200

    ask(tmp_path, asking)


def test_the_pages_have_no_script_and_no_style_of_their_own(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            async with client.get("/", headers=headers) as answer:
                page = await answer.text()
            for part in ("<style", " style=", "javascript:", " onclick", " onload", "//"):
                assert part not in page.replace("<!doctype html>", ""), part
            assert page.count("<script") == page.count('<script src="/static/')

    ask(tmp_path, asking, token=TOKEN)


# -- the token --


def test_without_the_token_there_is_the_door_alone(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        for path in PATHS:
            if path.startswith("/static/"):
                assert await status(client, path) == 200
                continue
            async with client.get(path) as answer:
                assert answer.status == 401, path
                assert "eth" not in (text := await answer.text())
                assert (path == "/") == ('id="login"' in text)
        async with client.get("/api/events") as answer:
            assert answer.status == 401

    ask(tmp_path, asking, token=TOKEN)


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer " + "x" * 2000, 401),
    ],
)
def test_a_header_shows_the_token(shown: str, told: int, tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        assert await status(client, API, Authorization=shown) == told

    ask(tmp_path, asking, token=TOKEN)


def test_the_form_gives_a_session_that_scripts_cannot_read(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        wrong: list[object] = [{"token": "x"}, {"token": 5}, {}, [], "x", None]
        for body in wrong:
            async with client.post("/login", json=body) as answer:
                assert answer.status in {400, 401}
                assert "Set-Cookie" not in answer.headers
        async with client.post("/login", data=b"[" * 4000) as answer:
            assert answer.status == 400
        assert await status(client, API) == 401
        async with client.post("/login", json={"token": TOKEN}) as answer:
            assert answer.status == 204
            cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert await status(client, API) == 200
        assert await status(client, "/") == 200
        value = cookie.partition("=")[2].partition(";")[0]
        assert await status(client, API, Authorization=f"Bearer {value}") == 200  # the cookie's

    ask(tmp_path, asking, token=TOKEN)


def test_a_token_in_the_address_does_not_stay_there(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        async with client.get("/", params={"token": "wrong"}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            assert "Set-Cookie" not in answer.headers
        assert await status(client, "/") == 401
        async with client.get(API, params={"token": TOKEN}) as answer:
            assert answer.status == 401
        async with client.get("/", params={"token": TOKEN}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            assert TOKEN not in str(answer.headers)
        assert await status(client, "/") == 200

    ask(tmp_path, asking, token=TOKEN)


def test_a_session_of_another_process_is_none(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        for cookie in ("x", "", TOKEN, "f" * 64, f"{2**40}-{'f' * 64}", Token(TOKEN).new_session()):
            assert await status(client, API, Cookie=f"netring_session_{port}={cookie}") == 401

    ask(tmp_path, asking, token=TOKEN)


async def login(client: aiohttp.ClientSession, token: str, **headers: str) -> tuple[int, str]:
    """The status of an answer, and its cookie."""
    async with client.post("/login", json={"token": token}, headers=headers) as answer:
        return answer.status, answer.headers.get("Set-Cookie", "")


def test_the_cookie_is_of_the_port_that_the_browser_sees(tmp_path: Path) -> None:
    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        names = {f"127.0.0.1:{port}": port, "edge.lan:9001": 9001, "edge.lan": 80}
        for host, named in names.items():
            _, cookie = await login(client, TOKEN, Host=host)
            name, _, value = cookie.partition(";")[0].partition("=")
            assert name == f"netring_session_{named}"
            shown = {"Host": host, "Cookie": f"netring_session_1=x; {name}={value}"}
            client.cookie_jar.clear()
            assert await status(client, API, **shown) == 200
            assert await status(client, API, **shown | {"Cookie": f"other={value}"}) == 401
        async with client.get(
            "/api/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            schemes = (await answer.json())["components"]["securitySchemes"]
        assert schemes["session"]["name"] == f"netring_session_{port}"

    ask(tmp_path, asking, token=TOKEN, names=["edge.lan"])


def test_a_cookie_that_came_by_tls_goes_by_tls_alone(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        shown = {"Host": "edge.lan", "Origin": "https://edge.lan"}
        assert "; Secure" in (await login(client, TOKEN, **shown))[1]
        assert "; Secure" not in (await login(client, TOKEN, Origin=f"http://{shown['Host']}",
                                              Host=shown["Host"]))[1]  # fmt: skip

    ask(tmp_path, asking, token=TOKEN, names=["edge.lan"])


def test_who_guesses_must_wait_and_a_session_goes_on(tmp_path: Path) -> None:
    async def asking(_: WebServer, client: aiohttp.ClientSession) -> None:
        assert (await login(client, TOKEN))[0] == 204
        guessed = [(await login(client, f"guess{n}"))[0] for n in range(4)]
        async with aiohttp.ClientSession(client._base_url) as other:
            for n in range(3):
                header = {"Authorization": f"Bearer guess{n}"}
                guessed.append(await status(other, API, **header))
                async with other.get("/", params={"token": "x"}, allow_redirects=False) as answer:
                    guessed.append(answer.status)
            assert guessed == [401] * 4 + [401, 303] * 3
            for path, headers in ((API, {"Authorization": f"Bearer {TOKEN}"}), ("/?token=x", {})):
                async with other.get(path, headers=headers) as answer:
                    assert answer.status == 429
                    assert 1 <= int(answer.headers["Retry-After"]) <= 6
            assert (await login(other, TOKEN))[0] == 429
            assert await status(other, "/") == 401
        assert await status(client, API) == 200

    ask(tmp_path, asking, token=TOKEN)


def test_a_token_that_comes_in_pieces_is_taken(tmp_path: Path) -> None:
    async def asking(server: WebServer, _: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        body = f'{{"token":"{TOKEN}"}}'.encode()
        head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: ".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"%d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        # The handler waits for the body from here on.
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body[:10])
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(body[10:])
        assert (await reader.readline()).split()[1] == b"204"
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"5000\r\n\r\n" + b"x" * 5000)
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()

    ask(tmp_path, asking, token=TOKEN)


@pytest.mark.parametrize("sent", [b"", b"GET /api/info HT", b"POST /login HTTP/1.1\r\nHost: a\r\n"])
def test_a_connection_without_a_request_is_ended(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST", 0.1)

    async def asking(server: WebServer, _: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()

    ask(tmp_path, asking)


def test_a_request_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER", 0.1)

    async def asking(server: WebServer, client: aiohttp.ClientSession) -> None:
        port = urlsplit(server.url).port
        async with client.get("/api/events") as viewed:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\n"
            writer.write(head.encode())
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()
            assert viewed.status == 200
            assert server.viewers == 1  # viewers have their own deadline

    ask(tmp_path, asking)
