"""Files printed without an event loop: waits that end, and counters in between."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import FlowEnded, FlowOptions, Netring
from tests.support.frames import udp
from tests.support.patience import PATIENCE, wait_until
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
FLOWS = 5000


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.pcap"
    frames = [Frame(udp("10.0.0.1", "10.0.0.2", 1 + n, 9), START + n * 1000) for n in range(FLOWS)]
    path.write_bytes(pcap(frames))
    return path


@pytest.mark.parametrize("end", ["signal", "duration"])
def test_a_reader_that_takes_nothing_does_not_keep_the_command(many: Path, end: str) -> None:
    """The output is larger than a pipe, so that the command waits for its reader."""
    ours, theirs = os.pipe()
    command = [COMMAND, "flows", "-r", str(many), "--json"]
    if end == "duration":
        command += ["--duration", "2"]
    try:
        with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None
            assert "reading" in child.stderr.readline()
            if end == "signal":
                wait_until(lambda: not select.select([], [theirs], [], 0)[1])  # the pipe is full
                child.send_signal(signal.SIGINT)
            told = child.stderr.read().splitlines()
            assert child.wait(PATIENCE) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    assert told[0] == ("netring-bpf: nothing reads standard output: some events were not printed")
    assert told[-1].endswith(" ended")
    assert [line for line in told if "books off" in line] == []


def test_what_was_measured_of_packets_is_in_the_lines(many: Path) -> None:
    measured = FlowOptions(events=(FlowEnded,), packet_statistics=True, first_packets=3)

    async def read() -> list[str]:
        async with Netring.replay(many, flow=measured) as ring:
            events = ring.subscribe(kinds=FlowEnded)
            return [e.to_json() async for e in events if isinstance(e, FlowEnded)]

    command = [COMMAND, "flows", "-r", str(many), "--json", "--events", "ended"]
    command += ["--packet-statistics", "--first-packets", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == asyncio.run(read())


def test_a_duration_of_years_is_no_more_than_poll_takes(many: Path) -> None:
    command = [COMMAND, "flows", "-r", str(many), "--json", "--duration", "1e9"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert done.stderr.endswith(f"{FLOWS} ended\n")


def test_a_reader_that_leaves_is_no_error(many: Path) -> None:
    command = f"{COMMAND} flows -r {many} --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_the_counters_are_printed_every_so_many_seconds(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [COMMAND, "flows", "-r", str(fifo), "--json", "--stats-interval", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        for _ in range(3):
            child.stderr.readline()
        child.send_signal(signal.SIGTERM)
        told = child.stderr.read()
        assert child.wait(PATIENCE) == 0
    assert "0 flows started, 0 ended" in told


def test_no_event_loop_is_loaded(many: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-c", "from netring_bpf.cli import main; main()"]
    done = subprocess.run(
        [*command, "flows", "-r", many, "--json"], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded & {"asyncio", "logging", "ssl", "subprocess", "shutil"} == set()
    assert len(done.stdout.splitlines()) == 2 * FLOWS
