"""Unit tests of your own asyncio code, on a capture file: pytest test_own_code.py.

``Netring.replay`` gives the same events as an interface, in the same order each time, without root.
The test makes its capture by lesson.py; one that you recorded does as well.
"""

import asyncio
from collections import Counter
from pathlib import Path

import lesson
import pytest

import netring_bpf as nr

# -- the code under test: it takes a ring, and does not care where that comes from --


async def names_by_client(ring: nr.Netring) -> dict[str, Counter[str]]:
    """Count the names that each client asks for."""
    found: dict[str, Counter[str]] = {}
    async for event in ring.subscribe(kinds=nr.AppEvent):
        if isinstance(event, nr.AppEvent) and event.app.name:
            found.setdefault(event.flow.key.orig.text, Counter())[event.app.name] += 1
    return found


# -- its tests --


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "lesson.pcap"
    lesson.write(str(path))
    return path


async def names_in(path: Path) -> dict[str, Counter[str]]:
    async with asyncio.timeout(30), nr.Netring.replay(path) as ring:
        return await names_by_client(ring)


def test_each_client_has_its_names(capture: Path) -> None:
    found = asyncio.run(names_in(capture))
    assert found[lesson.LAPTOP] == {"www.example.org": 3}
    assert set(found) == {lesson.LAPTOP, lesson.PHONE, lesson.CAMERA}


def test_a_capture_that_is_cut_raises_after_its_last_event(capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-10])
    with pytest.raises(nr.NetringError, match="cut"):
        asyncio.run(names_in(capture))
