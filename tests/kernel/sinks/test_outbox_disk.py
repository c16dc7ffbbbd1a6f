"""An outbox on a disk that is really full, and on one that gets room again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netring_bpf.sinks.disk_outbox import DiskOutbox
from tests.support.patience import PATIENCE, until
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.requires("root")

MIB = 1 << 20


def test_a_full_disk_keeps_what_it_has_and_takes_more_when_it_has_room(tmp_path: Path) -> None:
    async def main() -> None:
        outbox = DiskOutbox(
            disk.path / "outbox", 16 * MIB, 1000, batch_records=100, batch_bytes=65_536, tick=0.01
        )
        keeping = asyncio.create_task(outbox.keep())
        number = 0

        async def offer(count: int) -> None:
            nonlocal number
            for _ in range(count):
                outbox.accept([b"%0500d" % n for n in range(number, number + 100)])
                number += 100
                await asyncio.sleep(0.002)

        while outbox.statistics().failures == 0:
            await offer(1)
        await offer(20)
        assert outbox.dropped["disk"] > 0
        assert set(outbox.dropped) == {"disk"}
        books = outbox.statistics()
        assert books.accepted == books.pending + books.dropped["disk"]
        assert MIB // 2 < books.size <= 2 * MIB
        filler.unlink()
        failures = books.failures
        await until(lambda: outbox._unsaved == 0)
        dropped = outbox.dropped["disk"]
        await offer(5)
        await until(lambda: outbox._unsaved == 0)
        assert outbox.dropped["disk"] == dropped
        assert outbox.statistics().failures <= failures + 2
        outbox.close()
        got: list[int] = []
        while not outbox.finished:
            await outbox.wait_batch(0.01)
            got += map(int, outbox.take())
            outbox.acknowledge()
        assert got == sorted(set(got))
        assert len(got) + dropped == number
        keeping.cancel()
        await asyncio.wait([keeping])
        await outbox.end()

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    with SmallDisk(tmp_path, 4 * MIB) as disk:
        filler = disk.fill(but=MIB)
        asyncio.run(bounded())
