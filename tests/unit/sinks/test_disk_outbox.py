"""The disk outbox: the books of the outbox in memory, and they go on over restarts."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netring_bpf.errors import ClosedError, OutboxError, OutboxInUseError, SinkError
from netring_bpf.sinks.disk_outbox import DiskOutbox
from netring_bpf.sinks.mqtt import MqttOptions, MqttSink
from netring_bpf.sinks.outbox import OutboxStatistics
from netring_bpf.sinks.outbox_folder import Mark, OutboxFolder
from tests.support.patience import PATIENCE, until
from tests.support.sizes import soak

MIB = 1 << 20


def box(folder: Path, **options: Any) -> DiskOutbox:
    wanted: dict[str, Any] = {"capacity": MIB, "limit": 1000, "tick": 0.01} | options
    return DiskOutbox(folder, batch_records=4, batch_bytes=1024, **wanted)


def books(outbox: DiskOutbox) -> OutboxStatistics:
    """The books over all runs, which balance, as those of this run do."""
    now = outbox.statistics()
    assert now.accepted == now.acknowledged + sum(now.dropped.values()) + now.pending
    dropped = sum(outbox.dropped.values())
    assert outbox.accepted == outbox.acknowledged + dropped + outbox.pending
    return now


def numbered(first: int, stop: int, length: int = 8) -> list[bytes]:
    return [b"%0*d" % (length, n) for n in range(first, stop)]


def in_time(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await work

    asyncio.run(bounded())


async def saved(outbox: DiskOutbox) -> None:
    """Wait until all that was accepted is on the disk."""
    await until(
        lambda: outbox._unwritten == 0 and outbox._saving is None and outbox._syncing is None
    )


class Kept:
    """An outbox with its tasks. ``kill`` is kill -9 as far as one process can show it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.outbox = box(folder, **options)

    async def __aenter__(self) -> DiskOutbox:
        self._keeping = asyncio.create_task(self.outbox.keep())
        return self.outbox

    async def __aexit__(self, *_: object) -> None:
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        await self.outbox.end()


async def kill(outbox: DiskOutbox, tasks: Kept) -> None:
    """End the outbox without its last words."""
    tasks._keeping.cancel()
    await asyncio.wait([tasks._keeping])
    if outbox._saving is not None:
        await asyncio.wait([outbox._saving])
    outbox._executor.shutdown()
    outbox._syncer.shutdown()
    outbox._folder.close()


async def drain(outbox: DiskOutbox) -> list[bytes]:
    """Acknowledge all that waits."""
    got: list[bytes] = []
    outbox.close()
    while not outbox.finished:
        await outbox.wait_batch(0.01)
        got += outbox.take()
        outbox.acknowledge()
    return got


def test_records_leave_in_order_and_the_books_go_on_over_restarts(tmp_path: Path) -> None:
    async def first() -> None:
        async with Kept(tmp_path / "box") as outbox:
            outbox.accept(numbered(0, 100))
            assert outbox.take() == numbered(0, 4)
            outbox.acknowledge()
            assert outbox.take() == numbered(4, 8)
            outbox.give_back()
            outbox.accept([b"x" * 1023])
        assert books(outbox).pending == 96

    async def second() -> None:
        async with Kept(tmp_path / "box") as outbox:
            assert (outbox.restored, outbox.accepted, outbox.pending) == (96, 96, 96)
            outbox.accept(numbered(100, 110))
            assert await drain(outbox) == numbered(4, 110)
        assert (outbox.accepted, outbox.acknowledged, outbox.dropped) == (106, 106, {})
        total = books(outbox)
        assert (total.accepted, total.acknowledged, total.restored) == (111, 110, 96)
        assert total.dropped == {"too_large": 1}

    in_time(first())
    in_time(second())
    outbox = box(tmp_path / "box")
    total = books(outbox)
    assert (total.accepted, total.acknowledged, total.pending, total.restored) == (111, 110, 0, 0)


@pytest.mark.parametrize("part", ["write", "sync"])
def test_closing_lets_the_loop_tell_that_the_disk_is_done(tmp_path: Path, part: str) -> None:
    async def main() -> None:
        outbox = box(tmp_path)
        outbox.accept([b"one"])
        if part == "write":
            assert outbox._begin_save()
            thread, working = outbox._executor, outbox._saving
        else:
            assert outbox._begin_save()
            while outbox._syncing is None:
                await asyncio.sleep(0)
            thread, working = outbox._syncer, outbox._syncing
        assert working is not None
        thread.submit(int).result()  # the thread is done, and the loop has not run since
        while not working.done():
            await asyncio.sleep(0)
        # Done, and its callback comes in the loop's next round.
        await outbox.end()
        assert (outbox._saving, outbox._syncing, outbox.pending) == (None, None, 1)

    in_time(main())


