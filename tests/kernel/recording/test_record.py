"""Recording: what is on the wire is in the file, with names, tags, times and drop counts."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from netring_bpf import Capture, Recorder, RecordOptions, TpacketOptions, XdpOptions
from netring_bpf.errors import CaptureFileError, OptionError
from netring_bpf.filter.libpcap import Savefile
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.replay import replay_file
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc", "tcpdump")

FRAMES = [
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"plain"),
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"tagged", vlans=(100,)),
    tcp("2001:db8::1", "2001:db8::2", 1, 2, b"double", vlans=(200, 300)),
    icmp_echo("10.0.0.1", "10.0.0.2", 1, 1, bytes(range(256)) * 5),
]
QUICK = TpacketOptions(block_size=1 << 16, block_count=8, retire_timeout=0.005)


def port(namespace: Namespace, way: str, **options: object) -> Capture:
    chosen = {"tpacket": QUICK, **WAYS[way].options(), **options}
    return Capture(PORT, netns=namespace.path, **chosen)  # type: ignore[arg-type]


def recorded(path: Path) -> list[bytes]:
    with Savefile(path) as file:
        return [frame.data for frame in file]


def blocks(path: Path) -> dict[int, list[bytes]]:
    """The bodies of a pcapng file's blocks, by their type."""
    data, at = path.read_bytes(), 0
    found: dict[int, list[bytes]] = {}
    while at < len(data):
        kind, length = struct.unpack_from("=II", data, at)
        assert data[at + length - 4 : at + length] == data[at + 4 : at + 8]
        found.setdefault(kind, []).append(data[at + 8 : at + length - 4])
        at += length
    return found


