"""Capture files as a source: every form of pcap and pcapng, and files that are broken."""

from __future__ import annotations

import gzip
import os
import queue
import struct
import threading
from pathlib import Path

import pytest

from netring_bpf import FlowOptions, NetringError
from netring_bpf._core import ffi
from netring_bpf.capture.replay import Replay
from netring_bpf.errors import CaptureFileError, FilterError, OptionError
from tests.support.frames import tcp, udp
from tests.support.replay import SECOND, START, FileStory, Frame, replay, replay_file
from tests.support.savefiles import Interface, pcap, section

A, B = "10.0.0.1", "10.0.0.2"
FRAMES = [
    Frame(udp(A, B, 1000, 53, b"ask"), START + 1_000),
    Frame(udp(B, A, 53, 1000, b"answer"), START + 5_123_456_000),
    Frame(tcp(A, B, 2000, 80, flags="S"), START + 5_200_000_000),
    Frame(tcp(A, B, 2000, 80, b"x" * 1000, flags="A")[:200], START + 5_300_000_000, len=1054),
]
RAW = [Frame(f.data[14:], f.ts, None if f.len is None else f.len - 14) for f in FRAMES]


def told(story: FileStory) -> list[tuple[object, ...]]:
    return [
        (str(e.flow.key), e.flow.start, e.flow.last, e.flow.orig.packets, e.flow.resp.packets,
         e.flow.orig.ip_bytes, e.flow.orig.payload, e.flow.history, e.reason)
        for e in story.ended
    ]  # fmt: skip


def in_memory() -> list[tuple[object, ...]]:
    events, books = replay(FRAMES)
    return told(FileStory([events], books, None))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


