"""``record -r``: a capture file cut to the frames that match, with all that it has beside them."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netring_bpf.capture.file_reader import FileFrame, FileReader
from netring_bpf.errors import CaptureFileError
from netring_bpf.recording.file_cut import CutStatistics, FileCut
from tests.support.frames import tcp, udp
from tests.support.patience import PATIENCE
from tests.support.replay import SECOND, START, Frame, replay_file
from tests.support.savefiles import Interface, any_block, described, head, packet, pcap, section

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
A, B = "10.0.0.1", "10.0.0.2"
UDP = [Frame(udp(A, B, 1000 + n, 53, b"ask" * n), START + n * SECOND + 123_456_000)
       for n in range(5)]  # fmt: skip
TCP = [Frame(tcp(A, B, 1000 + n, 80), START + n * SECOND + 500_000) for n in range(5)]
BOTH = [frame for pair in zip(UDP, TCP, strict=True) for frame in pair]
NAMES, STATISTICS, SECRETS = 4, 5, 10
DROPPED = any_block(STATISTICS, struct.pack("<3IHHQHH", 0, 0, 0, 5, 8, 77, 0, 0))


def cut(source: Path, target: Path, filter: str = "udp", count: int | None = None) -> CutStatistics:
    with FileCut(source, target, filter) as cutting:
        cutting.run(count=count)
    return cutting.statistics()


def frames_of(path: Path) -> list[FileFrame]:
    with FileReader(path) as file:
        return list(file.frames())


def run(*arguments: object, **more: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, "record", *map(str, arguments)], capture_output=True, check=False,
        timeout=PATIENCE, **more,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target.pcapng"


# -- as they are --


def rich(order: str, frames: list[Frame]) -> bytes:
    """A section with something of everything, and these frames: UDP on Ethernet, TCP as raw IP."""
    interfaces = [Interface(resolution=9), Interface(101, 0x80 | 20, 7), Interface()]
    comment = (1, b"a comment")
    parts = [head(order, [comment, (4, b"program")]), *(described(i, order) for i in interfaces)]
    for frame in frames:
        is_raw = frame in TCP
        shown = Frame(frame.data[14:], frame.ts) if is_raw else frame
        options = [comment, (2, b"\0" * 4)]
        parts.append(packet(interfaces, int(is_raw), shown, order=order, options=options))
    parts.append(any_block(NAMES, b"\0" * 4, order) + any_block(SECRETS, b"keys" * 5, order))
    parts.append(
        any_block(STATISTICS, struct.pack(order + "3IHHQHH", 0, 1, 2, 5, 8, 77, 0, 0), order)
    )
    return b"".join(parts)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_loses_only_the_frames_that_do_not_match(
    source: Path, target: Path, order: str
) -> None:
    other = "<" if order == ">" else ">"
    source.write_bytes(rich(order, BOTH) + rich(other, BOTH))
    assert cut(source, target) == CutStatistics(20, 10, target.stat().st_size)
    assert target.read_bytes() == rich(order, UDP) + rich(other, UDP)


@pytest.mark.parametrize("kind", ["us", "ns", "modified"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_pcap_stays_the_kind_that_it_is(
    source: Path, tmp_path: Path, kind: str, order: str, pack: type[bytes]
) -> None:
    source.write_bytes(pack(pcap(BOTH, kind=kind, order=order)))
    target = tmp_path / "target.pcap"
    assert cut(source, target).written == 5
    assert target.read_bytes() == pcap(UDP, kind=kind, order=order)


def test_long_blocks_stay_whole(source: Path, target: Path) -> None:
    interfaces = [Interface()]
    long = [(1, bytes(60_000))] * 50
    kept = packet(interfaces, 0, UDP[0], options=long)
    left = packet(interfaces, 0, TCP[0], options=long)
    others = any_block(SECRETS, bytes(5_000_000)) + described(Interface(options=tuple(long)))
    source.write_bytes(section(interfaces, []) + left + kept + others + left + DROPPED)
    assert cut(source, target).written == 1
    assert target.read_bytes() == section(interfaces, []) + kept + others + DROPPED


def test_every_frame_is_kept_without_a_filter(source: Path, target: Path) -> None:
    source.write_bytes(rich("<", BOTH))
    done = run("-r", source, "-w", target)
    assert (done.returncode, done.stdout) == (0, b"")
    assert target.read_bytes() == source.read_bytes()
    size = target.stat().st_size
    assert done.stderr.decode().splitlines() == [
        f"netring-bpf: reading {source}",
        f"netring-bpf: 10 of 10 frames written, {size} bytes",
    ]


def test_a_count_ends_the_copy(source: Path, target: Path) -> None:
    source.write_bytes(section([Interface()], [(0, f) for f in BOTH]))
    assert cut(source, target, count=2).written == 2
    assert target.read_bytes() == section([Interface()], [(0, f) for f in UDP[:2]])


# -- from one format to the other --


@pytest.mark.parametrize(("kind", "resolution"), [("us", 6), ("ns", 9), ("modified", 6)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pcap_becomes_pcapng_with_its_link_type_and_resolution(
    source: Path, target: Path, kind: str, resolution: int, order: str
) -> None:
    frames = [Frame(f.data[14:], f.ts, len(f.data) + 100) for f in BOTH]
    source.write_bytes(pcap(frames, kind=kind, order=order, linktype=101))
    assert cut(source, target).written == 5
    data = target.read_bytes()
    described_at = struct.unpack_from("=I", data, 4)[0]
    size, linktype = struct.unpack_from("=IH", data, described_at + 4)
    assert linktype == 101
    assert struct.pack("=HHB", 9, 1, resolution) in data[described_at : described_at + size]
    assert frames_of(target) == [FileFrame(101, f.data, f.len or 0) for f in frames[::2]]
    assert [e.flow.start for e in replay_file(target).ended] == [f.ts for f in frames[::2]]


def test_pcapng_becomes_pcap_with_nanoseconds(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.pcap"
    source.write_bytes(section([Interface(resolution=9)], [(0, f) for f in BOTH], order=">"))
    assert cut(source, target).written == 5
    assert target.read_bytes() == pcap(
        UDP, kind="ns", order="<" if sys.byteorder == "little" else ">"
    )


def test_pcap_of_two_link_types_is_refused(source: Path, tmp_path: Path) -> None:
    interfaces = [Interface(), Interface(101)]
    raw = [(1, Frame(f.data[14:], f.ts)) for f in TCP]
    source.write_bytes(section(interfaces, [*((0, f) for f in UDP), *raw]))
    assert cut(source, tmp_path / "udp.pcap").written == 5
    assert cut(source, tmp_path / "tcp.pcap", "tcp").written == 5
    assert {f.linktype for f in frames_of(tmp_path / "tcp.pcap")} == {101}
    with pytest.raises(CaptureFileError, match="the link types 1 and 101 match; choose a name"):
        cut(source, tmp_path / "both.pcap", "ip")
    assert len(frames_of(tmp_path / "both.pcap")) == 5


@pytest.mark.parametrize("name", ["t.pcap", "t.pcapng"])
@pytest.mark.parametrize("data", [pcap(BOTH, linktype=1), section([Interface()], [(0, TCP[0])])])
def test_a_copy_without_frames_is_a_file(
    source: Path, tmp_path: Path, name: str, data: bytes
) -> None:
    source.write_bytes(data)
    assert cut(source, tmp_path / name, "icmp").written == 0
    assert frames_of(tmp_path / name) == []


# -- pipes --


def test_frames_of_a_pipe_are_written_as_they_come(tmp_path: Path) -> None:
    """From standard input to standard output: pcapng, whatever comes in."""
    whole = pcap(UDP)
    first = len(pcap(UDP[:1]))
    with subprocess.Popen(
        [COMMAND, "record", "-r", "-", "-w", "-", "udp"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(whole[:first])
        process.stdin.flush()
        got = b""
        while UDP[0].data not in got:
            got += os.read(process.stdout.fileno(), 4096)
        process.stdin.write(whole[first:])
        process.stdin.close()
        got += process.stdout.read()
        assert process.wait(PATIENCE) == 0
    (tmp_path / "got").write_bytes(got)
    assert [f.data for f in frames_of(tmp_path / "got")] == [f.data for f in UDP]


def test_a_stop_takes_what_a_pipe_has_brought(tmp_path: Path, target: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)
    try:
        os.write(end, section([Interface()], [(0, f) for f in BOTH]))
        with FileCut(fifo, target, "udp") as cutting:
            thread = threading.Thread(target=cutting.run)
            thread.start()
            cutting.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()
    finally:
        os.close(end)
    assert cutting.statistics().written == 5
    assert target.read_bytes() == section([Interface()], [(0, f) for f in UDP])


def test_a_pipe_that_brings_nothing_can_be_left(tmp_path: Path, target: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)
    try:
        with FileCut(fifo, target) as cutting:
            cutting.run(duration=0.01)
    finally:
        os.close(end)
    assert not target.exists()


# -- damage --


def test_a_damaged_file_gives_what_is_before(source: Path, target: Path) -> None:
    whole = section([Interface()], [(0, f) for f in UDP])
    source.write_bytes(whole[:-10])
    with pytest.raises(CaptureFileError, match="ends inside of a record"):
        cut(source, target)
    assert target.read_bytes() == section([Interface()], [(0, f) for f in UDP[:-1]])
    done = run("-r", source, "-w", target.with_name("again.pcapng"))
    assert done.returncode == 1
    assert b"4 of 4 frames written" in done.stderr
    assert b"ends inside of a record" in done.stderr


@pytest.mark.parametrize("filter", ["udp", "tcp"])
def test_a_long_block_that_is_cut_is_not_copied(source: Path, target: Path, filter: str) -> None:
    good = section([Interface()], [(0, UDP[0])])
    long = packet([Interface()], 0, UDP[1], options=[(1, bytes(60_000))] * 100)
    source.write_bytes(good + long[:-1000])
    with pytest.raises(CaptureFileError, match="ends inside of a record"):
        cut(source, target, filter)
    assert target.read_bytes() == (good if filter == "udp" else section([Interface()], []))


def test_a_file_that_is_none_gives_none(source: Path, target: Path) -> None:
    source.write_bytes(b"no capture at all, but a text")
    with pytest.raises(CaptureFileError, match="neither pcap nor pcapng"):
        cut(source, target)
    assert not target.exists()


def test_a_full_disk_leaves_whole_frames(source: Path, target: Path) -> None:
    frames = [(0, Frame(udp(A, B, n, 9, bytes(1000)), START)) for n in range(10_000)]
    source.write_bytes(section([Interface()], frames))
    done = subprocess.run(
        ["prlimit", "--fsize=9000000", COMMAND, "record", "-r", source, "-w", target],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"write capture file" in done.stderr
    written = frames_of(target)
    assert 0 < len(written) < len(frames)
    assert f"{len(written)} of ".encode() in done.stderr


# -- wrong usage --


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-w", "t.pcapng"], "give either -i and an interface, or -r and a file"),
        (["-r", "a", "-i", "lo", "-w", "t"], "give either -i and an interface, or -r and a file"),
        (["-r", "a", "-w", "t", "--ring-time", "3"], "--ring-time is for an interface"),
        (["-r", "a", "-w", "t", "--max-files", "3"], "--max-files is for an interface"),
        (["-r", "a", "-w", "t.pcap.gz"], "capture files are not packed"),
    ],
)
def test_wrong_usage(flags: list[str], words: str) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert words in done.stderr.decode()


def test_no_file_is_overwritten(source: Path, target: Path) -> None:
    source.write_bytes(pcap(UDP))
    target.write_bytes(b"mine")
    done = run("-r", source, "-w", target)
    assert done.returncode == 1
    assert b"it is there already" in done.stderr
    assert target.read_bytes() == b"mine"
    assert run("-r", source, "-w", source).returncode == 1
    assert source.read_bytes() == pcap(UDP)
