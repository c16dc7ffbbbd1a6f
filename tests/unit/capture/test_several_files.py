"""Several capture files are one capture: in the order of times, with flows that go on."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from netring_bpf import CaptureError, Event, FlowEnded, FlowOptions, Netring
from netring_bpf.capture.replay import Replay
from netring_bpf.errors import CaptureFileError, FilterError, OptionError
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.replay import SECOND, START, FileStory, Frame, replay_file
from tests.support.savefiles import Interface, pcap, section

A, B = "10.0.0.1", "10.0.0.2"
CONNECTION = [
    Frame(tcp(A, B, 4000, 80, flags="S", seq=10), START),
    Frame(tcp(B, A, 80, 4000, flags="SA", seq=20, ack=11), START + 1_000_000),
    Frame(tcp(A, B, 4000, 80, flags="A", seq=11, ack=21), START + 2_000_000),
    Frame(udp(A, B, 1000, 53, b"ask"), START + 3_000_000),
    Frame(tcp(A, B, 4000, 80, b"hello", flags="PA", seq=11, ack=21), START + 4_000_000),
    Frame(tcp(B, A, 80, 4000, flags="A", seq=21, ack=16), START + 5_000_000),
    Frame(udp(B, A, 53, 1000, b"answer"), START + 6_000_000),
    Frame(tcp(A, B, 4000, 80, flags="FA", seq=16, ack=21), START + 7_000_000),
    Frame(icmp_echo(A, B, 5, 1), START + 8_000_000),
    Frame(tcp(B, A, 80, 4000, flags="FA", seq=21, ack=17), START + 9_000_000),
    Frame(tcp(A, B, 4000, 80, flags="A", seq=17, ack=22), START + SECOND),
]


def written(folder: Path, files: dict[str, bytes]) -> list[Path]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def told(story: FileStory) -> list[tuple[object, ...]]:
    assert story.error is None
    return [
        (type(e).__name__, e.ts, e.flow.start, str(e.flow.key), e.flow.history, e.flow.orig,
         e.flow.resp)
        for e in story.events
    ]  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> FileStory:
    [path] = written(tmp_path, {"whole": pcap(CONNECTION)})
    return replay_file(path)


def raw(frames: Sequence[Frame]) -> list[Frame]:
    """The frames without their Ethernet headers, so that only IP is the same."""
    return [Frame(f.data[14:], f.ts) for f in frames]


def test_rotated_files_are_one_capture_in_the_order_of_their_times(
    tmp_path: Path, whole: FileStory
) -> None:
    parts = {name: pcap(CONNECTION[at : at + 3]) for at, name in zip((0, 3, 6, 9), "dbca",
             strict=True)}  # fmt: skip
    paths = written(tmp_path, parts)
    for given in (paths, paths[::-1], str(tmp_path / "[a-d]"), [tmp_path / "[bd]", *paths[2:]]):
        story = replay_file(given)
        assert told(story) == told(whole)
        assert (story.books.file_frames, story.books.keyed) == (11, 11)
    tcp_flow = next(e for e in whole.ended if e.flow.key.proto == 6)
    assert tcp_flow.flow.history == "ShADaFf"


def test_files_of_the_same_time_are_read_together(tmp_path: Path, whole: FileStory) -> None:
    paths = written(
        tmp_path,
        {
            "microseconds": pcap(CONNECTION[0::3]),
            "nanoseconds, other order": pcap(CONNECTION[1::3], kind="ns", order=">"),
            "pcapng": section([Interface(resolution=9)], [(0, f) for f in CONNECTION[2::3]]),
        },
    )
    assert told(replay_file(paths)) == told(whole)


def test_files_of_other_links_packed_or_not_go_together(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        {
            "ethernet": pcap(CONNECTION[0::2]),
            "raw ip": gzip.compress(pcap(raw(CONNECTION[1::2]), linktype=101)),
        },
    )
    story = replay_file(paths)
    connection = next(e for e in story.ended if e.flow.key.proto == 6)
    assert connection.flow.conn_state == "SF"
    assert (connection.flow.orig.packets, connection.flow.resp.packets) == (5, 3)
    assert (story.books.keyed, story.books.flows.started) == (11, 3)
    filtered = replay_file(paths, filter="udp")
    assert (filtered.books.file_filtered, filtered.books.keyed) == (9, 2)


@pytest.mark.parametrize("overlap", [False, True], ids=["rotated", "overlapping"])
def test_the_end_of_many_files_is_reached(tmp_path: Path, overlap: bool) -> None:
    count = 150
    frames = [Frame(udp(A, B, 1000 + n, 9), START + n * SECOND) for n in range(count)]
    if overlap:  # each file goes on until the third after it begins
        parts = [[frames[n], *frames[n + 3 : n + 4 if n % 3 == 0 else n + 3]] for n in range(count)]
    else:
        parts = [[frame] for frame in frames]
    paths = written(tmp_path, {f"cap{n}.pcap": pcap(part) for n, part in enumerate(parts)})
    story = replay_file(str(tmp_path / "cap*.pcap"), FlowOptions(update_interval=None))
    assert len(paths) == count
    assert story.error is None
    assert story.books.keyed == sum(map(len, parts))
    times = [e.flow.start for e in story.events if not isinstance(e, FlowEnded)]
    assert times == sorted(times)
    assert story.books.flows.started == count


def test_more_files_of_one_time_than_can_be_read_at_once_are_refused(tmp_path: Path) -> None:
    data = pcap([Frame(udp(A, B, 1, 2), START + n * SECOND) for n in range(2)])
    written(tmp_path, {f"cap{n}": data for n in range(65)})
    story = replay_file(tmp_path / "cap*")
    assert isinstance(story.error, CaptureFileError)
    assert "merge some first" in str(story.error)


def test_empty_captures_among_many_files_do_not_matter(tmp_path: Path) -> None:
    written(tmp_path, {f"empty{n}": pcap([]) for n in range(70)})
    written(tmp_path, {"full": pcap(CONNECTION)})
    story = replay_file([tmp_path / "full", tmp_path / "empty*"])
    assert story.error is None
    assert story.books.keyed == 11


def test_a_broken_file_does_not_end_the_others(tmp_path: Path) -> None:
    first, broken, last = written(
        tmp_path,
        {
            "first": pcap(CONNECTION[:4]),
            "broken": pcap(CONNECTION[4:8])[:-5],
            "last": pcap(CONNECTION[8:]),
        },
    )
    story = replay_file([last, broken, first])
    assert isinstance(story.error, CaptureFileError)
    assert story.error.path == broken
    assert story.error.offset == len(pcap(CONNECTION[4:7]))
    assert (story.books.file_frames, story.books.keyed) == (10, 10)


def test_of_several_broken_files_each_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = written(tmp_path, {name: pcap([f])[:-1] for name, f in zip("ab", CONNECTION,
                    strict=False)})  # fmt: skip
    story = replay_file(paths)
    messages = [str(story.error), *(record.getMessage() for record in caplog.records)]
    assert [str(path) in text for path, text in zip(paths, messages, strict=True)] == [True, True]


def test_pipes_are_read_in_the_order_of_times_as_they_fill(
    tmp_path: Path, whole: FileStory
) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    writers = []
    for path, frames in zip(paths, (CONNECTION[0::2], CONNECTION[1::2]), strict=True):
        os.mkfifo(path)
        writers.append(os.open(path, os.O_RDWR))
        os.write(writers[-1], pcap(frames))
    try:

        async def main() -> list[Event]:
            seen: list[Event] = []
            ring = Netring.replay(paths, flow=FlowOptions(update_interval=None))
            async with ring:
                events = ring.subscribe()
                for end in writers:
                    os.close(end)
                writers.clear()
                seen += [event async for event in events]
            assert ring.statistics().balanced
            return seen

        seen = asyncio.run(main())
    finally:
        for end in writers:
            os.close(end)
    wanted = [(name, ts) for name, ts, *_ in told(whole)]
    assert [type(e).__name__ for e in seen] == [name for name, _ in wanted]
    # The end has the time at which the pipes ended: theirs goes on by the clock.
    began = [(type(e).__name__, e.ts) for e in seen if not isinstance(e, FlowEnded)]
    assert began == [(name, ts) for name, ts in wanted if name != "FlowEnded"]


def test_a_stop_ends_the_reading_of_several_pipes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    [file] = written(tmp_path, {"file": pcap(CONNECTION)})
    try:
        os.write(end, pcap(CONNECTION[:1]))

        async def main() -> None:
            async with Netring.replay([path, file]) as ring:
                await anext(ring.subscribe())
            assert ring.statistics().balanced
            assert ring.error is None

        asyncio.run(main())
    finally:
        os.close(end)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], OptionError, "no capture file"),
        (["a", "a"], OptionError, "given twice"),
        (["a", "[ab]"], OptionError, "given twice"),
        (["a", "c"], CaptureFileError, "No such file"),
        (["x*"], CaptureFileError, "no file has a name like this"),
    ],
)
def test_names_that_make_no_sense_are_refused(
    tmp_path: Path, names: list[str], error: type[Exception], words: str
) -> None:
    written(tmp_path, {"a": pcap(CONNECTION), "b": pcap(CONNECTION)})
    with pytest.raises(error, match=words):
        Replay([tmp_path / name for name in names]).open()
    with pytest.raises(FilterError):
        Replay([tmp_path / "a", tmp_path / "b"], filter="no such word").open()


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    written(tmp_path, {"a[1]": pcap(CONNECTION), "a1": pcap([])})
    assert replay_file(tmp_path / "a[1]").books.keyed == 11


def test_what_a_replay_of_several_files_is(tmp_path: Path) -> None:
    paths = written(tmp_path, {"a": pcap(CONNECTION[:4]), "b": pcap(CONNECTION[4:])})
    size = sum(path.stat().st_size for path in paths)

    async def main() -> None:
        async with Netring.replay(paths) as ring:
            assert ring.interface == f"{paths[0]} and 1 more"
            async for event in ring.subscribe(errors="event"):
                assert not isinstance(event, CaptureError)
                read, whole = ring.progress or (0, 0)
                assert whole == size
                assert read <= size
        assert ring.progress == (size, size)

    asyncio.run(main())
