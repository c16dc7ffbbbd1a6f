"""The programs written from the reference alone, on a capture file, as a user would run them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.frames import tcp, udp
from tests.support.paths import ROOT
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap

A, B, C, D = "10.0.0.1", "192.0.2.9", "10.0.0.3", "198.51.100.4"


def conversation() -> list[bytes]:
    """A connection of A to B, closed by both."""
    return [
        tcp(A, B, 40000, 8080, flags="S", seq=1),
        tcp(B, A, 8080, 40000, flags="SA", seq=1, ack=2),
        tcp(A, B, 40000, 8080, flags="A", seq=2, ack=2),
        tcp(A, B, 40000, 8080, b"x" * 100, flags="PA", seq=2, ack=2),
        tcp(B, A, 8080, 40000, b"y" * 900, flags="PA", seq=2, ack=102),
        tcp(A, B, 40000, 8080, flags="FA", seq=102, ack=902),
        tcp(B, A, 8080, 40000, flags="FA", seq=902, ack=103),
        tcp(A, B, 40000, 8080, flags="A", seq=103, ack=903),
    ]


FIRST = conversation()
SECOND_ONE = udp(C, B, 5000, 6000, b"z" * 300)
LATER = udp(D, A, 5001, 6001, b"w" * 20)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conversations in the first ten seconds, and another one later."""
    frames = [Frame(data, START + n * 1000) for n, data in enumerate([*FIRST, SECOND_ONE])]
    frames.append(Frame(LATER, START + 15 * SECOND))
    path = tmp_path_factory.mktemp("examples") / "capture.pcap"
    path.write_bytes(pcap(frames))
    return path


def run(example: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr in {"", f"reading {arguments[0]} by file\n"}
    return done.stdout.splitlines()


def size(frames: list[bytes], source: str) -> int:
    packed = bytes(map(int, source.split(".")))
    return sum(len(frame) for frame in frames if frame[26:30] == packed)


def test_top_talkers_has_the_largest_hosts_of_each_interval(file: Path) -> None:
    a, b, c = size(FIRST, A), size(FIRST, B), len(SECOND_ONE)
    bits = (a + b + c) * 8
    assert run("top_talkers.py", file, "10") == [
        f"22:13:30  {bits / 10 / 1e6:.3f} Mbit/s  {len(FIRST) + 1} packets  2 flows",
        f"\t{B}\t-\t{b}\t{a + c}",
        f"\t{A}\t-\t{a}\t{b}",
        f"\t{C}\t-\t{c}\t0",
        f"22:13:35  {len(LATER) * 8 / 5 / 1e6:.3f} Mbit/s  1 packets  1 flows",
        f"\t{A}\t-\t0\t{len(LATER)}",
        f"\t{D}\t-\t{len(LATER)}\t0",
    ]


def test_new_host_tells_of_each_host_once(file: Path) -> None:
    lines = [
        f"2023-11-14 22:13:20\t{A}\ttcp {A}:40000 > {B}:8080",
        f"2023-11-14 22:13:20\t{C}\tudp {C}:5000 > {B}:6000",
        f"2023-11-14 22:13:35\t{D}\tudp {D}:5001 > {A}:6001",
    ]
    assert run("new_host.py", file) == lines
    assert run("new_host.py", file, "10.0.0.0/8", "2001:db8::/32") == lines[:2]
    assert run("new_host.py", file, "2001:db8::/32") == []


def test_sqlite_flows_stores_each_flow_once(file: Path, tmp_path: Path) -> None:
    database = tmp_path / "flows.db"
    assert run("sqlite_flows.py", database, file, file) == [
        f"{file}\t3\tnew flows",
        f"{file}\t0\tnew flows",
    ]
    table = sqlite3.connect(database)
    rows = table.execute(
        "SELECT start, proto, orig_addr, orig_port, resp_addr, resp_port, orig_bytes, resp_bytes, "
        "conn_state, reason, substr(community_id, 1, 2) FROM flows ORDER BY start"
    ).fetchall()
    table.close()
    t = START / SECOND
    begun = (t, "tcp", A, 40000, B, 8080, size(FIRST, A), size(FIRST, B), "SF", "fin", "1:")
    silent = (t + len(FIRST) / 1e6, "udp", C, 5000, B, 6000, len(SECOND_ONE), 0, "S0")
    assert [row[:9] for row in rows[1:]] == [
        pytest.approx(silent),
        (t + 15, "udp", D, 5001, A, 6001, len(LATER), 0, "S0"),
    ]
    assert rows[0] == begun


def test_pandas_flows_sums_by_protocol_and_pair(file: Path) -> None:
    a, b, c, d = size(FIRST, A), size(FIRST, B), len(SECOND_ONE), len(LATER)
    lines = [line.split() for line in run("pandas_flows.py", file)]
    assert lines == [
        ["flows", "bytes"],
        ["app"],
        ["tcp", "1", str(a + b)],
        ["udp", "2", str(c + d)],
        ["bytes"],
        ["orig_addr", "resp_addr"],
        [A, B, str(a + b)],
        [C, B, str(c)],
        [D, A, str(d)],
    ]
    assert [line.split() for line in run("pandas_flows.py", file, "udp port 6001")][2:] == [
        ["udp", "1", str(d)],
        ["bytes"],
        ["orig_addr", "resp_addr"],
        [D, A, str(d)],
    ]
