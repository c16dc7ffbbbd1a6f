"""Several files after ``-r``, in all the ways in which people give them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.frames import tcp, udp
from tests.support.replay import START, Frame
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"
COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
FRAMES = [
    Frame(tcp(A, B, 4000, 80, flags="S", seq=10), START),
    Frame(udp(A, B, 1000, 53, b"ask"), START + 1000),
    Frame(udp(B, A, 53, 1000, b"answer"), START + 2000),
    Frame(tcp(B, A, 80, 4000, flags="RA", ack=11), START + 3000),
]


def written(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)


def printed(folder: Path, *words: str) -> list[str]:
    command = [COMMAND, "flows", "--format", "csv", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


@pytest.mark.parametrize(
    "line",
    [
        "-r a.pcap -r b.pcap",
        "-r b.pcap -r a.pcap",
        "-r a.pcap b.pcap",
        "-ra.pcap b.pcap",
        "-r *.pcap",
        "-r a.* b*",
    ],
)
def test_the_command_takes_several_files_in_any_way(tmp_path: Path, line: str) -> None:
    written(tmp_path, {"a.pcap": pcap(FRAMES[:2]), "b.pcap": pcap(FRAMES[2:]), "udp": b""})
    assert len(printed(tmp_path, *line.split())) == 2
    assert len(printed(tmp_path, "udp", *line.split(), "port", "53")) == 1


def test_a_word_of_a_filter_is_no_file_after_two_dashes(tmp_path: Path) -> None:
    written(tmp_path, {"a.pcap": pcap(FRAMES), "(udp)": pcap([])})
    command = [COMMAND, "flows", "-r", "a.pcap", "--", "(udp)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "4 frames read, 2 filtered out" in done.stderr
