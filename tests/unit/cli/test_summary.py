"""The summary of the command line leaves no frame out without a word."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.frames import ethernet, tcp, udp
from tests.support.replay import Frame
from tests.support.savefiles import Interface, pcap, section

A, B = "10.0.0.1", "10.0.0.2"
COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
ARP = ethernet(0x0806, bytes(28))
CUT = udp(A, B, 1, 2, b"cut off")[:36]
PLAIN = udp(A, B, 1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def told(path: Path, data: bytes, *words: str) -> list[str]:
    """What the command says of a file with this content, but for the line that names it."""
    path.write_bytes(data)
    command = [COMMAND, "flows", "-r", str(path), "--format", "csv", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    [opening] = [line for line in lines if line.startswith(f"netring-bpf: reading {path}")]
    lines.remove(opening)  # a warning may come before it
    return lines


def frames(data: Sequence[bytes]) -> list[Frame]:
    return [Frame(each) for each in data]


def test_each_reason_is_named_with_its_count(path: Path) -> None:
    cut = [Frame(CUT, len=len(PLAIN))]
    assert told(path, pcap(frames([PLAIN, ARP, ARP]) + cut)) == [
        "4 frames read, 0 filtered out, 1 with a flow",
        "without a flow: 2 not_ip, 1 cut_transport",
        "1 flows started, 1 ended",
    ]


def test_nothing_is_said_of_frames_that_have_a_flow(path: Path) -> None:
    assert told(path, pcap(frames([PLAIN]))) == [
        "1 frames read, 0 filtered out, 1 with a flow",
        "1 flows started, 1 ended",
    ]


def test_packets_inside_of_tunnels_without_a_flow_are_told(path: Path) -> None:
    vxlan = struct.pack("!II", 0x08000000, 5 << 8)
    assert told(path, pcap(frames([udp(A, B, 50_000, 4789, vxlan + ARP)]))) == [
        "1 frames read, 0 filtered out, 1 with a flow",
        "1 packets inside of tunnels without a flow",
        "1 flows started, 1 ended",
    ]


def test_sliced_frames_are_told_with_the_option_that_helps(path: Path) -> None:
    data = pcap(frames([tcp(A, B, 1, 2, b"x" * 1000)[:96], PLAIN]))
    assert told(path, data) == [
        "2 frames read, 0 filtered out, 1 with a flow",
        "without a flow: 1 sliced",
        "1 frames are shorter than their IP length says, as a mirror slices them: --sliced trust "
        "believes that length",
        "1 flows started, 1 ended",
    ]
    assert told(path, data, "--sliced", "trust") == [
        "2 frames read, 0 filtered out, 2 with a flow",
        "2 flows started, 2 ended",
    ]


def test_evicted_flows_are_told_with_the_option_that_helps(path: Path) -> None:
    data = pcap(frames([udp(A, B, 1000 + n, 9) for n in range(50)]))
    assert told(path, data, "--max-flows", "20") == [
        "50 frames read, 0 filtered out, 50 with a flow",
        "50 flows started, 50 ended",
        "30 flows evicted, as the table has room for 20: --max-flows N gives it more",
    ]
    assert told(path, data) == [
        "50 frames read, 0 filtered out, 50 with a flow",
        "50 flows started, 50 ended",
    ]


def test_a_link_type_that_is_not_read_is_named(path: Path) -> None:
    assert told(path, pcap(frames([PLAIN, PLAIN]), linktype=143)) == [
        f"netring-bpf: {path}: link type DOCSIS (143: DOCSIS) is not read: its frames have no flow",
        "2 frames read, 0 filtered out, 0 with a flow",
        "without a flow: 2 unknown_link",
        "0 flows started, 0 ended",
    ]


def test_frames_of_a_link_type_that_is_not_read_are_not_filtered_out(path: Path) -> None:
    data = section([Interface(linktype=143), Interface()], [(n, Frame(PLAIN)) for n in (0, 1, 0)])
    assert told(path, data, "tcp") == [
        f"netring-bpf: {path}: link type DOCSIS (143: DOCSIS) is not read: its frames have no "
        "flow, whatever the filter",
        "3 frames read, 1 filtered out, 0 with a flow",
        "without a flow: 2 unknown_link",
        "0 flows started, 0 ended",
    ]


def test_a_filter_that_makes_no_sense_for_a_link_type_is_told(path: Path) -> None:
    data = section([Interface(linktype=101), Interface()], [(n, Frame(PLAIN)) for n in (0, 1)])
    warning, *rest = told(path, data, "ether host 02:00:00:00:00:0a")
    assert warning.startswith("netring-bpf: frames of link type RAW (101: Raw IP) are left out: ")
    assert rest == ["2 frames read, 1 filtered out, 1 with a flow", "1 flows started, 1 ended"]
