"""Flows of a file without an event loop: the same as with one, once, and to the very end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import netring_bpf as nr
from netring_bpf import FlowEnd, FlowEnded, FlowOptions, Netring
from netring_bpf.errors import CaptureFileError, ClosedError, FilterError, ForkError, OptionError
from tests.support.frames import tcp, udp
from tests.support.patience import PATIENCE, wait_until
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"
FLOWS = 3000
ENDED = FlowOptions(events=(FlowEnded,))


def frames(count: int = FLOWS) -> list[Frame]:
    """UDP flows of a packet, and three packets of TCP between them."""
    shake = [
        tcp(A, B, 40_000, 80, flags="S", seq=10),
        tcp(B, A, 80, 40_000, flags="SA", seq=20, ack=11),
        tcp(A, B, 40_000, 80, flags="R", seq=11),
    ]
    many = [Frame(udp(A, B, 1024 + n, 9), START + n * 1_000_000) for n in range(count)]
    return (
        many[:7] + [Frame(f, START + 6_500_000 + n * 1000) for n, f in enumerate(shake)] + many[7:]
    )


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap(frames()))
    return path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def by_netring(path: Path, **options: object) -> tuple[list[FlowEnded], object]:
    async def run() -> tuple[list[FlowEnded], object]:
        async with Netring.replay(path, **options) as ring:  # type: ignore[arg-type]
            ended = [
                event
                async for event in ring.subscribe(kinds=FlowEnded)
                if isinstance(event, FlowEnded)
            ]
        return ended, ring.statistics().capture

    return asyncio.run(run())


@pytest.mark.parametrize("filter", [None, "tcp", "udp port 1030", "port 4"])
def test_the_flows_and_the_books_are_those_of_a_replay(many: Path, filter: str | None) -> None:
    events, books = by_netring(many, flow=ENDED, filter=filter)
    with nr.read_flows(many, filter=filter) as flows:
        found = list(flows)
        assert found == [event.flow for event in events]
        assert [flow.reason for flow in found] == [event.reason for event in events]
    assert flows.statistics() == books
    assert flows.statistics().balanced
    assert flows.error is None


def test_several_files_are_one_capture(tmp_path: Path) -> None:
    whole = frames(100)
    for n in range(3):
        (tmp_path / f"cap-{n}.pcap").write_bytes(pcap(whole[n::3]))
    together = tmp_path / "whole.pcap"
    together.write_bytes(pcap(sorted(whole, key=lambda frame: frame.ts)))
    wanted = [flow[1:] for flow in nr.read_flows(together)]
    assert len(wanted) == 101
    for source in (str(tmp_path / "cap-*.pcap"), sorted(tmp_path.glob("cap-*"))):
        assert [flow[1:] for flow in nr.read_flows(source)] == wanted


def test_each_way_of_reading_gives_all_of_them(many: Path) -> None:
    assert sum(1 for _ in nr.read_flows(many)) == FLOWS + 1
    sizes = [len(batch) for batch in nr.read_flows(many).batches()]
    assert sum(sizes) == FLOWS + 1
    assert all(0 < size <= 4096 for size in sizes)
    with nr.read_flows(many) as flows:
        assert all(isinstance(event, FlowEnded) for b in flows.batches() for event in b)


def test_a_loop_goes_on_where_the_one_before_was_left(many: Path) -> None:
    with nr.read_flows(many) as flows:
        first = []
        for flow in flows:
            first.append(flow.id)
            if len(first) == 10:
                break
        assert [*first, *(flow.id for flow in flows)] == [flow.id for flow in nr.read_flows(many)]


def test_the_flows_are_read_once_and_in_one_way(many: Path) -> None:
    flows = nr.read_flows(many)
    next(iter(flows))
    with pytest.raises(ClosedError, match="read flow by flow already"):
        flows.batches()
    assert sum(1 for _ in flows) == FLOWS
    for again in (flows.__iter__, flows.batches, flows.to_arrow, flows.open):
        with pytest.raises(ClosedError):
            again()


def test_a_broken_file_gives_the_flows_before_the_break_and_then_its_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(pcap(frames(50))[:-5])
    flows = nr.read_flows(path)
    found: list[nr.Flow] = []
    with pytest.raises(CaptureFileError, match="was cut, or is still written") as caught:
        found.extend(flows)
    assert len(found) == 50
    assert caught.value is flows.error
    assert caught.value.path == path
    assert flows.statistics().balanced


@pytest.mark.parametrize("content", [b"", b"no capture at all", pcap([])[:10]])
def test_what_is_no_capture_is_an_error_whatever_reads_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (list, nr.FlowReader.to_arrow, lambda flows: list(flows.batches())):
        with pytest.raises(CaptureFileError):
            read(nr.read_flows(path))


def test_an_empty_capture_has_no_flow(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap([]))
    assert list(nr.read_flows(path)) == []
    table = nr.read_flows(path).to_arrow()
    assert table.num_rows == 0
    assert "orig_addr" in table.schema.names


def test_a_file_that_is_not_there_is_told_at_the_first_use(tmp_path: Path) -> None:
    flows = nr.read_flows(tmp_path / "none.pcap")
    with pytest.raises(CaptureFileError, match="No such file"):
        next(iter(flows))
    with pytest.raises(CaptureFileError), nr.read_flows(tmp_path / "none.pcap"):
        pass
    with pytest.raises(FilterError):
        nr.read_flows(tmp_path / "none.pcap", filter="no filter")
    with pytest.raises(OptionError):
        list(nr.read_flows([]))


def test_leaving_early_frees_everything(many: Path) -> None:
    before = threads_and_descriptors()
    with nr.read_flows(many) as flows:
        next(iter(flows))
    assert threads_and_descriptors() == before
    with pytest.raises(ClosedError):
        next(iter(flows))
    assert flows.statistics().file_frames <= FLOWS + 3


def test_closing_between_two_flows_is_told_to_the_loop(many: Path) -> None:
    flows = nr.read_flows(many)
    closings = (flows.close() for _ in flows)
    with pytest.raises(ClosedError):
        list(closings)


def test_a_reader_that_is_dropped_frees_everything(many: Path) -> None:
    before = threads_and_descriptors()
    next(iter(nr.read_flows(many)))
    for _ in nr.read_flows(many).batches():
        break
    nr.read_flows(many)
    gc.collect()
    assert threads_and_descriptors() == before
    nr_flows = [nr.read_flows(many)]
    nr_flows[0].open()
    with pytest.warns(ResourceWarning, match="unclosed reader"):
        nr_flows.clear()
    assert threads_and_descriptors() == before


def threads_and_descriptors() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def test_reading_needs_no_event_loop(many: Path) -> None:
    code = f"""