def options_of(body: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at < len(body):
        code, length = struct.unpack_from("=HH", body, at)
        if code == 0:
            break
        found[code] = body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_file_has_every_frame_whole_and_its_statistics(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pcapng"
    with wire() as namespace:
        with Recorder(port(namespace, way, filter="ip or ip6 or vlan"), path) as recorder:
            offered = send_frames(namespace, SENDER, FRAMES * 25)
            recorder.run(count=offered)
        books = recorder.statistics()
    assert [str(law) for law in books.equations() if not law.holds] == []
    assert (books.written, books.files, books.bytes) == (offered, 1, path.stat().st_size)
    assert recorded(path) == FRAMES * 25
    found = blocks(path)
    [interface] = found[1]
    described = options_of(interface, 8)
    assert (described[2], described[9], described[11]) == (
        PORT.encode(), b"\x09", b"\0ip or ip6 or vlan",
    )  # fmt: skip
    [counts] = found[5]
    said = {code: value for code, value in options_of(counts, 12).items() if code >= 4}
    assert {code: int.from_bytes(value, sys.byteorder) for code, value in said.items()} == {
        4: offered, 5: 0, 6: offered, 7: 0, 8: offered,
    }  # fmt: skip
    times = [e.flow.start for e in replay_file(path).ended]
    assert all(abs(time - path.stat().st_mtime_ns) < 60 * 10**9 for time in times)
    assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file.pcapng"
    with wire() as namespace, Recorder(port(namespace, "tpacket_v3"), path) as recorder:
        send_frames(namespace, SENDER, FRAMES)
        recorder.run(count=4)
    said = subprocess.run(
        ["tcpdump", "-n", "-e", "-r", path], check=True, capture_output=True, text=True
    )
    assert len(said.stdout.splitlines()) == 4
    assert "vlan 200" in said.stdout


def test_files_rotate_by_size_and_only_the_latest_are_kept(tmp_path: Path) -> None:
    options = RecordOptions(rotate_size=20_000, max_files=3)
    with wire() as namespace:
        recorder = Recorder(port(namespace, "native"), tmp_path / "r.pcapng", options)
        with recorder:
            for _ in range(40):
                send_frames(namespace, SENDER, FRAMES * 4)
                recorder.run(count=16)
    books = recorder.statistics()
    assert books.written == 640
    assert books.balanced
    kept = sorted(tmp_path.iterdir())
    assert list(recorder.files) == kept
    assert [path.name for path in kept] == [
        f"r-{n:05d}.pcapng" for n in range(books.files - 2, books.files + 1)
    ]
    assert books.files == 20  # a third batch of 16 frames would be too much
    assert max(path.stat().st_size for path in kept) <= 20_000
    assert all(recorded(path)[:4] == FRAMES for path in kept)


def test_files_rotate_by_time(tmp_path: Path) -> None:
    options = RecordOptions(rotate_time=0.5)
    with wire() as namespace:
        recorder = Recorder(port(namespace, "native"), tmp_path / "r.pcapng", options)
        with recorder:
            for _ in range(3):
                send_frames(namespace, SENDER, FRAMES)
                recorder.run(count=4)
                recorder.run(duration=0.6)
    assert [recorded(path) for path in recorder.files] == [FRAMES] * 3


def test_a_trigger_writes_the_last_seconds(tmp_path: Path) -> None:
    options = RecordOptions(ring_time=30.0)
    written: list[Path] = []
    with wire() as namespace:
        recorder = Recorder(port(namespace, "native"), tmp_path / "r.pcapng", options)
        with recorder:
            send_frames(namespace, SENDER, FRAMES * 2)
            recorder.run(count=8)
            assert recorder.files == ()
            recorder.trigger(written.append)
            recorder.run(duration=0)
            send_frames(namespace, SENDER, FRAMES)
            recorder.run(count=4)
            held = recorder.statistics().held
        books = recorder.statistics()
    assert written == [tmp_path / "r-00001.pcapng"]
    assert recorded(written[0]) == FRAMES * 2
    assert (held, books.written, books.held) == (4, 8, 4)
    assert books.balanced


def test_the_ring_forgets_what_is_too_old_or_too_much(tmp_path: Path) -> None:
    with wire() as namespace:
        options = RecordOptions(ring_time=0.5)
        recorder = Recorder(port(namespace, "native"), tmp_path / "a.pcapng", options)
        with recorder:
            send_frames(namespace, SENDER, FRAMES)
            recorder.run(count=4)
            recorder.run(duration=0.6)
            send_frames(namespace, SENDER, FRAMES)
            recorder.run(count=4)
            recorder.trigger()
            recorder.run(duration=0)
        assert recorded(recorder.files[0]) == FRAMES
        assert recorder.statistics().overwritten == 4
        options = RecordOptions(ring_time=60.0, ring_size=4096)
        recorder = Recorder(port(namespace, "native"), tmp_path / "b.pcapng", options)
        with recorder:
            for _ in range(10):
                send_frames(namespace, SENDER, FRAMES)
                recorder.run(count=4)
        assert (recorder.statistics().held, recorder.statistics().overwritten) == (8, 32)


def test_stop_from_another_thread_ends_the_run(tmp_path: Path) -> None:
    small = {"xdp": XdpOptions(ring_size=64, chunks=128)}
    with wire() as namespace:
        capture = Capture(PORT, netns=namespace.path, backend="af_xdp", **small)  # type: ignore[arg-type]
        with Recorder(capture, tmp_path / "x.pcapng") as recorder:
            runner = threading.Thread(target=recorder.run)
            runner.start()
            recorder.stop()
            runner.join(PATIENCE)
            assert not runner.is_alive()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with wire() as namespace:
        with pytest.raises(CaptureFileError, match="No such file"):
            Recorder(port(namespace, "tpacket_v3"), tmp_path / "no" / "x.pcapng").__enter__()
        recorder = Recorder(port(namespace, "tpacket_v3"), tmp_path / "x.pcapng")
        with recorder, pytest.raises(OptionError, match="no ring"):
            recorder.trigger()
        with pytest.raises(CaptureFileError, match="No space left"):
            Recorder(port(namespace, "native"), "/dev/full").__enter__()
    with pytest.raises(OptionError, match="excludes"):
        RecordOptions(ring_time=1.0, rotate_size=10_000)
    with pytest.raises(OptionError, match="max_files"):
        RecordOptions(max_files=2)


def test_the_command(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("netring-bpf")), "record", "-i", PORT]
    command += ["-w", str(tmp_path / "ring.pcapng"), "--ring-time", "60", "udp"]
    with wire() as namespace:
        process = namespace.popen(command, stderr=subprocess.PIPE)
        with process:
            assert process.stderr is not None
            assert "recording vb (af_xdp, native XDP)" in process.stderr.readline()
            send_frames(namespace, SENDER, FRAMES * 3)
            # The command hears the signal when it has read what came before it.
            os.kill(process.pid, signal.SIGUSR1)
            assert "wrote" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(PATIENCE) == 0
    # The signal may have been heard before the last frames were read: those stayed in the ring.
    written = int(re.findall(r"(\d+) frames written to 1 files", said)[0])
    left = sum(map(int, re.findall(r"(\d+) frames left the ring", said)))
    assert written + left == 6
    assert "books off" not in said
    assert recorded(tmp_path / "ring-00001.pcapng") == (FRAMES[:2] * 3)[:written]
