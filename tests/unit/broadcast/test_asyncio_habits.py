"""Netring in asyncio programs as people write them: nothing hangs, leaks or is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import (
    EventLoopError,
    FlowBroadcast,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    FlowSubscriber,
    Lagged,
    Netring,
    read_flows,
)
from netring_bpf.errors import ClosedError
from tests.support.events import ended, started
from tests.support.frames import udp
from tests.support.patience import PATIENCE
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

FLOWS = 500
QUIET = 0.01  # seconds for which nothing comes


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("habits") / "flows.pcap"
    frames = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 53) for n in range(FLOWS)]
    path.write_bytes(pcap(Frame(data, START + n * 1000) for n, data in enumerate(frames)))
    return path


@pytest.fixture
def pipe() -> Any:
    """A capture file that never ends: its header, and then silence."""
    reading, writing = os.pipe()
    os.write(writing, pcap([]))
    yield f"/dev/fd/{reading}"
    os.close(writing)
    os.close(reading)


def waiters(broadcast: FlowBroadcast) -> int:
    return len(broadcast._retained._waiters)


async def others() -> list[str]:
    """The names of the tasks besides this one, once those that are done are gone."""
    await asyncio.sleep(0)
    current = asyncio.current_task()
    return [task.get_name() for task in asyncio.all_tasks() if task is not current]


def descriptors() -> set[str]:
    gc.collect()
    return {f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}" for fd in _open_descriptors()}


def _open_descriptors() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        if Path(f"/proc/self/fd/{fd}").is_symlink():  # that of the listing is gone
            found.append(fd)
    return found


# -- leaving --


def test_a_subscriber_leaves_at_the_end_of_its_block() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        async with broadcast.subscribe() as one, broadcast.subscribe_batches() as two:
            assert broadcast.receiver_count == 2
            broadcast.publish([started(1)])
            assert await anext(one) == started(1)
            assert list(await anext(two)) == [started(1)]
        assert broadcast.receiver_count == 0
        broadcast.publish([started(2)])
        assert [event async for event in one] == []
        assert one.statistics().published == 1

        async with aclosing(broadcast.subscribe()) as three:
            broadcast.publish([started(3), started(4)])
            async for event in three:
                assert event == started(3)
                break
        assert broadcast.receiver_count == 0
        books = three.statistics()
        assert (books.delivered, books.pending) == (1, 1)

        with pytest.raises(ZeroDivisionError):
            async with broadcast.subscribe() as four:
                raise ZeroDivisionError
        assert (broadcast.receiver_count, await four.next_batch()) == (0, [])

    asyncio.run(run())


# -- cancellation --


def reads(broadcast: FlowBroadcast, how: str) -> tuple[Any, Coroutine[Any, Any, Any]]:
    """A subscriber, and the wait of it to cancel."""
    if how == "batches":
        batches = broadcast.subscribe_batches()
        return batches, batches.__anext__()
    subscriber = broadcast.subscribe(where=(lambda _: True) if how == "where" else None)
    if how == "anext":
        return subscriber, subscriber.__anext__()
    return subscriber, subscriber.next_batch()


@pytest.mark.parametrize("how", ["anext", "next_batch", "where", "batches"])
def test_a_cancelled_wait_leaves_nothing_and_loses_nothing(how: str) -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        subscriber, waiting = reads(broadcast, how)
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        assert waiters(broadcast) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiters(broadcast) == 0
        broadcast.publish([started(1), ended(1)])
        broadcast.close()
        found = []
        while events := await subscriber.next_batch():
            found += events
        assert found == [started(1), ended(1)]

    asyncio.run(run())


@pytest.mark.parametrize("how", ["anext", "next_batch", "where", "batches"])
def test_an_event_that_came_with_the_cancellation_is_not_lost(how: str) -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        subscriber, waiting = reads(broadcast, how)
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        broadcast.publish([started(1)])
        task.cancel()  # before it could run
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list(await subscriber.next_batch()) == [started(1)]

    asyncio.run(run())


def test_a_publisher_whose_wait_for_room_is_cancelled_may_wait_again() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast(2)
        reader = broadcast.subscribe()
        broadcast.publish([started(1), started(2)])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(broadcast.wait_room(1), QUIET)
        room = asyncio.create_task(broadcast.wait_room(1))
        await asyncio.sleep(0)
        assert [await anext(reader), reader.next_nowait()] == [started(1), started(2)]
        assert reader.next_nowait() is None
        await asyncio.wait_for(room, PATIENCE)

    asyncio.run(run())


async def read_file(file: Path, found: list[Netring]) -> int:
    ring = Netring.replay(file, flow=FlowOptions(events=(FlowEnded,)), devices=True, stats=True)
    found.append(ring)
    async with ring, ring.subscribe(kinds=FlowEnded) as events:
        return len([event async for event in events])


def test_a_ring_may_be_cancelled_in_each_of_its_waits(file: Path) -> None:
    """The task is cancelled after 0, 1, 2, … turns of the loop, until it ends before that."""

    async def cancelled_after(turns: int) -> bool:
        found: list[Netring] = []
        task = asyncio.create_task(read_file(file, found))
        for _ in range(turns):
            await asyncio.sleep(0)
            if task.done():
                break
        is_cancelled = task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or outcome == FLOWS
        for ring in found:
            await asyncio.wait_for(ring.close(), PATIENCE)
            assert ring.statistics().balanced
            assert ring.broadcast.receiver_count == 0
        assert await others() == []
        return is_cancelled

    async def run() -> int:
        turns = 0
        while await cancelled_after(turns):
            # Each turn at first; then fewer, as most of them are alike.
            turns += 1 + turns // 8
        return turns

    asyncio.run(run())  # warm: the executor's threads, and what is imported
    before = descriptors()
    assert asyncio.run(run()) > 8
    assert descriptors() == before


def test_a_ring_that_waits_for_a_silent_source_may_be_cancelled(pipe: str) -> None:
    async def read(entered: asyncio.Event) -> None:
        async with Netring.replay(pipe) as ring:
            entered.set()
            async for _ in ring.subscribe():
                pytest.fail("nothing was sent")

    async def run() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(read(entered))
        await asyncio.wait_for(entered.wait(), PATIENCE)
        await asyncio.sleep(QUIET)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        assert await others() == []

    asyncio.run(run())


# -- time limits --


async def read_for(seconds: float, events: FlowSubscriber[Any], into: list[Any]) -> None:
    async with asyncio.timeout(seconds):
        async for event in events:
            into.append(event)


def test_a_time_limit_ends_a_wait_and_the_iteration_may_go_on() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        found = []
        async with broadcast.subscribe() as events:
            broadcast.publish([started(1)])
            with pytest.raises(TimeoutError):
                await read_for(QUIET, events, found)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), QUIET)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(events.next_batch(), QUIET)
            assert waiters(broadcast) == 0
            broadcast.publish([ended(1)])
            broadcast.close()
            async with asyncio.timeout(PATIENCE):
                found += [event async for event in events]
        assert found == [started(1), ended(1)]

    asyncio.run(run())


def test_a_time_limit_around_a_whole_ring_closes_it(pipe: str) -> None:
    async def run() -> None:
        ring = Netring.replay(pipe)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET * 5), ring:
                await anext(ring.subscribe())
        assert ring.statistics().balanced
        assert await others() == []

    asyncio.run(run())


# -- groups of tasks --


async def count(events: FlowSubscriber[Any], fail_at: int | None = None) -> int:
    seen = 0
    async for event in events:
        assert not isinstance(event, Lagged)
        seen += 1
        if seen == fail_at:
            raise ZeroDivisionError(f"{events.name} fails")
    return seen


def test_a_group_of_subscribers_reads_a_file_to_its_end(file: Path) -> None:
    async def run() -> None:
        async with Netring.replay(file) as ring, asyncio.TaskGroup() as group:
            ends = group.create_task(count(ring.subscribe(kinds=FlowEnded)))
            starts = group.create_task(count(ring.subscribe(kinds=FlowStarted)))
        assert (ends.result(), starts.result()) == (FLOWS, FLOWS)

    asyncio.run(run())


async def read_by_three(ring: Netring) -> None:
    async with ring, asyncio.TaskGroup() as group:
        for name, fails in (("a", None), ("b", 3), ("c", None)):
            group.create_task(count(ring.subscribe(name=name), fails))


def test_a_subscriber_that_fails_ends_its_group_and_the_ring(file: Path) -> None:
    async def run() -> None:
        ring = Netring.replay(file)
        with pytest.raises(ExceptionGroup) as caught:
            await read_by_three(ring)
        assert [str(error) for error in caught.value.exceptions] == ["b fails"]
        assert await others() == []
        assert ring.statistics().balanced

    asyncio.run(run())


def test_the_others_go_on_where_the_failure_of_one_is_caught(file: Path) -> None:
    async def forgiving(events: FlowSubscriber[Any]) -> None:
        async with events:  # it leaves, so nobody waits for it
            with pytest.raises(ZeroDivisionError):
                await count(events, 3)

    async def run() -> None:
        async with Netring.replay(file) as ring, asyncio.TaskGroup() as group:
            group.create_task(forgiving(ring.subscribe()))
            other = group.create_task(count(ring.subscribe(kinds=FlowEnded)))
        assert other.result() == FLOWS

    asyncio.run(run())


# -- loops --


def test_one_process_may_run_asyncio_again(file: Path) -> None:
    for _ in range(2):
        assert asyncio.run(read_file(file, [])) == FLOWS


def test_a_ring_is_used_once_and_what_it_left_can_be_read_later(file: Path) -> None:
    ring = Netring.replay(file, buffer=1 << 20)
    events = ring.subscribe(kinds=FlowEnded)

    async def enter() -> None:
        async with ring:
            pass

    asyncio.run(enter())
    assert len(asyncio.run(events.next_batch())) > 0
    with pytest.raises(ClosedError, match="was used before"):
        asyncio.run(enter())


def test_a_runner_keeps_a_ring_from_call_to_call(file: Path) -> None:
    with asyncio.Runner() as runner:
        ring = Netring.replay(file)
        events = ring.subscribe(kinds=FlowEnded)  # before a loop could read the file
        runner.run(ring.__aenter__())
        assert isinstance(runner.run(events.__anext__()), FlowEnded)
        assert runner.run(count(events)) == FLOWS - 1
        runner.run(ring.close())
    assert ring.statistics().balanced


def test_a_subscriber_may_be_read_by_one_task_after_another_but_not_by_two_at_once() -> None:
    async def run() -> None:
        broadcast = FlowBroadcast()
        events = broadcast.subscribe()
        first = asyncio.create_task(events.__anext__())
        second = asyncio.create_task(events.__anext__())
        with pytest.raises(RuntimeError, match="subscribe twice"):
            await second
        broadcast.publish([started(1), started(2)])
        assert await first == started(1)
        assert await asyncio.create_task(events.__anext__()) == started(2)

    asyncio.run(run())


@pytest.mark.parametrize("is_closed_at_last", [False, True])
def test_a_ring_whose_loop_was_closed_early_can_be_closed(
    file: Path, pipe: str, is_closed_at_last: bool
) -> None:
    loop = asyncio.new_event_loop()
    ring = loop.run_until_complete(Netring.replay(pipe).__aenter__())
    events = ring.subscribe()
    loop.run_until_complete(asyncio.sleep(QUIET))
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with pytest.raises(EventLoopError, match="another event loop, which is closed"):
        asyncio.run(events.__anext__())
    if is_closed_at_last:
        for _ in range(2):
            asyncio.run(ring.close())
        assert asyncio.run(events.next_batch()) == []
        assert ring.statistics().balanced
        del ring
    else:
        with pytest.warns(ResourceWarning, match="unclosed Netring"):
            del ring
    assert "netring" not in " ".join(thread.name for thread in threading.enumerate())


def test_another_loop_may_neither_close_a_ring_nor_wait_for_its_events(pipe: str) -> None:
    async def run() -> None:
        async with Netring.replay(pipe) as ring:
            events = ring.subscribe()
            for wrong in (ring.close, events.next_batch):
                with pytest.raises(EventLoopError, match="another event loop, which still runs"):
                    await asyncio.to_thread(asyncio.run, wrong())
        assert await events.next_batch() == []

    asyncio.run(run())


def test_uvloop_reads_a_file(file: Path) -> None:
    import uvloop

    assert uvloop.run(read_file(file, [])) == FLOWS


# -- anyio and trio --


def test_anyio_on_asyncio_reads_a_file_in_a_group(file: Path) -> None:
    import anyio

    found: dict[str, int] = {}

    async def read(name: str, events: FlowSubscriber[Any]) -> None:
        found[name] = await count(events)

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            async with Netring.replay(file) as ring, anyio.create_task_group() as group:
                group.start_soon(read, "a", ring.subscribe(kinds=FlowEnded))
                group.start_soon(read, "b", ring.subscribe(kinds=FlowStarted))

    anyio.run(main, backend="asyncio")
    assert found == {"a": FLOWS, "b": FLOWS}


def test_a_scope_of_anyio_that_ends_leaves_a_ring_that_closes(pipe: str) -> None:
    import anyio

    async def main() -> None:
        ring = Netring.replay(pipe)
        with anyio.move_on_after(QUIET * 5) as scope:
            async with ring:
                await anext(ring.subscribe())
        assert scope.cancelled_caught
        await ring.close()  # anyio cancelled the wait for this as well
        assert ring.statistics().balanced
        assert await others() == []

    anyio.run(main, backend="asyncio")


def test_trio_is_told_that_asyncio_is_needed(file: Path) -> None:
    import trio

    broadcast = FlowBroadcast(1)
    events, batches = broadcast.subscribe(), broadcast.subscribe_batches()
    ring = Netring.replay(file)

    async def main() -> None:
        for call in (
            ring.__aenter__,
            lambda: ring.set_filter("udp"),
            events.__anext__,
            events.next_batch,
            batches.__anext__,
        ):
            with pytest.raises(EventLoopError, match="no asyncio event loop runs in this thread"):
                await call()
        broadcast.publish([started(1)])
        with pytest.raises(EventLoopError, match=r"asyncio\.run"):
            await broadcast.wait_room(1)
        assert await anext(events) == started(1)  # what is there needs no loop
        await ring.close()

    trio.run(main)
    assert isinstance(EventLoopError(), RuntimeError)
    assert asyncio.run(read_file(file, [])) == FLOWS


# -- a notebook --


def test_reading_flows_works_in_any_running_loop(file: Path) -> None:
    import trio

    def read() -> int:
        with read_flows(file) as flows:
            return len(list(flows))

    async def in_a_cell() -> int:
        return read()

    async def in_a_thread() -> int:
        return await trio.to_thread.run_sync(read)

    assert asyncio.run(in_a_cell()) == FLOWS
    assert trio.run(in_a_cell) == FLOWS
    assert trio.run(in_a_thread) == FLOWS


def test_the_prompt_of_asyncio_takes_await_at_the_top(file: Path) -> None:
    lines = f"""