import sys
import netring_bpf as nr
with nr.read_flows({str(many)!r}, filter="udp") as flows:
    print(sum(flow.packets for flow in flows), flows.statistics().balanced)
print(nr.read_flows({str(many)!r}).to_arrow().num_rows)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("asyncio", "ssl")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{FLOWS} True", str(FLOWS + 1), "[]"]


def test_it_can_be_read_beside_an_event_loop(many: Path) -> None:
    async def run() -> int:
        return sum(1 for _ in nr.read_flows(many))

    assert asyncio.run(run()) == FLOWS + 1


# -- pipes --


def test_flows_of_a_pipe_come_as_they_end(fifo: Path) -> None:
    end = os.open(fifo, os.O_RDWR)
    try:
        first = [Frame(udp(A, B, 1, 9), START), Frame(udp(A, B, 2, 9), START + 100 * SECOND)]
        os.write(end, pcap(first))
        with nr.read_flows(fifo) as flows:
            assert next(iter(flows)).key.orig.port == 1
            wait_until(lambda: flows.statistics().file_frames == 2)  # by the slice
            flows.stop()
            assert [(flow.key.orig.port, flow.reason) for flow in flows] == [(2, FlowEnd.SHUTDOWN)]
    finally:
        os.close(end)


@pytest.mark.parametrize("call", ["stop", "close"])
def test_another_thread_ends_the_wait_for_a_pipe(fifo: Path, call: str) -> None:
    flows = nr.read_flows(fifo)
    ended: list[object] = []

    def read() -> None:
        try:
            ended.append(list(flows))
        except ClosedError as error:
            ended.append(type(error))

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: flows._reader._reading)
    getattr(flows, call)()
    reader.join(PATIENCE)
    assert ended == [[] if call == "stop" else ClosedError]
    flows.close()


def test_stopping_before_it_is_opened_gives_nothing_of_a_pipe(fifo: Path) -> None:
    flows = nr.read_flows(fifo)
    flows.stop()
    assert list(flows) == []


@pytest.mark.parametrize("way", ["list(flows)", "flows.to_arrow()", "pa.table(flows)"])
def test_ctrl_c_ends_the_wait_for_a_pipe(fifo: Path, way: str) -> None:
    code = f"""
import sys
import pyarrow as pa
import netring_bpf as nr
flows = nr.read_flows({str(fifo)!r})
flows.open()
try:
    print("open", flush=True)
    {way}
except BaseException as error:  # a library may make another error of it
    print("interrupted", flows.statistics().balanced, repr(error))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        state = Path(f"/proc/{child.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")
        child.send_signal(signal.SIGINT)
        said = child.stdout.read()
        assert said.startswith("interrupted True")
        assert "KeyboardInterrupt" in said
        assert child.wait(PATIENCE) == 0


def test_a_forked_child_has_no_part_in_it(many: Path) -> None:
    with nr.read_flows(many) as flows:
        iterator = flows.batches()
        first = len(next(iterator))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in iterator:
                    pass
            except (ForkError, ClosedError):
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        came = first + sum(len(batch) for batch in iterator)
    assert came == sum(flows.statistics().flows.ended.values())
    assert flows.statistics().balanced


# -- interfaces --


@pytest.mark.parametrize(
    "options", [{"duration": -1.0}, {"duration": float("inf")}, {"count": 0}, {"backend": "x"}]
)
def test_wrong_options_of_a_live_capture_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        nr.live_flows("lo", **options)  # type: ignore[arg-type]


def test_an_interface_that_is_not_there_is_told_at_the_first_use() -> None:
    with pytest.raises(nr.NetringError), nr.live_flows("no-such-link"):
        pass
