"""Where a recording cannot be written: it is told, counted, and what there is stays good."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netring_bpf import Capture, Recorder, RecordOptions, RecordStatistics
from netring_bpf.errors import CaptureFileError
from netring_bpf.filter.libpcap import Savefile
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.requires("root", "netns", "bcc", "tcpdump")

SIZE = 1 << 18  # bytes of the disk
FRAMES = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 9, bytes(1300)) for n in range(400)]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as namespace:
        yield namespace


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path, SIZE) as disk:
        yield disk


def port(namespace: Namespace) -> Capture:
    return Capture(PORT, netns=namespace.path, backend="af_xdp", filter="udp")


def recorded(path: Path) -> list[bytes]:
    """The frames of the file, which libpcap and tcpdump read to its end."""
    said = subprocess.run(["tcpdump", "-n", "-r", path], check=True, capture_output=True, text=True)
    with Savefile(path) as file:
        frames = [frame.data for frame in file]
    assert len(said.stdout.splitlines()) == len(frames)
    return frames


def offer(namespace: Namespace, recorder: Recorder, frames: list[bytes]) -> None:
    """Send the frames in small parts and record each."""
    for at in range(0, len(frames), 50):
        part = frames[at : at + 50]
        assert send_frames(namespace, SENDER, part) == len(part)
        recorder.run(count=len(part))


def balanced(recorder: Recorder) -> RecordStatistics:
    books = recorder.statistics()
    assert [str(law) for law in books.equations() if not law.holds] == []
    return books


@pytest.mark.parametrize("name", ["a.pcapng", "a.pcap"])
def test_a_file_on_a_full_disk_ends_on_a_whole_frame(
    namespace: Namespace, disk: SmallDisk, name: str
) -> None:
    path = disk.path / name
    with pytest.raises(CaptureFileError, match="No space left on device") as raised:  # noqa: SIM117
        with Recorder(port(namespace), path) as recorder:
            offer(namespace, recorder, FRAMES)
    books = balanced(recorder)
    frames = recorded(path)
    assert frames == FRAMES[: len(frames)]
    assert (books.written, books.bytes) == (len(frames), path.stat().st_size)
    assert 150 < books.written < 200
    assert books.written + books.unwritten == books.capture.handed_out
    assert books.unwritten > 0
    assert raised.value.offset is not None


def test_frames_of_the_end_are_counted_too(namespace: Namespace, disk: SmallDisk) -> None:
    """Those that the rings still hold when the recording ends."""
    disk.fill(but=100 * len(FRAMES[0]))
    path = disk.path / "a.pcapng"
    with pytest.raises(CaptureFileError, match="No space left"):  # noqa: SIM117
        with Recorder(port(namespace), path) as recorder:
            assert send_frames(namespace, SENDER, FRAMES) == len(FRAMES)
    books = balanced(recorder)
    assert recorded(path) == FRAMES[: books.written]
    assert books.written + books.unwritten == len(FRAMES)


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_of_the_file_s_size_is_as_a_full_disk(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with pytest.raises(CaptureFileError, match="File too large"):  # noqa: SIM117
        with Recorder(port(namespace), path) as recorder, file_size_limit(100_000):
            offer(namespace, recorder, FRAMES)
    books = balanced(recorder)
    assert recorded(path) == FRAMES[: books.written]
    assert 60 < books.written < 80


def test_a_failed_trigger_keeps_the_ring_for_another(namespace: Namespace, disk: SmallDisk) -> None:
    filler = disk.fill(but=50 * len(FRAMES[0]))
    told: list[object] = []
    with Recorder(
        port(namespace), disk.path / "r.pcapng", RecordOptions(ring_time=600.0)
    ) as recorder:
        offer(namespace, recorder, FRAMES[:100])
        recorder.trigger(told.append, told.append)
        recorder.run(duration=0)
        [error] = told
        assert isinstance(error, CaptureFileError)
        assert "No space left on device" in str(error)
        assert [path.name for path in disk.path.iterdir()] == ["filler"]
        assert (recorder.statistics().held, recorder.files) == (100, ())
        filler.unlink()
        offer(namespace, recorder, FRAMES[100:110])
        recorder.trigger(told.append, told.append)
        recorder.run(duration=0)
    path = disk.path / "r-00001.pcapng"
    assert told == [error, path]
    assert recorded(path) == FRAMES[:110]
    books = balanced(recorder)
    assert (books.written, books.held, books.files) == (110, 0, 1)
    assert books.bytes == path.stat().st_size


def test_a_folder_that_is_gone_and_comes_again_costs_no_frame(
    namespace: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with Recorder(port(namespace), folder / "r.pcapng", RecordOptions(ring_time=600.0)) as recorder:
        folder.rmdir()
        offer(namespace, recorder, FRAMES[:10])
        recorder.trigger()
        recorder.run(duration=0)
        assert [record.message for record in caplog.records] == [
            f"write capture file {folder}/r-00001.pcapng: No such file or directory; the ring is "
            "kept"
        ]
        folder.mkdir()
        recorder.trigger()
        recorder.run(duration=0)
    assert recorded(folder / "r-00001.pcapng") == FRAMES[:10]
    assert balanced(recorder).written == 10


def test_a_callback_that_fails_ends_nothing(
    namespace: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> None:
        raise BrokenPipeError(str(path))

    options = RecordOptions(ring_time=600.0)
    with Recorder(port(namespace), tmp_path / "r.pcapng", options) as recorder:
        offer(namespace, recorder, FRAMES[:10])
        recorder.trigger(fail)
        recorder.run(duration=0)
        offer(namespace, recorder, FRAMES[10:20])
        recorder.trigger()
    assert [recorded(path) for path in recorder.files] == [FRAMES[:10], FRAMES[10:20]]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [BrokenPipeError]
    assert balanced(recorder).written == 20


def test_a_trigger_just_before_the_end_is_answered(namespace: Namespace, tmp_path: Path) -> None:
    options = RecordOptions(ring_time=600.0)
    with Recorder(port(namespace), tmp_path / "r.pcapng", options) as recorder:
        assert send_frames(namespace, SENDER, FRAMES[:10]) == 10
        recorder.trigger()
        recorder.stop()
    assert recorded(tmp_path / "r-00001.pcapng") == FRAMES[:10]
    assert balanced(recorder).written == 10


def test_old_files_make_room_before_a_new_one_is_begun(
    namespace: Namespace, disk: SmallDisk
) -> None:
    options = RecordOptions(rotate_size=150_000, max_files=1)
    with Recorder(port(namespace), disk.path / "r.pcapng", options) as recorder:
        disk.fill(but=170_000)
        offer(namespace, recorder, FRAMES)
    books = balanced(recorder)
    assert (books.written, books.unwritten, books.files) == (400, 0, 4)
    assert sorted(path.name for path in disk.path.iterdir()) == ["filler", "r-00004.pcapng"]
    assert recorded(disk.path / "r-00004.pcapng") == FRAMES[300:]


@pytest.mark.parametrize(
    "options",
    [RecordOptions(), RecordOptions(rotate_size=150_000), RecordOptions(ring_time=5.0)],
    ids=["one file", "rotation", "ring"],
)
def test_the_folder_is_looked_at_before_anything_is_captured(
    namespace: Namespace, tmp_path: Path, options: RecordOptions
) -> None:
    capture = port(namespace)
    with pytest.raises(
        CaptureFileError, match=r"the folder .*/absent: No such file or directory; make it first"
    ):
        Recorder(capture, tmp_path / "absent" / "a.pcapng", options).__enter__()
    assert capture.opened.backend == ""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CaptureFileError, match=r"the folder .*/file: Not a directory"):
        Recorder(port(namespace), tmp_path / "file" / "a.pcapng", options).__enter__()


def test_a_folder_that_cannot_be_written_to_is_told_at_once(
    namespace: Namespace, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path, SIZE) as disk:
        pid = disk.path.parts[2]
        subprocess.run(
            ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "mount", "-o", "remount,ro", tmp_path],
            check=True,
        )
        with pytest.raises(CaptureFileError, match="may not be written to"):
            Recorder(
                port(namespace), disk.path / "r.pcapng", RecordOptions(ring_time=1.0)
            ).__enter__()
        with pytest.raises(CaptureFileError, match="Read-only file system"):
            Recorder(port(namespace), disk.path / "r.pcapng").__enter__()
        assert not list(disk.path.iterdir())


def test_a_file_without_room_for_its_header_is_removed(
    namespace: Namespace, disk: SmallDisk
) -> None:
    with contextlib.suppress(OSError):
        disk.fill(but=0)
    with pytest.raises(CaptureFileError, match="No space left"):
        Recorder(port(namespace), disk.path / "a.pcapng").__enter__()
    assert [path.name for path in disk.path.iterdir()] == ["filler"]