FORMS = {
    **{
        f"pcap {kind} {name}": pcap(FRAMES, kind=kind, order=order)
        for kind in ("us", "ns", "modified")
        for name, order in (("little", "<"), ("big", ">"))
    },
    **{
        f"pcapng {name} {block}": section([Interface()], [(0, f) for f in FRAMES],
                                          order=order, block=block)
        for name, order in (("little", "<"), ("big", ">"))
        for block in (6, 2)
    },
    "pcapng nanoseconds": section([Interface(resolution=9)], [(0, f) for f in FRAMES]),
    "pcapng picoseconds": section(
        [Interface(resolution=12, offset=1_699_999_999)], [(0, f) for f in FRAMES]
    ),
    "pcapng with an offset": section(
        [Interface(resolution=9, offset=1_600_000_000)], [(0, f) for f in FRAMES]
    ),
    "pcapng two interfaces, two links, two resolutions": section(
        [Interface(), Interface(101, 9)],
        [(0, FRAMES[0]), (1, RAW[1]), (0, FRAMES[2]), (1, RAW[3])],
    ),
    "pcapng two sections of either order": section([Interface()], [(0, FRAMES[0])])
    + section([Interface(101, 9)], [(0, f) for f in RAW[1:]], order=">"),
    "raw ip": pcap(RAW, linktype=101),
    "null": pcap([Frame(b"\x02\0\0\0" + f.data, f.ts, f.len and f.len + 4) for f in RAW],
                 linktype=0),
    "loopback": pcap([Frame(b"\0\0\0\x02" + f.data, f.ts, f.len and f.len + 4) for f in RAW],
                     linktype=108),
    "cooked": pcap(
        [Frame(bytes(14) + b"\x08\0" + f.data, f.ts, f.len and f.len + 16) for f in RAW],
        linktype=113,
    ),
    "cooked 2": pcap(
        [Frame(b"\x08\0" + bytes(18) + f.data, f.ts, f.len and f.len + 20) for f in RAW],
        linktype=276,
    ),
    "nflog": pcap(
        [Frame(b"\x02\0\0\0" + b"\x06\0\x0a\0ab\0\0" + struct.pack("<HH", 4 + len(f.data), 9)
               + f.data, f.ts, f.len and f.len + 16) for f in RAW],
        linktype=239,
    ),
    "backbone and vn-tag": pcap(
        [Frame(bytes(12) + b"\x88\xe7\0\0\0\x01" + f.data[:12] + b"\x89\x26\0\0\0\0"
               + f.data[12:], f.ts, f.len and f.len + 24) for f in FRAMES],
    ),
    "ppp": pcap([Frame(b"\xff\x03\0\x21" + f.data, f.ts, f.len and f.len + 4) for f in RAW],
                linktype=9),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_form_gives_the_same_flows(tmp_path: Path, form: str, packed: bool) -> None:
    data = gzip.compress(FORMS[form]) if packed else FORMS[form]
    story = replay_file(written(tmp_path / "file", data))
    assert story.error is None
    assert story.books.file_frames == len(FRAMES)
    assert told(story) == in_memory()


def test_simple_packets_have_no_time_and_are_read(tmp_path: Path) -> None:
    frames = [(0, f) for f in FRAMES[:3]]
    story = replay_file(written(tmp_path / "file", section([Interface()], frames, block=3)))
    assert story.error is None
    assert [e.flow.packets for e in story.ended] == [1, 2]
    assert {e.flow.last for e in story.ended} == {0}


def test_a_resolution_that_is_a_power_of_two(tmp_path: Path) -> None:
    frames = [(0, Frame(FRAMES[0].data, START + 750_000_000))]
    data = section([Interface(resolution=0x80 | 10)], frames)
    story = replay_file(written(tmp_path / "file", data))
    assert story.ended[0].flow.start == START + 750_000_000


@pytest.mark.parametrize(
    ("seconds", "stamp"), [(10**11, 2**63 - 1), (9_223_372_036, 9_223_372_036 * SECOND)]
)
def test_times_after_2262_become_the_last_nanosecond(
    tmp_path: Path, seconds: int, stamp: int
) -> None:
    frames = [(0, Frame(FRAMES[0].data, seconds * SECOND))] * 4
    story = replay_file(written(tmp_path / "file", section([Interface(resolution=6)], frames)))
    assert [(e.flow.start, e.flow.last, e.flow.packets) for e in story.ended] == [
        (stamp, stamp, 4)
    ]  # fmt: skip


def test_times_before_1970_become_1970(tmp_path: Path) -> None:
    data = section([Interface(offset=-3)], [(0, Frame(FRAMES[0].data, -2 * SECOND))])
    story = replay_file(written(tmp_path / "file", data))
    assert story.ended[0].flow.start == 0


def test_a_pipe_is_read_as_it_fills(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = FORMS["pcap us little"]

    def write() -> None:
        with fifo.open("wb", buffering=0) as sink:
            for at in range(0, len(data), 7):
                sink.write(data[at : at + 7])

    writer = threading.Thread(target=write)
    writer.start()
    story = replay_file(fifo)
    writer.join()
    assert story.error is None
    assert told(story) == in_memory()


@pytest.mark.parametrize("form", ["pcap us little", "pcapng big 6"])
def test_a_file_cut_anywhere_gives_the_flows_up_to_there(tmp_path: Path, form: str) -> None:
    whole = FORMS[form]
    ends = []  # where each record ends
    for count in range(len(FRAMES) + 1):
        frames = FRAMES[:count]
        ends.append(
            len(pcap(frames))
            if form.startswith("pcap ")
            else len(section([Interface()], [(0, f) for f in frames], order=">"))
        )
    first = ends[0]
    for length in range(first, len(whole), 13):
        story = replay_file(written(tmp_path / "file", whole[:length]))
        complete = sum(end <= length for end in ends) - 1
        assert story.books.file_frames == complete
        if length in ends:
            assert story.error is None
        else:
            assert isinstance(story.error, CaptureFileError)
            assert story.error.offset == max(end for end in ends if end <= length)
            assert f"at byte {story.error.offset}" in str(story.error)


BROKEN = {
    "empty": (b"", "it is empty"),
    "text": (b"not a capture file at all", "neither pcap nor pcapng"),
    "version": (b"\xd4\xc3\xb2\xa1\x09\0\x04\0" + bytes(16), "version"),
    "record length": (
        pcap([])[:24] + bytes(8) + b"\xff\xff\xff\x7f" * 2, "length makes no sense",
    ),
    "interface": (
        section([Interface()], []) + b"\x06\0\0\0\x20\0\0\0" + b"\x05\0\0\0" + bytes(16)
        + b"\x20\0\0\0", "not described",
    ),
    "lengths that differ": (
        section([Interface()], [(0, FRAMES[0])])[:-4] + bytes(4), "contradicts itself",
    ),
    "too many interfaces": (section([Interface()] * 65_537, []), "65536 interfaces"),
    "byte order": (b"\x0a\x0d\x0d\x0a" + bytes(24), "neither pcap nor pcapng"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_reason(tmp_path: Path, name: str) -> None:
    data, reason = BROKEN[name]
    story = replay_file(written(tmp_path / "file", data))
    assert isinstance(story.error, CaptureFileError)
    assert reason in str(story.error)
    assert story.error.path == tmp_path / "file"


def test_a_packed_file_that_is_cut_is_named(tmp_path: Path) -> None:
    data = gzip.compress(FORMS["pcap us little"])[:-20]
    story = replay_file(written(tmp_path / "file", data))
    assert isinstance(story.error, CaptureFileError)
    assert "cut short: the gzip data end before their end" in str(story.error)


def test_a_filter_holds_for_every_link_of_the_file(tmp_path: Path) -> None:
    data = FORMS["pcapng two interfaces, two links, two resolutions"]
    story = replay_file(written(tmp_path / "file", data), filter="udp")
    assert (story.books.file_frames, story.books.file_filtered) == (4, 2)
    assert [str(e.flow.key) for e in story.ended] == ["udp 10.0.0.1:1000 > 10.0.0.2:53"]


def test_frames_of_an_unknown_link_are_counted(tmp_path: Path) -> None:
    story = replay_file(written(tmp_path / "file", pcap(FRAMES, linktype=147)))
    assert story.error is None
    assert story.books.not_keyed["unknown_link"] == 4


def test_what_cannot_be_asked_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="counted in the kernel"):
        Replay("file", filter={"web": "port 80"})
    with pytest.raises(FilterError):
        Replay("file", filter="no such word")
    with pytest.raises(CaptureFileError, match="No such file"):
        Replay(tmp_path / "absent").open()
    with pytest.raises(CaptureFileError, match="directory"):
        Replay(tmp_path).open()
    source = Replay(written(tmp_path / "file", FORMS["raw ip"]), flow=FlowOptions())
    with source, pytest.raises(OptionError, match="one filter"):
        source.set_filter("tcp")


@pytest.mark.parametrize(("count", "gap"), [(20_000, 1000), (500, 20 * SECOND)])
def test_a_file_gives_the_same_events_however_slow_their_consumer_is(
    tmp_path: Path, count: int, gap: int
) -> None:
    # After fifty seconds the timers have more to tell, and at once, than there is room for.
    frames = [
        Frame(udp(A, B, 10_000 + n, 9), START + again * 50 * SECOND + n * gap)
        for again in range(2)
        for n in range(count)
    ]
    path = written(tmp_path / "file", pcap(frames))

    def taken(limit: int) -> bytes:
        with Replay(path, flow=FlowOptions(event_slots=8192)) as source:
            done: queue.Queue[NetringError | None] = queue.Queue()
            source.start(done.put)
            events = []
            while done.empty():
                events.append(source.take(limit).raw)
            events += [batch.raw for batch in source.finish(4096)]
            assert source.statistics().events_lost == 0
        return b"".join(events)

    quick, slow = taken(4096), taken(1)
    events = len(quick) // ffi.sizeof("nr_event")
    assert events == 3 * count if gap < SECOND else events > 3 * count
    assert slow == quick
