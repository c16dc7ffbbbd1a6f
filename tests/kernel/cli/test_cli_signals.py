"""The signals of the command line: what each does, while it opens, waits, reads and writes."""

from __future__ import annotations

import os
import pty
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from netring_bpf.filter.libpcap import Savefile
from tests.kernel.cli.command import (
    COMMAND,
    LIMIT,
    NO_LOSSES_OF_FRAMES,
    Finished,
    Flows,
    Lines,
    query,
    send,
    summary,
)
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.process import spawn
from tests.support.replay import START, Frame
from tests.support.rig import PORT
from tests.support.savefiles import pcap

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
live = pytest.mark.requires("root", "netns", "bcc")


class Command:
    """``netring-bpf`` with these arguments, and its lines as they come."""

    def __init__(self, *arguments: str, stdin: int = subprocess.DEVNULL, **options: object) -> None:
        start = options.pop("start", spawn)
        self.process = start(  # type: ignore[operator]
            [COMMAND, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            **options,
        )  # fmt: skip
        self.err, self.out = Lines(self.process.stderr), Lines(self.process.stdout)

    def finish(self, *numbers: signal.Signals) -> Finished:
        for number in numbers:
            self.process.send_signal(number)
        return Finished(self.process.wait(LIMIT), self.out.all(), self.err.all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.err.all()
        self.out.all()


def file_summary(count: int) -> list[str]:
    return [
        f"{count} frames read, 0 filtered out, {count} with a flow",
        f"{count} flows started, {count} ended",
    ]


def capture(count: int) -> bytes:
    return pcap([Frame(udp("10.0.0.1", "10.0.0.2", 1024 + n, 9), START) for n in range(count)])


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


# -- files and pipes --


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_the_wait_for_a_fifo_without_a_writer(
    fifo: Path, number: signal.Signals
) -> None:
    with Command("flows", "-r", str(fifo), "--json") as command:
        command.err.wait_for(lambda line: "reading" in line)
        done = command.finish(number)
    assert (done.status, done.out) == (0, [])
    assert done.err == [f"netring-bpf: reading {fifo}", *file_summary(0)]


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_signal_ends_the_wait_for_standard_input(kind: str, number: signal.Signals) -> None:
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()[::-1]
    try:
        with Command("flows", "-r", "-", "--json", stdin=theirs) as command:
            command.err.wait_for(lambda line: "reading" in line)
            done = command.finish(number)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.status, done.out) == (0, [])
    assert done.err == ["netring-bpf: reading -", *file_summary(0)]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_loses_nothing_that_has_come(number: signal.Signals) -> None:
    theirs, ours = os.pipe()
    try:
        with Command("flows", "-r", "-", "--json", "--events", "ended", stdin=theirs) as command:
            command.err.wait_for(lambda line: "reading" in line)
            os.write(ours, capture(500))
            done = command.finish(number)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.status == 0
    assert [record["event"] for record in done.records] == ["ended"] * 500
    assert done.err == ["netring-bpf: reading -", *file_summary(500)]


@pytest.mark.requires("root", "netns", "bcc", "tcpdump")
def test_what_tcpdump_writes_is_printed_as_it_comes(namespace: Namespace) -> None:
    theirs, ours = os.pipe()
    tcpdump = namespace.popen(
        ["tcpdump", "-i", PORT, "-U", "-w", "-", "udp"], stdout=ours, stderr=subprocess.PIPE
    )
    os.close(ours)
    assert tcpdump.stderr is not None
    said = Lines(tcpdump.stderr)
    try:
        with Command("flows", "-r", "-", "--json", stdin=theirs) as command:
            os.close(theirs)
            said.wait_for(lambda line: "listening on" in line)
            for port in (1001, 1002):
                send(namespace, query(port))
                command.out.wait_for(lambda line, port=port: f'"orig_port":{port}' in line)
            done = command.finish(signal.SIGINT)
    finally:
        tcpdump.kill()
        tcpdump.wait()
        said.all()
    assert done.status == 0
    assert done.err[1:] == file_summary(2)


def test_sigusr1_prints_the_statistics_of_a_file_and_goes_on() -> None:
    theirs, ours = os.pipe()
    try:
        with Command("flows", "-r", "-", "--json", stdin=theirs) as command:
            command.err.wait_for(lambda line: "reading" in line)
            os.write(ours, capture(3))
            for port in (1024, 1025, 1026):
                command.out.wait_for(lambda line, port=port: f'"orig_port":{port}' in line)
            command.process.send_signal(signal.SIGUSR1)
            command.err.wait_for(lambda line: "flows started" in line)
            done = command.finish(signal.SIGTERM)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.status == 0
    assert done.err == [
        "netring-bpf: reading -",
        "3 frames read, 0 filtered out, 3 with a flow",
        "3 flows started, 0 ended",
        *file_summary(3),
    ]


def test_a_full_disk_of_the_printed_events_is_told_after_the_summary(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(capture(3))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "flows", "-r", str(path), "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=LIMIT,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        *file_summary(3),
        "netring-bpf: write to standard output: No space left on device (errno 28)",
    ]


# -- interfaces --


@live
def test_sighup_ends_flows_with_closing_records_and_a_summary(namespace: Namespace) -> None:
    with Flows(namespace, "--backend", "af_xdp", "--events", "ended").capturing() as command:
        send(namespace, query(1001))
        command.process.send_signal(signal.SIGUSR1)
        command.err.wait_for(lambda line: "flows started" in line)
        done = command.finish(signal.SIGHUP)
    assert done.status == 0
    assert [record["orig_port"] for record in done.records] == [1001]
    assert done.err[-5:] == summary(1, keyed=1, seen=1, passed=0, started=1, ended=1)


@live
def test_more_hangups_do_not_cut_the_closing_short(namespace: Namespace) -> None:
    with Flows(namespace, "--backend", "af_xdp", "--events", "ended").capturing() as command:
        send(namespace, query(1001))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
            command.process.send_signal(number)
        done = command.finish()
    assert done.status == 0
    assert done.err[-5:] == summary(1, keyed=1, seen=1, passed=0, started=1, ended=1)


@live
@pytest.mark.parametrize("name", ["flows", "record"])
def test_nohup_keeps_sighup_away(namespace: Namespace, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    more = ["-w", str(path)] if name == "record" else ["--json"]
    process = namespace.popen(
        ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", COMMAND, name, "-i", PORT,
         "--backend", "tpacket_v3", "-c", "1", *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    err = Lines(process.stderr)
    try:
        err.wait_for(lambda line: f" {PORT} (" in line)
        process.send_signal(signal.SIGHUP)
        send(namespace, query(1001))
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        err.all()


@live
@pytest.mark.parametrize("name", ["flows", "record"])
def test_sigusr1_while_it_opens_never_kills(
    namespace: Namespace, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRING_BPF_CACHE", "")  # forces a compilation
    more = ["-w", str(tmp_path / "a.pcapng")] if name == "record" else ["--json"]
    with Command(name, "-i", PORT, "--backend", "af_xdp", *more, start=namespace.popen) as command:
        children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
        deadline = time.monotonic() + LIMIT
        tasks = children.parents[1]
        while not any((task / "children").read_text() for task in tasks.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        command.process.send_signal(signal.SIGUSR1)
        word = "capturing" if name == "flows" else "recording"
        command.err.wait_for(lambda line: line == f"netring-bpf: not {word} yet")
        command.err.wait_for(lambda line: line.startswith(f"netring-bpf: {word} "))
        command.process.send_signal(signal.SIGUSR1)
        command.err.wait_for(lambda line: "0 frames " in line)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0


@live
@pytest.mark.parametrize("number", ENDING)
def test_a_signal_ends_a_recording_with_closing_blocks_and_a_summary(
    namespace: Namespace, number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "a.pcapng"
    arguments = ["record", "-i", PORT, "--backend", "af_xdp", "-w", str(path), "udp"]
    with Command(*arguments, start=namespace.popen) as command:
        command.err.wait_for(lambda line: "recording" in line)
        send(namespace, *(query(1000 + n) for n in range(300)))
        done = command.finish(number)
    assert done.status == 0
    assert done.err[1:] == [
        f"netring-bpf: 300 frames written to 1 files, {path.stat().st_size} bytes",
        "netring-bpf: 300 frames seen, 0 dropped by the kernel",
        f"netring-bpf: {NO_LOSSES_OF_FRAMES}",
    ]
    with Savefile(path) as file:
        assert len(list(file)) == 300
    data = path.read_bytes()
    [size] = struct.unpack("=I", data[-4:])
    assert struct.unpack_from("=I", data, len(data) - size) == (5,)  # interface statistics


@live
def test_sigusr1_prints_the_counts_of_a_recording(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    arguments = ["record", "-i", PORT, "--backend", "af_xdp", "-w", str(path), "udp"]
    with Command(*arguments, start=namespace.popen) as command:
        command.err.wait_for(lambda line: "recording" in line)
        send(namespace, *(query(1000 + n) for n in range(50)))
        command.process.send_signal(signal.SIGUSR1)
        command.err.wait_for(lambda line: "frames seen" in line)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0
    assert done.err[-3].startswith("netring-bpf: 50 frames written to 1 files, ")
    assert len(done.err) == 7