def test_a_backlog_beyond_memory_waits_on_the_disk_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box", limit=100) as outbox:
            for start in range(0, 5000, 50):
                outbox.accept(numbered(start, start + 50))
                await saved(outbox)
            assert len(outbox._queue) + len(outbox._tail) <= 200
            assert books(outbox).pending == 5000
            assert await drain(outbox) == numbered(0, 5000)
            assert books(outbox).dropped == {}

    in_time(main())


def test_the_oldest_segment_makes_room_and_its_records_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box", limit=200) as outbox:
            flying: list[bytes] = []
            for start in range(0, 8000, 50):
                outbox.accept(numbered(start, start + 50, 500))
                await saved(outbox)
                assert books(outbox).size <= MIB
                folder = sum(path.stat().st_size for path in (tmp_path / "box").iterdir())
                assert folder <= MIB
                flying = flying or outbox.take()
            assert flying == numbered(0, 2, 500)
            overflow = outbox.dropped["overflow"]
            outbox.acknowledge()
            got = await drain(outbox)
            assert got == numbered(8000 - len(got), 8000, 500)
            assert outbox.acknowledged == len(got) + 2
            assert outbox.dropped == {"overflow": overflow}
            assert len(got) * 500 > MIB // 2

    in_time(main())


def test_a_batch_whose_segment_is_gone_is_counted_once_if_it_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box", limit=200) as outbox:
            for start in range(0, 4000, 50):
                outbox.accept(numbered(start, start + 50, 500))
                await saved(outbox)
                if start == 0:
                    outbox.take()
            assert outbox._evicted == 2
            outbox.give_back()
            assert books(outbox).acknowledged == 0
            got = await drain(outbox)
            assert len(got) + outbox.dropped["overflow"] == 4000

    in_time(main())


def test_what_is_acknowledged_at_once_spares_the_disk(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box", tick=0.05) as outbox:
            for number in range(2000):
                outbox.accept(numbered(number, number + 1))
                outbox.take()
                outbox.acknowledge()
                if number % 100 == 0:
                    await asyncio.sleep(0.01)
        text = b"".join(path.read_bytes() for path in (tmp_path / "box").iterdir())
        assert text.count(b"\xf5NRO\x01") == 0
        assert outbox.statistics().acknowledged == 2000

    in_time(main())


def test_a_second_owner_is_refused_in_this_process_and_in_another(tmp_path: Path) -> None:
    outbox = box(tmp_path / "box")
    with pytest.raises(OutboxInUseError, match="another sink has it") as caught:
        box(tmp_path / "box")
    assert (caught.value.path, isinstance(caught.value, SinkError)) == (tmp_path / "box", True)
    code = (
        "import sys; from netring_bpf.sinks.mqtt import MqttOptions, MqttSink\n"
        "MqttSink('mqtt://127.0.0.1', MqttOptions(outbox_dir=sys.argv[1]))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "box")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert "OutboxInUseError" in done.stderr
    outbox._folder.close()
    subprocess.run(argv, check=True)


def test_a_sink_that_is_not_run_leaves_the_folder_to_others(tmp_path: Path) -> None:
    options = MqttOptions(outbox_dir=tmp_path / "box")
    first = MqttSink("mqtt://127.0.0.1", options)
    MqttSink("mqtt://127.0.0.1", options)
    assert first.statistics().outbox is None
    box(tmp_path / "box")


def test_a_forked_child_does_not_keep_the_folder(tmp_path: Path) -> None:
    outbox = box(tmp_path / "box")
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(ready, 1)
        os._exit(0)
    try:
        outbox._folder.close()
        box(tmp_path / "box")
    finally:
        os.close(ready)
        os.close(go)
        os.waitpid(child, 0)


def test_folder_and_files_are_the_users_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box") as outbox:
            outbox.accept([b"1"])

    old = os.umask(0)
    try:
        in_time(main())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "box").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "box").iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("obstacle", ["file", "link", "open", "absent", "hostile"])
