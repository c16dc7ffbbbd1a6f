"""A capture read from a pipe: what comes is given at once, and any wait can be ended."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netring_bpf import (
    CaptureError,
    Event,
    FlowEnd,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    FlowUpdated,
    Netring,
)
from netring_bpf.capture.replay import Replay
from netring_bpf.errors import CaptureFileError
from tests.support.frames import udp
from tests.support.patience import PATIENCE, wait_until
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"
FLOW = FlowOptions(update_interval=None)


def frames(count: int) -> bytes:
    return pcap([Frame(udp(A, B, 1024 + n, 9), START + n * 1000) for n in range(count)])


HEAD = len(pcap([]))
ONE = frames(1)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@contextlib.contextmanager
def writer(fifo: Path) -> Iterator[int]:
    """The writing end, which blocks as a program's would."""
    end = os.open(fifo, os.O_RDWR)
    try:
        yield end
    finally:
        os.close(end)


def within_reason(main: Callable[[], object]) -> None:
    """Run a coroutine function, which must end by itself."""

    async def run() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()  # type: ignore[misc]

    asyncio.run(run())


def frames_read(ring: Netring) -> int:
    statistics = ring.statistics()
    assert [str(law) for law in statistics.equations() if not law.holds] == []
    return statistics.capture.file_frames


def test_opening_a_fifo_without_a_writer_waits_for_nothing(fifo: Path) -> None:
    async def main() -> None:
        async with Netring.replay(fifo) as ring:
            assert ring.progress == (0, 0)
        assert frames_read(ring) == 0
        assert ring.error is None

    within_reason(main)


def test_a_timeout_ends_the_wait_for_a_pipe(fifo: Path) -> None:
    async def main() -> None:
        ring = Netring.replay(fifo)
        with writer(fifo), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), ring:
                await anext(ring.subscribe())
        assert ring.error is None

    within_reason(main)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_each_flow_is_given_when_its_frame_has_come(
    fifo: Path, pack: Callable[[bytes], bytes], size: int
) -> None:
    """In a packed stream each frame is a member of its own, as from a writer that flushes."""

    async def main() -> None:
        whole = frames(3)
        each = (len(whole) - HEAD) // 3
        parts = [whole[: HEAD + each], whole[HEAD + each : HEAD + 2 * each]]
        with writer(fifo) as end:
            async with Netring.replay(fifo, flow=FLOW) as ring:
                events = ring.subscribe(kinds=FlowStarted)
                for part in parts:
                    packed = pack(part)
                    for at in range(0, len(packed), size):
                        os.write(end, packed[at : at + size])
                    event = await anext(events)
                    assert isinstance(event, FlowStarted)
        assert frames_read(ring) == 2
        assert ring.error is None

    within_reason(main)


def test_time_goes_on_by_the_clock_while_a_pipe_brings_nothing(fifo: Path) -> None:
    """The frame is years old, so no clock but the one of the pause can end its flow."""

    async def main() -> None:
        flow = FlowOptions(idle_udp=0.2, update_interval=0.05)
        with writer(fifo) as end:
            async with Netring.replay(fifo, flow=flow) as ring:
                events = ring.subscribe(kinds=(FlowUpdated, FlowEnded))
                os.write(end, ONE)
                assert isinstance(await anext(events), FlowUpdated)
                async for event in events:
                    if isinstance(event, FlowEnded):
                        break
                assert event.reason is FlowEnd.IDLE
                assert event.flow.last == START
        assert ring.error is None

    within_reason(main)


def test_a_pause_moves_time_no_further_than_it_lasts(fifo: Path) -> None:
    """The second frame comes after a pause, with the time of the first: one flow of an hour."""

    async def main() -> None:
        record = ONE[HEAD:]
        flow = FlowOptions(idle_udp=3600.0, update_interval=0.02)
        with writer(fifo) as end:
            async with Netring.replay(fifo, flow=flow) as ring:
                updates = ring.subscribe(kinds=FlowUpdated)
                ended = ring.subscribe(kinds=FlowEnded)
                os.write(end, ONE)
                for _ in range(3):
                    await anext(updates)
                    os.write(end, record)
            [event] = [event async for event in ended]
        assert isinstance(event, FlowEnded)
        assert event.reason is FlowEnd.SHUTDOWN
        assert event.flow.packets == 4
        assert (event.flow.start, event.flow.last) == (START, START)

    within_reason(main)