import netring_bpf as nr
ring = nr.Netring.replay({str(file)!r})
events = ring.subscribe(kinds=nr.FlowEnded)
batches = ring.subscribe_batches(kinds=nr.FlowEnded)
ring = await ring.__aenter__()
print("first", type(await anext(events)).__name__)
events.close()
print("all", sum([len(batch) async for batch in batches]))
await ring.close()
print("balanced", ring.statistics().balanced)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "asyncio"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    shown = [line.rpartition(">>> ")[2] for line in done.stdout.splitlines()]
    wanted = ["first FlowEnded", f"all {FLOWS}", "balanced True"]
    assert [line for line in shown if line] == wanted, done.stderr


@pytest.mark.long
def test_the_cells_of_a_notebook_await_at_the_top(file: Path, tmp_path: Path) -> None:
    cells = [
        "import netring_bpf as nr",
        f"ring = nr.Netring.replay({str(file)!r})\nevents = ring.subscribe(kinds=nr.FlowEnded)",
        "ring = await ring.__aenter__()",
        "type(await anext(events)).__name__",
        "await ring.close()\nring.statistics().balanced",
        f"async with nr.Netring.replay({str(file)!r}) as ring, ring.subscribe() as events:\n"
        "    starts = [event async for event in events if isinstance(event, nr.FlowStarted)]\n"
        "len(starts)",
        f"with nr.read_flows({str(file)!r}) as flows:\n    ended = len(list(flows))\nended",
    ]
    program = f"""
import nbformat
from nbclient import NotebookClient

book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, {cells!r})))
NotebookClient(book, timeout={PATIENCE}, kernel_name="python3").execute()
for cell in book.cells:
    for output in cell.outputs:
        if "data" in output:
            print(output["data"]["text/plain"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["'FlowEnded'", "True", str(FLOWS), str(FLOWS)], done.stderr
