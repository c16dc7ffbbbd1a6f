"""``netring-bpf record`` as a process: its file, its end, and wrong usage."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from netring_bpf.filter.libpcap import Savefile
from tests.kernel.cli.command import COMMAND, LIMIT, NO_LOSSES_OF_FRAMES, Lines, query, run, send
from tests.support.frames import tcp
from tests.support.rig import PORT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")


def test_a_filter_may_be_several_words_between_flags(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    command = [COMMAND, "record", "udp", "-i", PORT, "port", "-w", str(path), "-c", "2", "53"]
    process = namespace.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    err = Lines(process.stderr)
    try:
        err.wait_for(lambda line: line.startswith(f"netring-bpf: recording {PORT} ("))
        send(namespace, query(1001, dport=54), query(1002), tcp("10.0.0.1", "10.0.0.2", 1, 53))
        send(namespace, query(1003))
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        said = err.all()
    with Savefile(path) as file:
        assert [frame.data for frame in file] == [query(1002), query(1003)]
    assert said[1].startswith("netring-bpf: 2 frames written to 1 files, ")
    assert all(line.startswith("netring-bpf: ") for line in said)


def test_a_signal_ends_it_with_a_summary(namespace: Namespace, tmp_path: Path) -> None:
    command = [COMMAND, "record", "-i", PORT, "-w", str(tmp_path / "a.pcapng")]
    process = namespace.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    err = Lines(process.stderr)
    try:
        err.wait_for(lambda line: line.startswith(f"netring-bpf: recording {PORT} ("))
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        said = err.all()
    assert [line.partition(" frames ")[0] for line in said[1:3]] == ["netring-bpf: 0"] * 2
    assert said[3:] == [f"netring-bpf: {NO_LOSSES_OF_FRAMES}"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rotate-size", "0"], "argument --rotate-size: 0: must be at least 4096"),
        (["--rotate-size", "big"], "argument --rotate-size: big: must be a number, at least 4096"),
        (["--max-files", "2"], "argument --max-files: needs --rotate-size or --rotate-time"),
        (["--ring-time", "0"], "argument --ring-time: 0: must be at least 0.001"),
        (["-c", "none"], "argument -c: none: must be a number, at least 1"),
    ],
)
def test_wrong_values_are_wrong_usage(
    namespace: Namespace, flags: list[str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pcapng"
    done = run(namespace, "record", "-i", PORT, "-w", str(path), *flags)
    assert (done.status, done.out) == (2, [])
    assert done.err == [
        f"netring-bpf record: error: {message}",
        "try: netring-bpf record --help",
    ]
    assert not path.exists()


def test_a_missing_interface_is_one_line(namespace: Namespace, tmp_path: Path) -> None:
    done = run(namespace, "record", "-i", "absent", "-w", str(tmp_path / "a.pcapng"))
    assert (done.status, done.out) == (1, [])
    assert done.err == [
        "netring-bpf: capture on 'absent': there is no such interface in this network namespace; "
        "`ip link` lists them"
    ]
