"""A recording overwrites nothing, and follows no link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netring_bpf import Capture, Recorder, RecordOptions
from netring_bpf.errors import CaptureFileError
from netring_bpf.filter.libpcap import Savefile
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAMES = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 9, bytes(1300)) for n in range(8)]
ROTATION = RecordOptions(rotate_size=4096)  # two frames a file
RING = RecordOptions(ring_time=600.0)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as namespace:
        yield namespace


def record(namespace: Namespace, path: Path, options: RecordOptions) -> Recorder:
    """Record two frames at a time."""
    capture = Capture(PORT, netns=namespace.path, backend="af_xdp", filter="udp")
    with Recorder(capture, path, options) as recorder:
        for at in range(0, len(FRAMES), 2):
            send_frames(namespace, SENDER, FRAMES[at : at + 2])
            recorder.run(count=2)
            if options.ring_time is not None:
                recorder.trigger()
                recorder.run(duration=0)
    assert [str(law) for law in recorder.statistics().equations() if not law.holds] == []
    assert recorder.statistics().written == len(FRAMES)
    return recorder


def frames_of(files: tuple[Path, ...]) -> list[bytes]:
    found: list[bytes] = []
    for path in files:
        with Savefile(path) as file:
            found += [frame.data for frame in file]
    return found


@pytest.mark.parametrize("options", [ROTATION, RING], ids=["rotation", "ring"])
def test_a_restart_goes_on_with_the_numbers(
    namespace: Namespace, tmp_path: Path, options: RecordOptions
) -> None:
    path = tmp_path / "r.pcapng"
    first = record(namespace, path, options)
    second = record(namespace, path, options)
    names = [file.name for file in (*first.files, *second.files)]
    assert names == [f"r-{n:05d}.pcapng" for n in range(1, 9)]
    assert frames_of(first.files) == frames_of(second.files) == FRAMES


def test_the_numbers_follow_the_highest(namespace: Namespace, tmp_path: Path) -> None:
    for name in ("r-00003.pcapng", "r-100000.pcapng", "s-200000.pcapng", "r-300000.pcap", "r-9"):
        (tmp_path / name).write_bytes(b"earlier")
    files = record(namespace, tmp_path / "r.pcapng", ROTATION).files
    assert [file.name for file in files] == [f"r-{n}.pcapng" for n in range(100_001, 100_005)]
    assert (tmp_path / "r-00003.pcapng").read_bytes() == b"earlier"


def test_a_number_that_is_taken_meanwhile_is_passed_over(
    namespace: Namespace, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    capture = Capture(PORT, netns=namespace.path, backend="af_xdp", filter="udp")
    with Recorder(capture, tmp_path / "r.pcapng", RING) as recorder:
        (tmp_path / "r-00001.pcapng").write_bytes(b"another's")
        (tmp_path / "r-00002.pcapng").symlink_to(victim)
        (tmp_path / "r-00003.pcapng").symlink_to(tmp_path / "dangling")
        send_frames(namespace, SENDER, FRAMES)
        recorder.run(count=len(FRAMES))
        recorder.trigger()
    assert [file.name for file in recorder.files] == ["r-00004.pcapng"]
    assert frames_of(recorder.files) == FRAMES
    assert victim.read_bytes() == b"victim"
    assert (tmp_path / "r-00001.pcapng").read_bytes() == b"another's"
    assert not (tmp_path / "dangling").exists()


def test_only_files_of_this_recording_are_removed(namespace: Namespace, tmp_path: Path) -> None:
    options = RecordOptions(rotate_size=4096, max_files=2)
    first = record(namespace, tmp_path / "r.pcapng", options)
    second = record(namespace, tmp_path / "r.pcapng", options)
    assert sorted(tmp_path.iterdir()) == [*first.files, *second.files]
    assert [file.name for file in second.files] == ["r-00007.pcapng", "r-00008.pcapng"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_file_that_is_there_is_not_overwritten(
    namespace: Namespace, tmp_path: Path, kind: str
) -> None:
    path, other = tmp_path / "a.pcapng", tmp_path / "other"
    if kind == "file":
        path.write_bytes(b"earlier")
    else:
        path.symlink_to(other)
    if kind == "link":
        other.write_bytes(b"earlier")
    capture = Capture(PORT, netns=namespace.path, backend="af_xdp")
    reason = "is there already, and is not overwritten" if kind == "file" else "a symbolic link"
    with pytest.raises(CaptureFileError, match=reason):
        Recorder(capture, path).__enter__()
    if kind == "dangling link":
        assert not other.exists()
    else:
        assert path.read_bytes() == b"earlier"
