"""The site: built without a warning, no dead link in it, and nothing of it comes from elsewhere."""

from __future__ import annotations

import asyncio
import functools
import http.server
import posixpath
import re
import subprocess
import threading
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.browser import Browser
from tests.support.paths import ROOT
from tests.support.reference import fields, members, public, shown, value_at

pytestmark = pytest.mark.long

# Elements and their attributes that a browser loads as it shows a page.
LOADS = {
    ("audio", "src"), ("embed", "src"), ("iframe", "src"), ("img", "src"), ("img", "srcset"),
    ("input", "src"), ("link", "href"), ("object", "data"), ("script", "src"), ("source", "src"),
    ("source", "srcset"), ("track", "src"), ("use", "href"), ("video", "poster"), ("video", "src"),
}  # fmt: skip


class Page(HTMLParser):
    """The links of a page, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        for name, value in given.items():
            is_link = tag == "link" and given.get("rel") in {"canonical", "next", "prev", "edit"}
            if (tag, name) in LOADS and not is_link:
                self.loads.append(value)
            elif name == "style":
                self.loads += urls_of(value)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def urls_of(style: str) -> list[str]:
    """Return the addresses that a style sheet loads."""
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style)
    return [address or imported for address, imported in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [ROOT / "scripts" / "docs", "--site-dir", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("setup: ")]
    assert (done.returncode, said) == (0, []), done.stdout
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {
        path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.rglob("*.html")
    }
    assert len(found) > 40
    return found


def test_no_link_is_dead(site: Path, pages: dict[str, Page]) -> None:
    dead, seen = [], 0
    for name, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            path = name if not parts.path else path
            if name == "404.html":
                path = path.removeprefix("/")
            target = path if (site / path).is_file() else posixpath.join(path, "index.html")
            seen += 1
            if not (site / target).is_file():
                dead.append((name, link))
            elif parts.fragment and target in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].anchors and not anchor.startswith("__"):
                    dead.append((name, link))
    assert seen > 1000
    assert dead == []


def test_nothing_of_a_page_comes_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    foreign = [
        (name, address)
        for name, page in pages.items()
        for address in page.loads
        if urlsplit(address).netloc or urlsplit(address).scheme not in {"", "data"}
    ]
    for path in site.rglob("*.css"):
        for address in urls_of(path.read_text()):
            if urlsplit(address).netloc:
                foreign.append((path.name, address))
    assert foreign == []
    assert {page.policy.partition(";")[0] for name, page in pages.items()} == {
        "default-src 'self' data: blob:"
    }


def test_an_address_that_is_loaded_from_elsewhere_is_found() -> None:
    page = Page(
        '<link rel="stylesheet" href="https://cdn.example/a.css"><script src="//b/c.js"></script>'
        '<p style="background: url(https://d/e.png)"><a href="https://f/">f</a>'
    )
    assert page.loads == ["https://cdn.example/a.css", "//b/c.js", "https://d/e.png"]
    assert page.links == ["https://f/"]
    assert urls_of("@import 'https://a/b.css'; p { src: url(c.woff) }") == [
        "https://a/b.css", "c.woff",
    ]  # fmt: skip


def test_the_reference_of_the_site_has_every_public_name_and_every_part_of_it(site: Path) -> None:
    had = set(inventory(site / "objects.inv"))
    at = {id(value_at(path)): path for path in shown()}
    missing = []
    for path, value in public().items():
        place = at[id(value)]
        parts = {name for name, _ in members(value)} if isinstance(value, type) else set()
        if isinstance(value, type) and not issubclass(value, Exception):
            parts |= set(fields(value))  # those of an error are in its signature
        wanted = [place, *(f"{place}.{part}" for part in sorted(parts))]
        missing += [f"{path}: {name}" for name in wanted if name not in had]
    assert missing == []


def inventory(path: Path) -> Iterator[str]:
    """Yield the names in an inventory of Sphinx, which mkdocstrings writes too."""
    head, body = path.read_bytes().split(b"zlib.\n", 1)
    assert head.startswith(b"# Sphinx inventory version 2")
    for line in zlib.decompress(body).decode().splitlines():
        yield line.split(" ", 1)[0]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.requires("browser")
def test_a_browser_asks_nobody_else_and_finds_what_is_searched(address: str) -> None:
    async def look() -> tuple[list[str], list[str]]:
        async with Browser() as browser:
            page = await browser.open()
            for path in ("index.html", "explanation/how-it-works.html", "reference/captures.html"):
                await page.go(f"{address}/{path}")
                assert await page.evaluate(
                    "document.querySelector('article').innerText.length > 500"
                )
                whole = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
                await page.until(whole)
            await page.evaluate(
                """(() => {
                    document.querySelector("[data-md-toggle=search]").click();
                    const box = document.querySelector("[data-md-component=search-query]");
                    box.focus();
                    box.value = "FlowOptions";
                    box.dispatchEvent(new Event("keyup", {bubbles: true}));
                    box.dispatchEvent(new Event("input", {bubbles: true}));
                })()"""
            )
            await page.until("document.querySelectorAll('.md-search-result__item a').length > 0")
            return page.requests, page.complaints

    requests, complaints = asyncio.run(look())
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert complaints == []
