"""Where ``netring-bpf record`` can write to, and what it does when that fails."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
from pathlib import Path
from typing import Self

import pytest

from netring_bpf.filter.libpcap import Savefile
from netring_bpf.recording.pcapng_blocks import PcapngBlocks
from tests.kernel.cli.command import COMMAND, LIMIT, NO_LOSSES_OF_FRAMES, Lines, run
from tests.support.frames import tcp, udp
from tests.support.lab import Namespace
from tests.support.patience import wait_until
from tests.support.rig import PORT, SENDER
from tests.support.sender import send_frames
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.requires("root", "netns", "bcc", "tcpdump")

RECORD = [COMMAND, "record", "-i", PORT, "--backend", "af_xdp"]
FRAMES = [
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"odd"),
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"tagged", vlans=(100,)),
    tcp("2001:db8::1", "2001:db8::2", 1, 2, b"double", vlans=(200, 300)),
]
BIG = [udp("10.0.0.1", "10.0.0.2", 1000 + n, 9, bytes(1300)) for n in range(400)]


class Recording:
    """``netring-bpf record`` with these arguments, once it records."""

    def __init__(
        self, namespace: Namespace, *arguments: str | Path, before: tuple[str, ...] = (),
        stdout: int = subprocess.DEVNULL,
    ) -> None:  # fmt: skip
        command = [*before, *RECORD, *map(str, arguments)]
        self.process = namespace.popen(command, stdout=stdout, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        self._err = Lines(self.process.stderr)
        self._err.wait_for(lambda line: "recording" in line)

    def wait_for(self, words: str) -> None:
        self._err.wait_for(lambda line: words in line)

    def finish(self, *numbers: signal.Signals) -> tuple[int, list[str]]:
        """Return the status, and what was said after the first line."""
        for number in numbers:
            self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        return status, [line.removeprefix("netring-bpf: ") for line in self._err.all()[1:]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._err.all()


def offer(namespace: Namespace, frames: list[bytes]) -> None:
    assert send_frames(namespace, SENDER, frames) == len(frames)


def recorded(path: Path) -> list[bytes]:
    with Savefile(path) as file:
        return [frame.data for frame in file]


# -- standard output --


def test_standard_output_carries_pcapng_as_frames_come(namespace: Namespace) -> None:
    theirs, ours = os.pipe()
    with Recording(namespace, "-w", "-", stdout=ours) as recording:
        os.close(ours)
        with subprocess.Popen(
            ["tcpdump", "-n", "-l", "-e", "-r", "-"], stdin=theirs, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as tcpdump:  # fmt: skip
            os.close(theirs)
            assert tcpdump.stdout is not None
            for _ in range(2):
                offer(namespace, FRAMES)
                lines = [tcpdump.stdout.readline() for _ in FRAMES]
                assert ["vlan 100" in line for line in lines] == [False, True, False]
            status, said = recording.finish(signal.SIGINT)
            tcpdump.communicate(timeout=LIMIT)
            assert tcpdump.returncode == 0
    assert status == 0
    assert said[0].startswith("6 frames written to 1 files, ")


def test_standard_output_may_be_a_file(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with (
        path.open("wb") as file,
        Recording(namespace, "-w", "-", "-c", "3", stdout=file.fileno()) as recording,
    ):
        offer(namespace, FRAMES)
        status, said = recording.finish()
    assert (status, said[0]) == (0, f"3 frames written to 1 files, {path.stat().st_size} bytes")
    assert recorded(path) == FRAMES


def test_a_reader_of_standard_output_that_leaves_ends_it_in_peace(namespace: Namespace) -> None:
    theirs, ours = os.pipe()
    with Recording(namespace, "-w", "-", stdout=ours) as recording:
        os.close(ours)
        assert len(os.read(theirs, 4096)) > 0
        os.close(theirs)
        offer(namespace, FRAMES[:1])
        status, said = recording.finish()
    assert status == 0
    assert said[0].startswith("0 frames written to 1 files, ")
    assert said[1:] == [
        "1 frames seen, 0 dropped by the kernel",
        NO_LOSSES_OF_FRAMES,
        "1 frames could not be written",
    ]


@pytest.mark.parametrize("end", ["signal", "duration"])
def test_a_reader_of_standard_output_that_sleeps_does_not_hold_it(
    namespace: Namespace, end: str
) -> None:
    theirs, ours = os.pipe()
    bounds = ["--duration", "1"] if end == "duration" else []
    with Recording(namespace, "-w", "-", *bounds, stdout=ours) as recording:
        offer(namespace, BIG)
        wait_until(lambda: not select.select([], [ours], [], 0)[1])  # the pipe is full
        os.close(ours)
        status, said = recording.finish(*([signal.SIGTERM] if end == "signal" else []))
    with os.fdopen(theirs, "rb") as stream:
        data = stream.read()
    size, blocks = PcapngBlocks("", snaplen=0, expression="", application="").whole(data, len(data))
    written = blocks - 2  # behind the section's header and the interface
    assert status == 1
    seen = 400 if end == "signal" else int(said[1].split()[0])
    assert 20 < written < seen
    assert said == [
        f"{written} frames written to 1 files, {size} bytes",
        f"{seen} frames seen, 0 dropped by the kernel",
        NO_LOSSES_OF_FRAMES,
        f"{seen - written} frames could not be written",
        "write capture file -: nothing reads it",
    ]


def test_standard_output_that_cannot_take_it_is_told(namespace: Namespace) -> None:
    ours, theirs = pty.openpty()
    try:
        process = namespace.popen([*RECORD, "-w", "-"], stdout=theirs, stderr=subprocess.PIPE)
        with process:
            assert process.stderr is not None
            assert process.stderr.read() == (
                "netring-bpf: write capture file -: standard output is a terminal; pipe it into a "
                "program\n"
            )
        assert process.returncode == 1
    finally:
        os.close(ours)
        os.close(theirs)
    closed = namespace.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *RECORD, "-w", "-"], check=False, timeout=LIMIT
    )
    assert (closed.returncode, closed.stderr) == (
        1, "netring-bpf: write capture file -: standard output is closed\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-w", "-", "--ring-time", "5"],
         "path '-': standard output takes one file; rotation and a ring make several"),
        (["-w", "-", "--rotate-size", "5000"],
         "path '-': standard output takes one file; rotation and a ring make several"),
        (["-w", "a.pcapng.gz"],
         "path 'a.pcapng.gz': capture files are not packed; name it a.pcapng, and pack it "
         "afterwards"),
    ],
)  # fmt: skip
def test_paths_that_make_no_sense_are_wrong_usage(
    namespace: Namespace, flags: list[str], message: str
) -> None:
    done = run(namespace, "record", "-i", PORT, *flags)
    assert done.status == 2
    assert done.err == [
        f"netring-bpf record: error: {message}",
        "try: netring-bpf record --help",
    ]


# -- FIFOs and formats --


def test_a_fifo_is_written_to_once_it_has_a_reader(namespace: Namespace, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = run(namespace, "record", "-i", PORT, "-w", str(fifo))
    assert done.err == [
        f"netring-bpf: write capture file {fifo}: nothing reads this pipe; start its reader first"
    ]
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with Recording(namespace, "-w", fifo, "-c", "3") as recording:
        offer(namespace, FRAMES)
        status, _ = recording.finish()
    (tmp_path / "copy").write_bytes(os.read(reader, 1 << 16))
    os.close(reader)
    assert status == 0
    assert recorded(tmp_path / "copy") == FRAMES


def test_a_name_in_pcap_gives_pcap_with_nanoseconds(namespace: Namespace, tmp_path: Path) -> None:
    both = [tmp_path / "a.pcapng", tmp_path / "a.pcap"]
    said = []
    for path in both:
        with Recording(namespace, "-w", path, "-c", "3") as recording:
            offer(namespace, FRAMES)
            recording.finish()
        assert recorded(path) == FRAMES
        said.append(
            subprocess.run(
                ["tcpdump", "-n", "-e", "-tt", "--nano", "-r", path],
                check=True, capture_output=True, text=True,
            ).stdout
        )  # fmt: skip
    assert both[1].read_bytes()[:4] == struct.pack("=I", 0xA1B23C4D)
    without_times = [[line.split(" ", 1)[1] for line in text.splitlines()] for text in said]
    assert without_times[0] == without_times[1]
    times = [line.split()[0] for line in said[1].splitlines()]
    assert all(abs(float(at) - both[1].stat().st_mtime) < 60 for at in times)
    assert any(not at.endswith("000") for at in times)  # by chance one in a billion is all zeros


# -- what fails --


def test_a_full_disk_is_told_with_what_was_not_written(
    namespace: Namespace, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path, 1 << 18) as disk:
        path = disk.path / "a.pcapng"
        with Recording(namespace, "-w", path) as recording:
            offer(namespace, BIG)
            status, said = recording.finish()
        written = len(recorded(path))
        assert status == 1
        assert said[0] == f"{written} frames written to 1 files, {path.stat().st_size} bytes"
        seen = int(said[1].split()[0])  # frames may come when it has ended
        assert said[1] == f"{seen} frames seen, 0 dropped by the kernel"
        assert said[2] == NO_LOSSES_OF_FRAMES
        assert said[3] == f"{seen - written} frames could not be written"
        assert said[4].endswith(": No space left on device")
        assert said[5:] == []


def test_a_failed_sigusr1_is_told_and_another_writes_the_ring(
    namespace: Namespace, tmp_path: Path
) -> None:
    with SmallDisk(tmp_path, 1 << 18) as disk:
        filler = disk.fill(but=0)
        path = disk.path / "r.pcapng"
        with Recording(namespace, "-w", path, "--ring-time", "600") as recording:
            offer(namespace, BIG[:100])
            recording.process.send_signal(signal.SIGUSR1)
            recording.wait_for(
                f"write capture file {disk.path}/r-00001.pcapng: No space left on device; the "
                "ring is kept"
            )
            filler.unlink()
            recording.process.send_signal(signal.SIGUSR1)
            recording.wait_for("wrote ")
            status, said = recording.finish(signal.SIGTERM)
        frames = recorded(disk.path / "r-00001.pcapng")
    # The signal may have been heard before the last frames were read: those stayed in the ring.
    assert frames == BIG[: len(frames)]
    assert status == 0
    assert said[2].startswith(f"{len(frames)} frames written to 1 files, ")
    assert said[3] == "100 frames seen, 0 dropped by the kernel"
    left = 100 - len(frames)
    assert said[4] == NO_LOSSES_OF_FRAMES
    assert said[5:] == ([f"{left} frames left the ring unwritten"] if left else [])


def test_a_standard_stream_that_is_closed_harms_no_file(
    namespace: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "a.pcapng"
    with Recording(
        namespace, "-w", path, "-c", "3", before=("sh", "-c", 'exec "$@" <&- >&-', "sh")
    ) as recording:
        offer(namespace, FRAMES)
        assert recording.finish()[0] == 0
    assert recorded(path) == FRAMES
    silent = tmp_path / "b.pcapng"
    process = namespace.popen(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *RECORD, "-w", str(silent), "-c", "3"]
    )
    with process:
        wait_until(silent.exists)
        offer(namespace, FRAMES)
        assert process.wait(LIMIT) == 0
    assert recorded(silent) == FRAMES


def test_nobody_who_reads_standard_error_does_not_end_it(
    namespace: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "r.pcapng"
    theirs, ours = os.pipe()
    process = namespace.popen([*RECORD, "-w", str(path), "--ring-time", "600"], stderr=ours)
    os.close(ours)
    try:
        with os.fdopen(theirs) as said:
            assert "recording" in said.readline()
        for number in (1, 2):
            process.send_signal(signal.SIGUSR1)
            wait_until((tmp_path / f"r-0000{number}.pcapng").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
