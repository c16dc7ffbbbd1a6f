"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from tests.support.patience import PATIENCE
from tests.support.process import spawn, stop

__all__ = ["Browser", "Page"]

FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--font-render-hinting=none",
    "--remote-debugging-port=0", "--js-flags=--expose-gc",
)  # fmt: skip


class Browser:
    """A browser that was never used before. An async context manager."""

    def __init__(self, before: Sequence[str] = ()) -> None:
        self._before = before

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="netring-browser-"))
        self._session = aiohttp.ClientSession()
        with (self._folder / "stderr").open("w") as stderr:
            self._process = spawn(
                [*self._before, "chromium", *FLAGS, f"--user-data-dir={self._folder}"],
                stderr=stderr,
            )
        try:
            self._address = await self._listening()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _listening(self) -> str:
        told = self._folder / "DevToolsActivePort"
        async with asyncio.timeout(PATIENCE):
            while not (told.exists() and len(lines := told.read_text().split()) == 2):
                if self._process.poll() is not None:
                    raise AssertionError((self._folder / "stderr").read_text())
                await asyncio.sleep(0.02)
        return f"http://127.0.0.1:{lines[0]}"

    async def open(self, width: int = 1280, height: int = 900, *, scheme: str = "light") -> Page:
        """Return an empty page of this size and colour scheme."""
        async with self._session.put(f"{self._address}/json/new?about:blank") as answer:
            target = await answer.json()
        page = Page(
            await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0), self
        )
        for domain in ("Page", "Runtime", "Log", "Network", "Performance", "Accessibility"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await page.call("Emulation.setEmulatedMedia", features=features)
        return page

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await asyncio.to_thread(stop, self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


class Page:
    """A page of the browser. ``complaints``: what its console said, violations of policies too."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, browser: Browser) -> None:
        self._socket = socket
        self._browser = browser  # keeps it alive
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())
        self.complaints: list[str] = []
        self.requests: list[str] = []

    async def _read(self) -> None:
        async for said in self._socket:
            self._hear(json.loads(said.data))
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(ConnectionError("the browser has left"))

    def _hear(self, heard: dict[str, Any]) -> None:
        if "id" in heard:
            waiter = self._waiting.pop(heard["id"])
            if not waiter.done():
                waiter.set_result(heard)
            return
        told = heard["params"]
        match heard["method"]:
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(told["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))
            case "Log.entryAdded":
                self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog: {told['message']}")
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(PATIENCE):
            answer = await waiter
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def resize(self, width: int, height: int) -> None:
        """Make the page as wide and as high as this."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    async def go(self, url: str) -> None:
        """Load an address."""
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        await self.until("document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression; a promise is awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(
        self, expression: str, holds: Callable[[Any], object] = bool, pause: float = 0.05
    ) -> Any:
        """Wait until the expression's value is as wanted; return it."""
        value: Any = None
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(value := await self.evaluate(expression)):
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise AssertionError(f"{expression} is still {value!r}") from None
        return value

    async def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = {"Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind, given in (("keyDown", text), ("keyUp", {})):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=code, **given,
            )  # fmt: skip

    async def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save a picture of the page: of what is seen, or of all of it."""
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            await self.resize(int(size["width"]), int(size["height"]))
            await asyncio.sleep(0.3)
        answer = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    async def metrics(self) -> dict[str, float]:
        """Return the browser's own counters, after a collection of garbage."""
        await self.call("HeapProfiler.collectGarbage")
        answer = await self.call("Performance.getMetrics")
        return {metric["name"]: metric["value"] for metric in answer["metrics"]}

    async def controls(self) -> list[tuple[str, str]]:
        """Return the role and the name of each control, as assistive technology has them."""
        answer = await self.call("Accessibility.getFullAXTree")
        wanted = {
            "button", "checkbox", "combobox", "link", "radio", "searchbox", "slider", "spinbutton",
            "tab", "textbox",
        }  # fmt: skip
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in answer["nodes"]
            if not node["ignored"] and node.get("role", {}).get("value") in wanted
        ]

    async def close(self) -> None:
        """Close the page."""
        await self._socket.close()
        await self._reading