def test_closing_reads_what_has_come_to_the_last_frame(fifo: Path) -> None:
    async def main() -> None:
        count = 1000
        with writer(fifo) as end:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
            async with Netring.replay(fifo, flow=FLOW) as ring:
                events = ring.subscribe()
                os.write(end, frames(count))
            seen = [event async for event in events]
        assert frames_read(ring) == count
        assert [type(e) for e in seen].count(FlowStarted) == count
        assert [type(e) for e in seen].count(FlowEnded) == count

    within_reason(main)


def test_a_frame_that_has_come_in_part_is_no_error_of_a_closing(fifo: Path) -> None:
    async def main() -> None:
        with writer(fifo) as end:
            async with Netring.replay(fifo, flow=FLOW) as ring:
                os.write(end, frames(2)[:-5])
        assert frames_read(ring) == 1
        assert ring.error is None

    within_reason(main)


def test_a_writer_that_leaves_in_a_frame_is_an_error(fifo: Path) -> None:
    async def main() -> None:
        end = os.open(fifo, os.O_RDWR)
        seen: list[Event] = []
        async with Netring.replay(fifo, flow=FLOW) as ring:
            os.write(end, frames(2)[:-5])
            events = ring.subscribe(errors="event")
            other = os.open(fifo, os.O_WRONLY)
            os.close(end)
            os.close(other)
            seen = [event async for event in events]
        assert frames_read(ring) == 1
        [error] = [event.error for event in seen if isinstance(event, CaptureError)]
        assert isinstance(error, CaptureFileError)
        assert error.offset == len(ONE)

    within_reason(main)


def test_a_writer_that_goes_on_for_ever_does_not_put_off_the_end(fifo: Path) -> None:
    stopped = threading.Event()
    record = frames(1)[HEAD:]

    def write(end: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(end, frames(0))
            while not stopped.is_set():
                os.write(end, record * 100)

    async def main() -> None:
        reading = Netring.replay(fifo, flow=FLOW)
        async with reading as ring:
            end = os.open(fifo, os.O_WRONLY)
            thread = threading.Thread(target=write, args=(end,))
            thread.start()
            await anext(ring.subscribe(kinds=FlowStarted))
        stopped.set()
        await asyncio.to_thread(thread.join)
        os.close(end)
        assert frames_read(ring) > 0
        assert ring.error is None

    within_reason(main)


def test_closing_waits_for_no_slow_subscriber(fifo: Path) -> None:
    async def main() -> None:
        flow = FlowOptions(update_interval=None, event_slots=1024)
        with writer(fifo) as end:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
            async with Netring.replay(fifo, flow=flow, buffer=2) as ring:
                ring.subscribe(name="never read")
                os.write(end, frames(3000))
        assert frames_read(ring) == 3000
        assert ring.error is None

    within_reason(main)


def test_stopping_does_not_wait_for_events_that_nobody_takes(fifo: Path) -> None:
    ended: list[object] = []
    with writer(fifo) as end:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 1 << 20)
        with Replay(fifo, flow=FlowOptions(update_interval=None, event_slots=1024)) as replay:
            replay.start(ended.append)
            os.write(end, frames(3000))
            wait_until(lambda: replay.statistics().file_frames)
            replay.stop()
            assert ended == [None]
    books = replay.statistics()
    assert 0 < books.file_frames < 3000
    assert books.flows.started == books.file_frames


def test_a_socket_as_standard_input_is_read_as_it_fills() -> None:
    code = """
import asyncio, netring_bpf as nr
async def main():
    async with nr.Netring.replay("-") as ring:
        async for event in ring.subscribe(kinds=nr.FlowStarted):
            print(event.flow.key, flush=True)
asyncio.run(main())
"""
    here, there = socket.socketpair()
    with (
        here,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=there.fileno(), stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        there.close()
        here.sendall(ONE)
        assert process.stdout is not None
        assert process.stdout.readline() == "udp 10.0.0.1:1024 > 10.0.0.2:9\n"
        here.shutdown(socket.SHUT_WR)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_a_pipe_whose_writer_has_left_before_is_read_to_its_end(path: str) -> None:
    theirs, ours = os.pipe()
    os.write(ours, frames(3))
    os.close(ours)
    command = [str(Path(sys.executable).with_name("netring-bpf")), "flows", "-r", path]
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    os.close(theirs)
    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [
        "3 frames read, 0 filtered out, 3 with a flow",
        "3 flows started, 3 ended",
    ]


def test_standard_input_that_is_closed_is_an_error() -> None:
    command = [str(Path(sys.executable).with_name("netring-bpf")), "flows", "-r", "-"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert done.stderr == ("netring-bpf: open capture file -: standard input is closed\n")
