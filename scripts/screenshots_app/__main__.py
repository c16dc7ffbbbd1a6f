"""Makes the pictures of the page: a home's traffic on a wire of its own, captured and served.

The sender and the capture port are in a network namespace that ends with this program.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from netring_bpf import FlowOptions, Netring, StatsOptions
from netring_bpf.web import serve
from tests.support.browser import Browser, Page
from tests.support.household import DEVICES, client_hello, dhcp, download, lookup
from tests.support.lab import Namespace, VethPair
from tests.support.sender import send_frames

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
SERVERS = (
    # Name, address, and kilobytes down and up.
    ("cdn.video.example", "198.51.100.7", 60, 1),
    ("www.example.org", "203.0.113.80", 25, 2),
    ("static.shop.example", "203.0.113.15", 20, 1),
    ("updates.example.org", "198.51.100.130", 45, 1),
    ("api.weather.example", "192.0.2.44", 4, 1),
    ("chat.example.com", "192.0.2.99", 6, 6),
    ("mail.example.net", "192.0.2.25", 9, 5),
    ("photos.cloud.example", "198.51.100.61", 3, 60),
)
WEIGHTS = (5, 3, 2, 2, 2, 2, 1, 2)
RATES = (1.0, 0.7, 0.3, 0.5, 0.1)  # of the devices
SENDER, PORT = "lan0", "eth1"
TICK = 0.1


def traffic(seconds: float) -> Iterator[list[bytes]]:
    """What the home sends in each tick."""
    chance = random.Random(7)
    port = 30_000
    yield [frame for name, mac, address in DEVICES for frame in dhcp((mac, address), name.encode())]
    for tick in range(int(seconds / TICK)):
        at = tick * TICK
        wave = 1.1 + math.sin(at / 11) * 0.6 + math.sin(at / 3.1) * 0.25
        busy = 2.6 if 0.45 < at / seconds < 0.6 else 1.0
        frames: list[bytes] = []
        for (_, *station), rate in zip(DEVICES, RATES, strict=True):
            if chance.random() > rate * 0.9:
                continue
            name, server, down, up = chance.choices(SERVERS, WEIGHTS)[0]
            port += 1
            frames += lookup((station[0], station[1]), name.encode(), server, port)
            amount = 1000 * wave * busy * chance.uniform(0.5, 1.5)
            frames += download(
                (station[0], station[1]), server, port, client_hello(name.encode()),
                int(down * amount), upload=int(up * amount),
            )  # fmt: skip
        yield frames


async def picture(page: Page, path: Path, width: int, height: int) -> None:
    await page.resize(width, height)
    await asyncio.sleep(0.5)
    await page.picture(path)
    if page.complaints:
        raise RuntimeError(f"the page complains: {page.complaints}")


async def run(seconds: float) -> None:
    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT)
        ring = Netring(
            PORT,
            netns=namespace.path,
            backend="tpacket_v3",
            flow=FlowOptions(update_interval=5.0, idle_udp=5.0),
            devices=True,
            stats=StatsOptions(interval=1.0, top=50),
        )
        over = threading.Event()

        def send() -> None:
            for frames in traffic(seconds + 30):
                if over.is_set():
                    return
                send_frames(namespace, SENDER, frames)
                time.sleep(TICK)

        async with Browser() as browser, ring, serve(ring, "127.0.0.1:0") as server:
            sending = asyncio.create_task(asyncio.to_thread(send))
            pages = [await browser.open(1280, 900), await browser.open(360, 780)]
            dark = await browser.open(1280, 900, scheme="dark")
            with contextlib.ExitStack() as stack:
                stack.callback(over.set)
                for page in (*pages, dark):
                    await page.go(server.url)
                await asyncio.sleep(seconds)
                for page in (*pages, dark):
                    box = (
                        f"document.querySelector('input[value=\"{60 if seconds < 70 else 300}\"]')"
                    )
                    await page.evaluate(f"{box}.click()")
                await picture(pages[0], IMAGES / "page-wide.png", 1280, 1560)
                await picture(pages[1], IMAGES / "page-narrow.png", 360, 780)
                await picture(dark, IMAGES / "page-dark.png", 1280, 900)
            await sending
            for page in (*pages, dark):
                await page.close()
        if off := [str(law) for law in ring.statistics().equations() if not law.holds]:
            raise RuntimeError(f"the books are off: {off}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=150.0, metavar="N", help="capture so long [%(default)s]"
    )
    seconds: float = parser.parse_args().seconds
    IMAGES.mkdir(exist_ok=True)
    asyncio.run(run(seconds))
    for path in sorted(IMAGES.glob("page-*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