def test_a_folder_that_cannot_be_used_is_refused_in_words(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "box"
    match obstacle:
        case "file":
            path.touch()
        case "link":
            (tmp_path / "other").mkdir(0o700)
            path.symlink_to(tmp_path / "other")
        case "open":
            path.mkdir()
            path.chmod(0o755)
        case "absent":
            path = tmp_path / "no" / "such"
        case "hostile":
            path = tmp_path / "a\x1b[2J" / "b"
    with pytest.raises(OutboxError) as caught:
        MqttSink("mqtt://127.0.0.1", MqttOptions(outbox_dir=path))
    assert caught.value.path == path
    assert str(caught.value).isprintable()


def test_a_link_in_the_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box") as outbox:
            outbox.accept(numbered(0, 10))

    in_time(main())
    (segment,) = (tmp_path / "box").iterdir()
    shutil.move(segment, tmp_path / "elsewhere")
    segment.symlink_to(tmp_path / "elsewhere")
    outbox = box(tmp_path / "box")
    assert books(outbox).pending == 0
    assert (tmp_path / "elsewhere").stat().st_size > 0


def test_an_outbox_of_another_version_is_left_alone(tmp_path: Path) -> None:
    folder = OutboxFolder(tmp_path / "box")
    folder.save(1, Mark(end=1), [b"1"])
    folder.close()
    (segment,) = (tmp_path / "box").iterdir()
    whole = segment.read_bytes()
    later = Mark(end=1).encode().replace(b'"version":1', b'"version":2')
    import netring_bpf.sinks.outbox_folder as format_

    segment.write_bytes(format_._entry(2, 1, later[format_.ENTRY_BYTES :]) + whole)
    before = segment.read_bytes()
    with pytest.raises(OutboxError, match="another version"):
        box(tmp_path / "box")
    assert segment.read_bytes() == before


# -- the disk fails --


class Disk:
    """Makes os.write of segments fail, as a full disk does, behind so many bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._room: int | None = None
        self._lock = threading.Lock()  # the loop changes what the outbox's thread reads
        self._write = os.write
        patch.setattr("netring_bpf.sinks.outbox_folder.os.write", self.write)

    @property
    def room(self) -> int | None:
        return self._room

    @room.setter
    def room(self, room: int | None) -> None:
        with self._lock:
            self._room = room

    def write(self, descriptor: int, data: Any) -> int:
        with self._lock:
            if self._room is None:
                return self._write(descriptor, data)
            if self._room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            done = self._write(descriptor, data[: self._room])
            self._room -= done
            return done


def test_a_full_disk_is_told_and_memory_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr("netring_bpf.sinks.disk_outbox._AFTER_FAILURE", 0.01)

    async def main() -> None:
        async with Kept(tmp_path / "box", limit=300) as outbox:
            disk.room = 700
            outbox.accept(numbered(0, 1000))
            await until(lambda: outbox.statistics().failures >= 3)
            assert books(outbox).dropped == {"overflow": 700}
            disk.room = None
            await saved(outbox)
            await until(lambda: not outbox._failing)
            assert await drain(outbox) == numbered(700, 1000)

    in_time(main())
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert told == [
        f"outbox {tmp_path}/box: cannot write: No space left on device; flows wait in memory, up "
        "to 300"
    ]


def test_a_write_without_memory_is_a_failure_of_the_disk_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netring_bpf.sinks.disk_outbox._AFTER_FAILURE", 0.01)
    write = os.write
    failures = iter([MemoryError()])

    def fail_once(descriptor: int, data: Any) -> int:
        for failure in failures:
            raise failure
        return write(descriptor, data)

    async def main() -> None:
        async with Kept(tmp_path / "box") as outbox:
            with monkeypatch.context() as patch:
                patch.setattr("netring_bpf.sinks.outbox_folder.os.write", fail_once)
                outbox.accept(numbered(0, 10))
                await until(lambda: outbox.statistics().failures == 1)
                await saved(outbox)
            assert await drain(outbox) == numbered(0, 10)
            assert books(outbox).acknowledged == 10

    in_time(main())


def test_what_a_full_disk_holds_stays_and_new_flows_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr("netring_bpf.sinks.disk_outbox._AFTER_FAILURE", 0.01)

    async def main() -> None:
        async with Kept(tmp_path / "box", limit=300) as outbox:
            outbox.accept(numbered(0, 200))
            await saved(outbox)
            disk.room = 100
            outbox.accept(numbered(200, 600))
            await until(lambda: outbox.statistics().failures >= 2)
            assert books(outbox).dropped == {"disk": 100}
            disk.room = None
            await saved(outbox)
            outbox.accept(numbered(600, 610))
            assert await drain(outbox) == numbered(0, 500) + numbered(600, 610)

    in_time(main())


def test_what_could_not_be_taken_back_is_not_sent_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr("netring_bpf.sinks.disk_outbox._AFTER_FAILURE", 0.01)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        kept = Kept(tmp_path / "box")
        async with kept as outbox:
            outbox.accept(numbered(0, 10))
            await saved(outbox)
            with monkeypatch.context() as broken:
                broken.setattr("netring_bpf.sinks.outbox_folder.os.ftruncate", refuse)
                broken.setattr("netring_bpf.sinks.outbox_folder.os.unlink", refuse)
                disk.room = 400
                outbox.accept(numbered(10, 30))
                await until(lambda: outbox.statistics().failures >= 2)
                disk.room = None
                await until(lambda: not outbox._failing)
        assert books(outbox).pending == 30
        async with Kept(tmp_path / "box") as outbox:
            assert outbox.restored == 30
            assert await drain(outbox) == numbered(0, 30)

    in_time(main())


# -- torn tails and corruption --


def left_behind(folder: Path, saves: list[int], head: int = 0) -> list[Path]:
    """Write records as an outbox does, so many at a time, three times to a segment."""
    owner = OutboxFolder(folder)
    total = 0
    for at, count in enumerate(saves):
        records = numbered(total, total + count, 20)
        total += count
        serial = 1 + at // 3
        done = owner.save(serial, Mark(min(head, total), {}, min(head, total), total), records)
        assert done.error is None
    owner.close()
    return sorted(folder.iterdir())


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="netring-outbox-") as folder:
        yield Path(folder) / "box"


def read_all(folder: Path) -> tuple[list[bytes], DiskOutbox]:
    async def main() -> None:
        async with Kept(folder) as outbox:
            result.append(outbox)
            before = books(outbox)
            got.extend(await drain(outbox))
            after = books(outbox)
            assert before.accepted == after.accepted
            assert after.pending == 0

    result: list[DiskOutbox] = []
    got: list[bytes] = []
    in_time(main())
    return got, result[0]


@settings(max_examples=soak(40, 150, 1000), deadline=None)
@given(saves=st.lists(st.integers(1, 5), min_size=1, max_size=7), cut=st.floats(0, 1))
def test_a_tail_torn_at_any_byte_is_cut_and_what_is_before_it_is_read(
    saves: list[int], cut: float
) -> None:
    with scratch() as folder:
        last = left_behind(folder, saves)[-1]
        whole = last.read_bytes()
        last.write_bytes(whole[: int(cut * len(whole))])
        got, outbox = read_all(folder)
        total = sum(saves)
        assert got == numbered(0, len(got), 20)
        torn = outbox.dropped.get("torn", 0)
        assert outbox.dropped == ({"torn": torn} if torn else {})
        # Records that no mark announces any more are lost with the mark.
        marks = whole[: int(cut * len(whole))].count(b'"end"')
        if marks:
            assert len(got) + torn <= total
        if cut == 1.0:
            assert (len(got), torn) == (total, 0)
        kept = whole[: int(cut * len(whole))]
        assert all(record in got for record in numbered(0, total, 20) if record in kept)


@settings(max_examples=soak(60, 150, 2000), deadline=None)
@given(
    saves=st.lists(st.integers(1, 5), min_size=1, max_size=7),
    head=st.integers(0, 3),
    data=st.data(),
)
def test_a_byte_changed_anywhere_costs_one_entry_and_is_counted(
    saves: list[int], head: int, data: st.DataObject
) -> None:
    with scratch() as folder:
        segments = left_behind(folder, saves, head)
        victim = data.draw(st.sampled_from(segments))
        whole = bytearray(victim.read_bytes())
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))
        victim.write_bytes(whole)
        got, outbox = read_all(folder)
        total = sum(saves)
        head = min(head, total)
        wanted = numbered(0, total, 20)
        assert got == [record for record in wanted if record in got]
        lost = len(wanted[head:]) - len([record for record in got if record in wanted[head:]])
        assert lost <= 1
        if lost:
            assert sum(outbox.dropped.values()) <= 1


@settings(max_examples=soak(40, 150, 1000), deadline=None)
@given(
    saves=st.lists(st.integers(1, 5), min_size=1, max_size=9),
    noise=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=60)), max_size=6),
    absent=st.sets(st.integers(0, 2)),
)
def test_whatever_the_segments_hold_the_books_balance_and_nothing_false_is_read(
    saves: list[int], noise: list[tuple[float, bytes]], absent: set[int]
) -> None:
    with scratch() as folder:
        segments = left_behind(folder, saves)
        for where, junk in noise:
            victim = segments[int(where * (len(segments) - 1))]
            whole = victim.read_bytes()
            at = int(where * len(whole))
            victim.write_bytes(whole[:at] + junk + whole[at + len(junk) // 2 :])
        for index, path in enumerate(segments):
            if index in absent:
                path.unlink()
        got, outbox = read_all(folder)
        assert got == [record for record in numbered(0, sum(saves), 20) if record in got]
        assert set(outbox.dropped) <= {"torn", "corrupt"}
        assert outbox.accepted == len(got) + sum(outbox.dropped.values())


def test_a_missing_segment_is_counted_in_its_place(tmp_path: Path) -> None:
    segments = left_behind(tmp_path / "box", [10] * 9)
    segments[1].unlink()
    got, outbox = read_all(tmp_path / "box")
    assert got == numbered(0, 30, 20) + numbered(60, 90, 20)
    assert outbox.dropped == {"corrupt": 30}


def test_a_segment_that_rots_while_it_waits_is_counted(tmp_path: Path) -> None:
    segments = left_behind(tmp_path / "box", [10] * 9)

    async def main() -> None:
        async with Kept(tmp_path / "box", limit=10) as outbox:
            await until(lambda: len(outbox._queue) > 0)
            segments[1].write_bytes(b"")
            got = await drain(outbox)
            assert books(outbox).acknowledged == len(got)
            assert outbox.dropped == {"corrupt": 90 - len(got)}

    in_time(main())


# -- whatever happens --

STEPS = [
    "accept", "many", "long", "take", "acknowledge", "give_back", "drop", "wait", "save", "restart",
    "kill", "fail", "mend",
]  # fmt: skip


@settings(max_examples=soak(40, 150, 1000), deadline=None)
@given(limit=st.integers(4, 40), steps=st.lists(st.sampled_from(STEPS), max_size=60))
def test_the_books_balance_whatever_happens(limit: int, steps: list[str]) -> None:
    async def main(folder: Path, disk: Disk) -> None:
        tasks = Kept(folder, limit=limit)
        outbox = await tasks.__aenter__()
        flying: list[bytes] = []
        sent: list[int] = []
        certain = number = 0  # what was surely saved, and what was accepted

        for step in steps:
            match step:
                case "accept" | "many":
                    count = 1 if step == "accept" else 25
                    outbox.accept(numbered(number, number + count, 400))
                    number += count
                case "long":
                    outbox.accept([b"x" * 2000])
                case "take" if not flying:
                    flying = outbox.take()
                case "acknowledge":
                    outbox.acknowledge()
                    sent += map(int, flying)
                    flying = []
                case "give_back":
                    outbox.give_back()
                    flying = []
                case "drop":
                    outbox.drop("refused")
                    flying = []
                case "wait":
                    await asyncio.sleep(0)
                case "save" if disk.room is None:
                    await saved(outbox)
                    certain = number
                case "restart" | "kill":
                    outbox.give_back()
                    flying = []
                    before = outbox.statistics()
                    if step == "kill":
                        await kill(outbox, tasks)
                    else:
                        await tasks.__aexit__()
                        before = outbox.statistics()
                    tasks = Kept(folder, limit=limit)
                    outbox = await tasks.__aenter__()
                    now = books(outbox)
                    if step == "restart" and disk.room is None:
                        assert now.accepted == before.accepted
                        assert (now.acknowledged, now.dropped) == (
                            before.acknowledged, before.dropped,
                        )  # fmt: skip
                    assert now.accepted <= before.accepted + limit
                case "fail":
                    disk.room = 300
                case "mend":
                    disk.room = None
            books(outbox)
            assert outbox._unsaved <= limit
        disk.room = None
        outbox.give_back()
        await until(lambda: outbox._saving is None)
        for record in await drain(outbox):
            sent.append(int(record))
        assert books(outbox).pending == 0
        assert certain <= number
        await tasks.__aexit__()

    with pytest.MonkeyPatch.context() as patch, scratch() as folder:
        patch.setattr("netring_bpf.sinks.disk_outbox._AFTER_FAILURE", 0.001)
        in_time(main(folder, Disk(patch)))


def test_the_order_of_use_is_as_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with Kept(tmp_path / "box") as outbox:
            outbox.accept([b"1"])
            outbox.take()
            with pytest.raises(ClosedError):
                outbox.take()
            outbox.close()
            with pytest.raises(ClosedError):
                outbox.accept([b"2"])
            assert not outbox.finished
            outbox.acknowledge()
            assert outbox.finished

    in_time(main())
