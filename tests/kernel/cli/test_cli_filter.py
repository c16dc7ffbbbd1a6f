"""``netring-bpf filter``: the listing, and the count of a file's frames by every engine."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import Filter
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.replay import Frame
from tests.support.savefiles import Interface, section

COMMAND = Path(sys.executable).with_name("netring-bpf")
ENGINES = [
    "libpcap",
    "python",
    pytest.param("tpacket"),
    pytest.param("xdp", marks=pytest.mark.requires("root", "bcc")),
]
FRAMES = [
    *(udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(5)),
    *(tcp("10.0.0.1", "10.0.0.2", n, 80, vlans=(100,)) for n in range(3)),
    icmp_echo("2001:db8::1", "2001:db8::2", 1, 1),
]


def pcap(path: Path, frames: list[bytes], *, cut: int = 65_535, linktype: int = 1) -> Path:
    out = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, linktype)
    for frame in frames:
        out += struct.pack("=IIII", 1, 0, len(frame[:cut]), len(frame)) + frame[:cut]
    path.write_bytes(out)
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "filter", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("expression", "count"),
    [("udp", 5), ("tcp", 0), ("vlan 100 and tcp port 80", 3), ("ip6", 1), ("", 9), ("arp", 0)],
)
def test_every_engine_counts_the_same_frames_of_a_file(
    engine: str, expression: str, count: int, tmp_path: Path
) -> None:
    done = command(expression, "-r", pcap(tmp_path / "f.pcap", FRAMES), "--engine", engine)
    assert (done.stdout, done.stderr, done.returncode) == (f"{count}\n", "", 0)


def test_an_expression_may_be_several_words() -> None:
    assert command("tcp", "port", "80").stdout == f"{len(Filter('tcp port 80').instructions)}\n"


def test_the_listing_is_tcpdump_s() -> None:
    done = command("--explain", "tcp port 80")
    assert done.stdout == Filter("tcp port 80").explain() + "\n"
    both = command("--explain", "--count", "tcp port 80").stdout.splitlines()
    assert both[-1] == str(len(both) - 1)


def test_the_listing_of_a_file_is_for_its_link_type(tmp_path: Path) -> None:
    path = pcap(tmp_path / "raw.pcap", [frame[14:] for frame in FRAMES], linktype=12)
    done = command("--explain", "udp", "-r", path)
    assert done.stdout == Filter("udp", linktype=12).explain() + "\n"
    assert command("udp", "-r", path, "--count").stdout == "5\n"


@pytest.mark.requires("root")
def test_the_listing_for_an_interface_loads_the_vlan_tag_beside_the_frame() -> None:
    assert "vlanp" in command("--explain", "-i", "lo", "vlan 7").stdout
    assert "vlanp" not in command("--explain", "vlan 7").stdout


@pytest.mark.parametrize("engine", ["tpacket", "xdp"])
@pytest.mark.requires("root", "bcc")
def test_a_cut_frame_s_length_is_an_error_in_the_kernel(engine: str, tmp_path: Path) -> None:
    path = pcap(tmp_path / "cut.pcap", FRAMES, cut=40)
    assert command("greater 60", "-r", path).stdout == "9\n"
    assert command("udp", "-r", path, "--engine", engine).stdout == "5\n"
    done = command("greater 60", "-r", path, "--engine", engine)
    assert done.returncode == 1
    assert "choose the engine 'python'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tcp prot 80"], "syntax error"),
        (["ip", "-r", "/nowhere.pcap"], "No such file"),
        (["ip", "-r", __file__], "neither pcap nor pcapng"),
        (["vlan", "-i", "nosuch0"], "nosuch0"),
    ],
)
def test_an_error_is_one_line_and_status_1(arguments: list[str], words: str) -> None:
    done = command(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert words in done.stderr
    assert done.stderr.startswith("netring-bpf: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_breaks_off_is_counted_up_to_there(tmp_path: Path) -> None:
    path = pcap(tmp_path / "f.pcap", FRAMES)
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    done = command("udp or ip6", "-r", path)
    assert (done.stdout, done.returncode) == ("5\n", 1)
    last = len(data) - 16 - len(FRAMES[-1])
    assert f"at byte {last}: the file ends inside of a record" in done.stderr


@pytest.mark.parametrize("engine", ENGINES[:2])
def test_a_file_is_read_as_a_replay_reads_it(engine: str, tmp_path: Path) -> None:
    """Packed, of several link types and of both byte orders."""
    whole = [Frame(data) for data in FRAMES]
    raw = [Frame(data[14:]) for data in FRAMES if data[12:14] != b"\x81\0"]
    both = section([Interface(), Interface(101)],
                   [*((0, f) for f in whole), *((1, f) for f in raw)])  # fmt: skip
    path = tmp_path / "f.pcapng.gz"
    path.write_bytes(
        gzip.compress(both + section([Interface()], [(0, f) for f in whole], order=">"))
    )
    done = command("udp", "-r", path, "--engine", engine)
    assert (done.stdout, done.stderr, done.returncode) == ("15\n", "", 0)
    done = command("vlan and tcp", "-r", path, "--engine", engine)
    assert (done.stdout, done.returncode) == ("6\n", 0)
    assert "frames of link type 101 are left out: " in done.stderr
    listed = command("--explain", "udp", "-r", path).stdout
    assert listed == "".join(
        f"link type {linktype}:\n{Filter('udp', linktype=dlt, snaplen=262_144).explain()}\n"
        for linktype, dlt in ((1, 1), (101, 12))
    )


def test_a_file_without_frames_has_the_listing_of_its_link_type(tmp_path: Path) -> None:
    path = pcap(tmp_path / "raw.pcap", [], linktype=101)
    assert command("--explain", "udp", "-r", path).stdout == (
        Filter("udp", linktype=12).explain() + "\n"
    )
    assert command("udp", "-r", path).stdout == "0\n"
    assert "syntax error" in command("tcp prot 80", "-r", path).stderr


def test_a_file_and_an_interface_at_once_are_refused(tmp_path: Path) -> None:
    done = command("udp", "-i", "lo", "-r", pcap(tmp_path / "f.pcap", FRAMES))
    assert done.returncode == 2
