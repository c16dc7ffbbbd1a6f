"""The page in a real browser, of a real capture."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator

import aiohttp
import pytest

from netring_bpf import App, FlowEnded, StatsUpdated
from netring_bpf.errors import InterfaceGoneError
from netring_bpf.events.event import CaptureError
from netring_bpf.web import serve
from tests.kernel.web.conftest import Watched, watched
from tests.support.browser import Page
from tests.support.events import ended
from tests.support.household import DEVICES, client_hello, dhcp, download, lookup
from tests.support.lab import Namespace
from tests.support.patience import until
from tests.support.rig import assert_balanced
from tests.support.sizes import size, soak
from tests.support.web import TOKEN

pytestmark = pytest.mark.requires("root", "netns", "browser")

# Seconds of events for the page: an hour with NETRING_SOAK, which CI does not set.
EVENT_SECONDS = soak(1200, 1200, 3600)

TELEVISION = DEVICES[0][1:]
SERVER = "198.51.100.7"


def video(port: int, name: bytes = b"cdn.video.example", amount: int = 50_000) -> Iterator[bytes]:
    return download(TELEVISION, SERVER, port, client_hello(name), amount)


def assert_quiet(page: Page, server_url: str) -> None:
    """Nothing went wrong in the page, and it asked nobody else for anything."""
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith((server_url, "data:"))] == []


async def text(page: Page, selector: str) -> str:
    found: str = await page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
    return found


def test_traffic_shows_within_two_seconds(namespace: Namespace) -> None:
    took: list[float] = []
    quiet = "document.getElementById('rate-total').dataset.shown === '0\\u202fbit/s'"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            # A machine that does other things may be late once.
            while not took or (min(took) >= 2 and len(took) < 10):
                await page.until(quiet)
                began = time.monotonic()
                await asyncio.to_thread(at.send, video(40_000 + len(took)))
                await page.until(f"!({quiet})")
                took.append(time.monotonic() - began)
            await page.until(
                "document.getElementById('top-names').textContent.includes('cdn.video.example')"
            )
            await page.until("document.querySelectorAll('#flows-body tr').length > 0")
            row = await text(page, "#flows-body tr")
            for part in ("tls", "cdn.video.example", f"{SERVER}:443", "192.168.7.38:", "SF"):
                assert part in row
            await page.until("document.querySelectorAll('#devices-body tr').length > 0")
            assert "8c:71:f8:00:00:21" in await text(page, "#devices-body")
            assert await text(page, "#vital-books dd") == "even"
            assert_quiet(page, at.server.url)
            await page.close()
        assert_balanced(at.ring.statistics())

    asyncio.run(run())
    assert min(took) < 2


HOSTILE = (
    "<img src=x onerror=hacked=1>",
    "<script>hacked=2</script>",
    '"><svg onload=hacked=3>',
    "javascript:hacked=4",
    "{{hacked=5}}${hacked=6}",
    "\u202e\u2066moc.elpmaxe\u2069",
    "\x1b]0;hacked\x07\x1b[2J",
    "</td></tr></table><h1>hacked</h1>",
    "&lt;b&gt;&#60;i&#62;",
    "__proto__",
)


def test_names_in_traffic_are_text_and_nothing_else(namespace: Namespace) -> None:
    async def run() -> None:
        async with watched(namespace) as at:
            pages = [await at.page(), await at.page(360)]
            frames: list[bytes] = []
            for n, name in enumerate(HOSTILE):
                raw = name.encode()
                frames += dhcp(DEVICES[n % len(DEVICES)][1:], raw)
                frames += video(42_000 + n, raw, 3000)
                request = b"GET /" + raw + b" HTTP/1.1\r\nHost: " + raw + b"\r\n\r\n"
                frames += download(TELEVISION, SERVER, 43_000 + n, request, 99, server_port=80)
                frames += lookup(TELEVISION, raw.replace(b".", b""), SERVER, 44_000 + n)
            await asyncio.to_thread(at.send, frames)
            # The core takes no name that is so long; the page would bear one.
            for n, name in enumerate((*HOSTILE, "")):
                event = ended(n + 1_000_000)
                app = App(protocol="tls", name=name + "x" * 10_240)
                at.ring.broadcast.publish([event._replace(flow=event.flow._replace(app=app))])
            for page in pages:
                await page.until("document.body.textContent.includes('x'.repeat(200))")
                await page.until(
                    "document.body.textContent.includes('<img src=x onerror=hacked=1>')"
                )
                await page.until("document.querySelectorAll('#flows-body tr').length > 30")
                await page.until("document.querySelectorAll('#devices-body tr').length > 4")
                assert await page.evaluate("typeof hacked") == "undefined"
                assert await page.evaluate(FOREIGN) == []
                shown = await page.evaluate("document.documentElement.textContent")
                assert [c for c in shown if not c.isprintable() and c not in "\n\u202f"] == []
                assert max(map(len, shown.split("\n"))) < 20_000
                wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0
                assert_quiet(page, at.server.url)
                await page.close()

    asyncio.run(run())


# The elements that no part of the page makes, and those that would do something.
FOREIGN = """[...document.querySelectorAll('*')].filter(e =>
  !['html', 'head', 'meta', 'title', 'link', 'script', 'body', 'a', 'header', 'div', 'svg', 'rect',
    'path', 'circle', 'h1', 'h2', 'h3', 'span', 'bdi', 'button', 'section', 'dl', 'dt', 'dd',
    'main', 'p', 'fieldset', 'legend', 'label', 'input', 'i', 'canvas', 'table', 'caption',
    'colgroup', 'col', 'thead', 'tbody', 'tr', 'th', 'td', 'ul', 'li', 'time', 'footer', 'strong',
    'dialog',
  ].includes(e.localName)
  || [...e.attributes].some(a => a.name.startsWith('on'))
  || e.localName === 'script' && !e.src.startsWith(location.origin + '/static/')
  || e.localName === 'h1' && e.parentElement.className !== 'brand'
).map(e => e.outerHTML)"""


def test_twenty_viewers_change_nothing_for_the_capture(namespace: Namespace) -> None:
    count = size(300, 3000)
    frames = [frame for n in range(count) for frame in video(20_000 + n, amount=14_000)]

    async def run(viewers: int) -> dict[object, tuple[int, int]]:
        flows: dict[object, tuple[int, int]] = {}
        connector = aiohttp.TCPConnector(limit=0)
        async with watched(namespace) as at, aiohttp.ClientSession(connector=connector) as client:
            url = f"{at.server.url}api/events"
            answers = [await client.get(url) for _ in range(viewers)]
            reading = [
                asyncio.create_task(_read_all(answer))
                for answer in answers[::2]  # every other one reads nothing
            ]
            page = await at.page() if viewers else None
            subscriber = at.ring.subscribe(kinds=(FlowEnded, StatsUpdated))

            async def collect() -> None:
                async for event in subscriber:
                    assert isinstance(event, FlowEnded | StatsUpdated)  # nothing was missed
                    if isinstance(event, FlowEnded):
                        flow = event.flow
                        flows[flow.key] = (flow.packets, flow.bytes)

            collecting = asyncio.create_task(collect())
            sent = await asyncio.to_thread(at.send, frames)
            await until(lambda: at.ring.statistics().capture.received >= sent)
            await until(lambda: len(flows) == count)
            if page is not None:
                shown = "document.getElementById('flows-count').textContent"
                await page.until(shown, lambda text: text.replace("\u202f", "") == str(count))
                assert_quiet(page, at.server.url)
                await page.close()
            await at.ring.close()
            await collecting
            for task in reading:
                task.cancel()
            for answer in answers:
                answer.close()
        books = at.ring.statistics()
        assert_balanced(books)
        assert (books.capture.lost, books.capture.events_lost) == (0, 0)
        assert (sent, books.capture.received) == (len(frames), len(frames))
        return flows

    without, with_viewers = asyncio.run(run(0)), asyncio.run(run(20))
    assert with_viewers == without


async def _read_all(answer: aiohttp.ClientResponse) -> None:
    async for _ in answer.content.iter_any():
        pass


@pytest.mark.long
def test_an_hour_of_events_stays_within_bounded_memory(namespace: Namespace) -> None:
    async def run() -> list[dict[str, float]]:
        async with watched(namespace) as at:
            page = await at.page()
            await until(lambda: at.ring.stats is not None)
            found = []
            for second in range(EVENT_SECONDS):
                await _feed(at, second)
                if second % 300 == 299:
                    found.append(await page.metrics())
            assert at.server._viewers.missed == 0
            assert await page.evaluate("document.querySelectorAll('#flows-body tr').length") == 200
            assert_quiet(page, at.server.url)
            await page.close()
            return found

    found = asyncio.run(run())
    heaps = [metrics["JSHeapUsedSize"] for metrics in found]
    nodes = [metrics["Nodes"] for metrics in found]
    # After a quarter of an hour all that is kept is full.
    assert max(heaps[3:]) < heaps[2] + (4 << 20), heaps
    assert max(heaps) < 48 << 20, heaps
    assert max(nodes[3:]) < 1.1 * nodes[2], nodes


async def _feed(at: Watched, second: int) -> None:
    """As many events as a second may bring, and wait until the browser has them."""
    state, viewers = at.server._state, at.server._viewers
    latest = state.latest
    assert latest is not None
    at.ring.broadcast.publish([latest._replace(ts=latest.ts + 1_000_000_000)])
    for part in range(4):
        first = 50 * (4 * second + part)
        at.ring.broadcast.publish([ended(2_000_000 + first + n) for n in range(50)])
        await until(lambda: state._events.statistics().pending == 0)
        state.tell()
    await until(lambda: not any(viewer._queue for viewer in viewers))


def test_every_control_has_a_name_and_every_table_a_caption(namespace: Namespace) -> None:
    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            await asyncio.to_thread(at.send, video(45_000))
            await page.until("document.querySelectorAll('#flows-body tr').length > 0")
            controls = await page.controls()
            assert {role for role, _ in controls} == {
                "button", "link", "radio", "searchbox", "slider",
            }  # fmt: skip
            assert [role for role, name in controls if not name.strip()] == []
            assert len(controls) == len(set(controls))
            assert await page.evaluate(
                "[...document.querySelectorAll('table')].every(t => t.caption?.textContent)"
            )
            assert await page.evaluate(
                "[...document.querySelectorAll('thead th')].every(t => t.scope === 'col')"
            )
            assert await page.evaluate(
                "[...document.querySelectorAll('tbody th')].every(t => t.scope === 'row')"
            )
            assert await page.evaluate(
                "['header', 'main', 'footer'].every(n => document.querySelectorAll(`body > ${n}`)"
                ".length === 1) && document.documentElement.lang === 'en' && "
                "document.querySelectorAll('h1').length === 1 && "
                "document.querySelector('[role=status][aria-live=polite]') !== null"
            )
            assert await page.evaluate(
                "[...document.querySelectorAll('section, [role=group]')].every(s => "
                "document.getElementById(s.getAttribute('aria-labelledby'))?.textContent.trim())"
            )
            await _tab_through(page)
            await _read_the_chart(page)
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


async def _tab_through(page: Page) -> None:
    """The keyboard alone reaches every control, and each shows that it has the focus."""
    await page.evaluate("document.body.focus()")
    stops = []
    for _ in range(30):
        await page.press("Tab")
        stop = await page.evaluate(FOCUSED)
        if stop is None or stop in stops:
            break
        stops.append(stop)
        assert stop[1], stop
    reached = {name for name, _ in stops}
    assert reached >= {
        "Skip to the content", "theme", "span", "chart-cursor", "over", "search", "pause",
    }  # fmt: skip


async def _read_the_chart(page: Page) -> None:
    """The arrow keys move along the chart, and the point is told as text."""
    told = "document.getElementById('chart-cursor').getAttribute('aria-valuetext')"
    await page.until("Number(document.getElementById('chart-cursor').max) > 1")
    await page.evaluate("document.getElementById('chart-cursor').focus({focusVisible: true})")
    for _ in range(2):
        await page.press("ArrowLeft")
    await page.until("!document.getElementById('readout').hidden")
    said = await page.evaluate(told)
    assert re.fullmatch(r"\d\d:\d\d:\d\d: in .* out .* 0 frames lost", said)
    shown = await page.evaluate("document.getElementById('readout').textContent")
    assert shown.startswith(said[:8])
    await page.evaluate("document.activeElement.blur()")
    await page.until("document.getElementById('readout').hidden")


# What has the focus, and whether that is seen: by its outline, or by that of what stands for it.
FOCUSED = """(() => {
  const e = document.activeElement;
  if (e === null || e === document.body) return null;
  const seen = [e, e.nextElementSibling, e.parentElement]
    .some(n => n && getComputedStyle(n).outlineStyle !== 'none');
  return [e.id || e.name || e.textContent.trim().slice(0, 30), seen];
})()"""


def test_search_and_pause(namespace: Namespace) -> None:
    rows = "[...document.querySelectorAll('#flows-body .to')].map(e => e.textContent)"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page(360)
            names = [b"one.example", b"two.example", b"three.example"]
            for n, name in enumerate(names):
                await asyncio.to_thread(at.send, video(46_000 + n, name, 1000))
            await page.until(rows, lambda found: len(found) == 3)
            await page.evaluate("document.getElementById('search').focus()")
            await page.type("TWO tls")
            await page.until(rows, lambda found: len(found) == 1 and "two.example" in found[0])
            await page.until(
                "document.getElementById('status').textContent", lambda said: said == "1 flow found"
            )
            await asyncio.to_thread(at.send, video(46_010, b"four.example", 1000))
            await asyncio.to_thread(at.send, video(46_011, b"twofold.example", 1000))
            await page.until(rows, lambda found: len(found) == 2 and "twofold" in found[0])
            await page.evaluate("document.getElementById('pause').click()")
            await asyncio.to_thread(at.send, video(46_012, b"two.again.example", 1000))
            hint = "document.getElementById('flows-hint').textContent"
            await page.until(hint, lambda said: "1 more" in said)
            assert len(await page.evaluate(rows)) == 2
            await page.evaluate("document.getElementById('pause').click()")
            await page.until(rows, lambda found: len(found) == 3)
            await page.evaluate(
                "{const s = document.getElementById('search'); s.value = '';"
                "s.dispatchEvent(new Event('input'))}"
            )
            await page.until(rows, lambda found: len(found) == 6)
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


DETAILS = (
    "Object.fromEntries([...document.querySelectorAll('#details-list > div')]"
    ".map(e => [...e.children].map(c => c.textContent)))"
)


def test_a_flow_opens_with_all_its_fields(namespace: Namespace) -> None:
    focus = "document.activeElement.closest('tr')?.dataset.key"
    is_open = "document.getElementById('details').open"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page(320)
            hostile = App(protocol="tls", name="<b>\u202ex</b>")
            for number in (7, 8):
                event = ended(number)
                event = event._replace(flow=event.flow._replace(app=hostile))
                at.ring.broadcast.publish([event])
            await page.until("document.querySelectorAll('#flows-body tr').length === 2")
            # One stop for the Tab key; the arrow keys go on from there.
            stops = "[...document.querySelectorAll('#flows-body .open')].map(e => e.tabIndex)"
            assert await page.evaluate(stops) == [0, -1]
            await page.evaluate("document.querySelector('#flows-body .open').focus()")
            assert await page.evaluate(focus) == "8"
            await page.press("ArrowDown")
            assert await page.evaluate(focus) == "7"
            assert await page.evaluate(stops) == [-1, 0]
            await page.press("ArrowDown")  # there is none
            assert await page.evaluate(focus) == "7"
            await page.press("Enter")
            await page.until(is_open)
            record = next(r for r in at.server._state._flows if r["id"] == 7)
            shown = await page.evaluate(DETAILS)
            assert len(shown) == sum(value != "" for value in record.values())
            assert (shown["Name"], shown["Number"]) == (r"<b>\u202ex</b>", "7")
            assert shown["From address"] == record["orig_addr"]
            assert shown["Began"] == record["start"]
            assert shown["Sent"].startswith(f"{record['orig_bytes']} bytes")
            assert ("dialog", rf"Flow to {record['name']}") in await page.nodes({"dialog"})
            assert await page.evaluate("document.activeElement.textContent") == "Close"
            wide = "document.documentElement.scrollWidth - innerWidth"
            assert await page.evaluate(wide) <= 0
            await page.press("Escape")
            assert not await page.evaluate(is_open)
            assert await page.evaluate(focus) == "7"  # the focus goes back
            await page.evaluate("document.querySelector('#flows-body td.when').click()")
            assert (await page.evaluate(DETAILS))["Number"] == "8"
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


def test_rows_that_look_alike_do_not_pile_up(namespace: Namespace) -> None:
    made = """(async () => {
      const { rows } = await import('/static/format.js');
      const body = document.createElement('tbody');
      const counts = [];
      for (const keys of ['aab', 'aab', 'baa', 'a', '', 'aaa']) {
        rows(body, [...keys], k => k, () => document.createElement('tr'), (row, k) => {
          row.textContent = k;
        });
        counts.push(body.textContent);
      }
      return counts;
    })()"""

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            assert await page.evaluate(made) == ["aab", "aab", "baa", "a", "", "aaa"]
            await page.close()

    asyncio.run(run())


def test_a_flow_that_a_search_found_is_not_shown_again(namespace: Namespace) -> None:
    shown = "[...document.querySelectorAll('#flows-body tr')].map(e => e.dataset.key)"
    search = (
        "{const s = document.getElementById('search'); s.value = 'tcp';"
        "s.dispatchEvent(new Event('input'))}"
    )

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            state = at.server._state
            at.server._tasks[1].cancel()  # nothing is told but by this test
            at.ring.broadcast.publish([ended(1)])
            await until(lambda: len(state._flows) == 1)
            await page.evaluate(search)
            await page.until(shown, lambda found: found == ["1"])
            at.ring.broadcast.publish([ended(2)])
            await until(lambda: len(state._flows) == 2)
            state.tell()  # of both
            await page.until(shown, lambda found: "2" in found)
            assert await page.evaluate(shown) == ["2", "1"]
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


def test_a_clock_that_is_set_back_keeps_the_chart_alive(namespace: Namespace) -> None:
    told = "document.getElementById('chart-cursor').getAttribute('aria-valuetext') ?? ''"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            await until(lambda: at.ring.stats is not None)
            latest = at.ring.stats
            assert latest is not None
            day = 86_400 * 1_000_000_000
            lost = latest.health._replace(lost=4321, received=9)
            at.ring.broadcast.publish([latest._replace(ts=latest.ts + day, health=lost)])
            await page.until(told, lambda said: "4321 frames lost" in said)
            # The capture's own intervals go on, a day before that.
            await page.until(told, lambda said: said.endswith(" 0 frames lost"))
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


def test_the_page_says_why_nothing_comes(namespace: Namespace) -> None:
    banner = "document.getElementById('banner').textContent"
    said = "document.getElementById('status').textContent"
    live = "document.getElementById('live-text').textContent"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            gone = InterfaceGoneError("eth1 is gone", interface="eth1")
            at.ring.broadcast.publish([CaptureError(3, gone)])
            await page.until(live, lambda text: text == "Failed")
            await page.until(said, lambda text: text == "Capture: Failed. eth1 is gone")
            await at.server.close()
            await page.until(
                banner,
                lambda text: re.match(
                    r"eth1 is gone\. The server does not answer\."
                    r"( All that is shown is of \d\d:\d\d:\d\d\.)?$",
                    text,
                ),
            )
            assert await page.evaluate(live) == "Failed"
            assert await page.evaluate(said) == "The server does not answer."
            assert await page.evaluate("document.getElementById('banner').dataset.level") == "bad"
            await page.close()

    asyncio.run(run())


def test_a_server_that_is_away_is_asked_more_and_more_seldom(namespace: Namespace) -> None:
    # The pauses are written down, and pass at once.
    hurried = """{
      const real = window.setTimeout;
      window.pauses = [];
      window.setTimeout = (act, ms) => { window.pauses.push(ms); return real(act, 5); };
    }"""

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.browser.open()
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=hurried)
            await page.go(at.server.url)
            await page.until("document.getElementById('live-text').textContent === 'Live'")
            assert await page.evaluate("window.pauses") == []
            address = at.server.addresses[0]
            await at.server.close()
            pauses = await page.until("window.pauses", lambda found: len(found) >= 12)
            longest = [1000, 2000, 4000, 8000, 16_000, *[30_000] * len(pauses)]
            # A server that ends may take one connection more, and the pauses begin again.
            assert any(
                all(most / 2 <= pause <= most for pause, most in zip(told, longest, strict=False))
                for told in (pauses, pauses[1:])
            ), pauses
            async with serve(at.ring, address):
                await page.until("document.getElementById('live-text').textContent === 'Live'")
                before = len(await page.evaluate("window.pauses"))
            pauses = await page.until("window.pauses", lambda found: len(found) > before)
            assert 500 <= pauses[before] <= 1000  # from the shortest again
            await page.close()

    asyncio.run(run())


def test_a_page_that_nobody_sees_leaves_and_comes_back(namespace: Namespace) -> None:
    # Minutes pass at once.
    hurried = """{
      const real = window.setTimeout;
      window.setTimeout = (act, ms) => real(act, ms >= 60000 ? 50 : ms);
      Object.defineProperty(document, 'hidden', { get: () => window.isHidden === true });
    }"""
    turned = "window.isHidden = {}; document.dispatchEvent(new Event('visibilitychange'))"

    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.browser.open()
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=hurried)
            await page.go(at.server.url)
            live = "document.getElementById('live-text').textContent === 'Live'"
            await page.until(live)
            assert at.server.viewers == 1
            await page.evaluate(turned.format("true"))
            await until(lambda: at.server.viewers == 0)
            await page.evaluate(turned.format("false"))
            await page.until(live)
            assert at.server.viewers == 1
            assert_quiet(page, at.server.url)
            await page.close()

    asyncio.run(run())


def test_the_theme_is_of_the_system_or_of_the_switch(namespace: Namespace) -> None:
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    label = "document.getElementById('theme').getAttribute('aria-label')"

    async def run() -> None:
        async with watched(namespace) as at:
            page, dark = await at.page(), await at.page(scheme="dark")
            light = await page.evaluate(colour)
            assert await dark.evaluate(colour) != light
            told = []
            for _ in range(3):
                await page.evaluate("document.getElementById('theme').click()")
                told.append((await page.evaluate(label), await page.evaluate(colour) == light))
            assert told == [
                ("Theme: light", True), ("Theme: dark", False), ("Theme: automatic", True),
            ]  # fmt: skip
            await page.evaluate("document.getElementById('theme').click()")
            await page.evaluate("document.getElementById('theme').click()")
            await page.go(at.server.url)
            assert await page.evaluate(label) == "Theme: dark"
            for each in (page, dark):
                assert_quiet(each, at.server.url)
                await each.close()

    asyncio.run(run())


def test_the_token_opens_the_page_and_stays_out_of_the_address(namespace: Namespace) -> None:
    live = "document.getElementById('live-text')?.textContent === 'Live'"

    async def run() -> None:
        async with watched(namespace, token=TOKEN) as at:
            page = await at.browser.open()
            await page.go(at.server.url)
            await page.until("document.activeElement.id === 'token'")
            assert all(name for _, name in await page.controls())
            await page.type("wrong")
            await page.press("Enter")
            await page.until("document.getElementById('problem').textContent.includes('not')")
            await page.evaluate("document.getElementById('token').select()")
            await page.type(TOKEN)
            await page.evaluate("document.querySelector('button[type=submit]').click()")
            await page.until(live)
            assert await page.evaluate("document.cookie") == ""
            await page.call("Network.clearBrowserCookies")
            await page.go(at.server.url)
            await page.until("document.getElementById('token') !== null")
            await page.go(f"{at.server.url}?token={TOKEN}")
            await page.until(live)
            assert await page.evaluate("location.href") == at.server.url
            said = [line for line in page.complaints if "401" not in line]
            assert said == []
            await page.close()

    asyncio.run(run())


def test_a_visit_from_another_site_uses_the_session(namespace: Namespace) -> None:
    live = "document.getElementById('live-text')?.textContent === 'Live'"

    async def run() -> None:
        async with watched(namespace, token=TOKEN) as at:
            page = await at.browser.open()
            await page.go(f"{at.server.url}?token={TOKEN}")
            await page.until(live)
            # To a browser "localhost" is another site than 127.0.0.1.
            other = at.server.url.replace("127.0.0.1", "localhost")
            await page.go(f"{other}static/icon.svg")
            await page.evaluate(f"void (location.href = {json.dumps(at.server.url)})")
            await page.until(live)
            assert await page.evaluate("location.href") == at.server.url
            assert at.server.viewers == 1
            await page.close()

    asyncio.run(run())


def test_a_page_goes_on_when_the_server_comes_back(namespace: Namespace) -> None:
    async def run() -> None:
        async with watched(namespace) as at:
            page = await at.page()
            address = at.server.addresses[0]
            await at.server.close()
            await page.until("document.getElementById('live-text').textContent === 'Reconnecting'")
            async with serve(at.ring, address) as again:
                await page.until("document.getElementById('live-text').textContent === 'Live'")
                await asyncio.to_thread(at.send, video(47_000, b"again.example"))
                await page.until(
                    "document.getElementById('flows-body').textContent.includes('again.example')"
                )
                assert again.viewers == 1
                await page.close()

    asyncio.run(run())
