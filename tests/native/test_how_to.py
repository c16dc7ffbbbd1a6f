"""The recipes that read a capture file, each run as a user would, and what it prints."""

from __future__ import annotations

import csv
import json
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scapy.layers.dns import DNS, DNSQR

from tests.native.app.hellos import client_hello, record, server_hello, server_name
from tests.support.examples import EXAMPLES, command, make_lesson, run
from tests.support.frames import tcp, udp
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.process import spawn
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap

LAPTOP, PHONE, CAMERA, SCANNER = "192.168.7.20", "192.168.7.21", "192.168.7.22", "203.0.113.66"
HOSTILE = b"evil\x1b[31m\nname.example"
SHOWN = r"evil\x1b[31m\x0aname.example"
SHOWN_LABEL = SHOWN.replace(".", r"\.")  # a dot inside of a label of DNS
VISITS = (
    f"tcp {LAPTOP}:41001 > 198.51.100.7:443",
    f"tcp {PHONE}:41002 > 198.51.100.8:80",
    f"tcp {CAMERA}:41003 > 198.51.100.9:443",
)
#: Client and fingerprint of the two clients of TLS in the lesson.
OLD_CLIENT = "t10d010100_a8f3e973773c_000000000000"
NEW_CLIENT = "t13d030200_40b44b994229_b9a491fefe05"


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lesson(tmp_path_factory.mktemp("lesson") / "lesson.pcap")


def saved(path: Path, *frames: bytes, step: int = 1000) -> Path:
    path.write_bytes(pcap(Frame(data, START + n * step) for n, data in enumerate(frames)))
    return path


def hostile_lookup(rcode: int = 3) -> list[bytes]:
    # scapy would make labels of the dots; this name is one label.
    name = bytes([len(HOSTILE)]) + HOSTILE + b"\0"
    question = DNS(id=7, qd=DNSQR(qname=name))
    return [
        udp(LAPTOP, "192.168.7.1", 4000, 53, bytes(question)),
        udp("192.168.7.1", LAPTOP, 53, 4000, bytes(DNS(id=7, qr=1, rcode=rcode, qd=question.qd))),
    ]


def visit(hello: bytes, answer: bytes, port: int = 4001) -> list[bytes]:
    server = "192.0.2.9"
    return [
        tcp(LAPTOP, server, port, 443, flags="S", seq=1),
        tcp(server, LAPTOP, 443, port, flags="SA", seq=1, ack=2),
        tcp(LAPTOP, server, port, 443, record(hello), flags="PA", seq=2, ack=2),
        tcp(server, LAPTOP, 443, port, record(answer), flags="PA", seq=2, ack=2 + len(hello) + 5),
    ]


def test_the_lesson_is_the_same_each_time(lesson: Path, tmp_path: Path) -> None:
    assert make_lesson(tmp_path / "again.pcap").read_bytes() == lesson.read_bytes()
    assert len(lesson.read_bytes()) < 50_000


def test_port_scan_tells_the_scanner_once_and_nobody_else(lesson: Path) -> None:
    assert run("port_scan.py", lesson) == (
        [f"{SCANNER} tries ports, the latest {CAMERA}:39"],
        "",
    )


def test_port_scan_counts_places_within_a_minute(tmp_path: Path) -> None:
    def attempts(count: int, step: int) -> Path:
        frames = [tcp(SCANNER, CAMERA, 5000 + n, 1 + n, flags="S", seq=1) for n in range(count)]
        return saved(tmp_path / f"{count}-{step}.pcap", *frames, step=step)

    told = f"{SCANNER} tries ports, the latest {CAMERA}:"
    assert run("port_scan.py", attempts(19, SECOND))[0] == []
    assert run("port_scan.py", attempts(20, SECOND))[0] == [f"{told}20"]
    assert run("port_scan.py", attempts(40, 4 * SECOND))[0] == []
    assert run("port_scan.py", attempts(100, SECOND))[0] == [f"{told}20", f"{told}81"]


def test_port_scan_does_not_count_one_place_twice(tmp_path: Path) -> None:
    frames = [tcp(SCANNER, CAMERA, 5000 + n, 22, flags="S", seq=1) for n in range(40)]
    assert run("port_scan.py", saved(tmp_path / "one.pcap", *frames))[0] == []


def test_failed_lookups_are_told_and_counted(lesson: Path, tmp_path: Path) -> None:
    line = f"{CAMERA}\ttime.camera.example\tA\tNXDOMAIN"
    assert run("failed_lookups.py", lesson) == ([line, line, "2 times: time.camera.example"], "")
    unanswered, _ = hostile_lookup()
    assert run("failed_lookups.py", saved(tmp_path / "one.pcap", unanswered))[0] == [
        f"{LAPTOP}\t{SHOWN_LABEL}\tA\tno answer",
        f"1 times: {SHOWN_LABEL}",
    ]
    file = saved(tmp_path / "refused.pcap", *hostile_lookup(5))
    assert run("failed_lookups.py", file)[0][0] == f"{LAPTOP}\t{SHOWN_LABEL}\tA\tREFUSED"
    file = saved(tmp_path / "good.pcap", *hostile_lookup(0))
    assert run("failed_lookups.py", file)[0] == []


def test_tls_versions_tells_the_old_ones(lesson: Path, tmp_path: Path) -> None:
    assert run("tls_versions.py", lesson) == (
        [
            f"{VISITS[2]}\tcloud.camera.example\tTLSv1.0\tTLS_RSA_WITH_3DES_EDE_CBC_SHA",
            "     1  TLSv1.3   TLS_AES_128_GCM_SHA256",
            "     1  TLSv1.0   TLS_RSA_WITH_3DES_EDE_CBC_SHA  (old)",
        ],
        "",
    )
    hello = client_hello(server_name(HOSTILE))
    for cipher, name, old in (
        (0x009C, "TLS_RSA_WITH_AES_128_GCM_SHA256", True),
        (0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", False),
        (0xC011, "TLS_ECDHE_RSA_WITH_RC4_128_SHA", True),
    ):
        file = saved(tmp_path / "one.pcap", *visit(hello, server_hello(cipher=cipher)))
        *told, table = run("tls_versions.py", file)[0]
        flow = f"tcp {LAPTOP}:4001 > 192.0.2.9:443"
        assert told == [f"{flow}\t{SHOWN}\tTLSv1.2\t{name}"] * old
        assert table == f"     1  TLSv1.2   {name}{'  (old)' * old}"


def test_ja4_list_counts_handshakes_and_clients(lesson: Path, tmp_path: Path) -> None:
    assert run("ja4_list.py", lesson) == (
        [
            f"{OLD_CLIENT}\t1\t1\tcloud.camera.example",
            f"{NEW_CLIENT}\t1\t1\twww.example.org",
        ],
        "",
    )
    hello, answer = client_hello(server_name(HOSTILE)), server_hello()
    twice = [*visit(hello, answer), *visit(hello, answer, 4002)]
    [line] = run("ja4_list.py", saved(tmp_path / "two.pcap", *twice))[0]
    assert line.split("\t")[1:] == ["2", "1", SHOWN]


def test_devices_json_keeps_what_is_known_over_restarts(lesson: Path, tmp_path: Path) -> None:
    devices, state = tmp_path / "devices.json", tmp_path / "state.json"
    lines, _ = run("devices_json.py", lesson, devices, state)
    assert lines == [
        *(f"new: 02:00:00:00:07:{last} -" for last in ("20", "21", "22", "01")),
        f"4 devices in {devices}",
    ]
    known = json.loads(devices.read_text())
    assert [device["mac"][-2:] for device in known] == ["01", "20", "21", "22"]
    assert [device["addresses"] for device in known] == [
        ["192.168.7.1"], [LAPTOP], [PHONE], [CAMERA],
    ]  # fmt: skip
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    nothing = saved(tmp_path / "nothing.pcap", tcp("10.0.0.1", "10.0.0.2", 1, 2, flags="S"))
    lines, _ = run("devices_json.py", nothing, devices, state)
    assert lines == ["new: 02:00:00:00:00:0a -", f"5 devices in {devices}"]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["devices.json", "state.json"]


def test_block_list_prints_the_flows_with_a_network_of_the_list(
    lesson: Path, tmp_path: Path
) -> None:
    networks = tmp_path / "networks.txt"
    networks.write_text("# not ours\n198.51.100.8/31\n2001:db8::/32\n")
    lines, error = run("block_list.py", lesson, networks)
    assert error == f"reading {lesson} by file\n"
    assert lines == [
        f"began\t{VISITS[1]}",
        f"began\t{VISITS[2]}",
        f"ended\t{VISITS[1]}\t3687 bytes",
        f"ended\t{VISITS[2]}\t6066 bytes",
    ]
    networks.write_text("198.51.100.8/24\nno network\n")
    lines, error = run("block_list.py", lesson, networks, status=1)
    assert lines == []
    assert error.startswith("block_list.py: ")
    assert "line 1" in error or "line 2" in error


def test_several_subscribers_read_the_same_capture(lesson: Path) -> None:
    lines, error = run("several_subscribers.py", lesson)
    assert error == ""
    assert Counter(line.split("\t")[0] for line in lines) == {"name": 9, "total": 2, "rate": 2}
    assert [line for line in lines if line.startswith("total")] == [
        "total\ttcp\t39177 bytes",
        "total\tudp\t998 bytes",
    ]
    assert [line for line in lines if line.startswith("rate")] == [
        "rate\t32.0 kbit/s",
        "rate\t11.3 kbit/s",
    ]
    assert lines.count(f"name\t{LAPTOP}\twww.example.org") == 3


def test_batches_numpy_sums_by_port(lesson: Path) -> None:
    lines, error = run("batches_numpy.py", lesson)
    assert error == ""
    assert lines == [
        "tcp/443\t2 flows\t31650 bytes",
        "tcp/80\t1 flows\t3687 bytes",
        *(f"tcp/{port}\t1 flows\t120 bytes" for port in range(20, 28)),
    ]


def test_cut_by_name_keeps_the_frames_of_the_servers(lesson: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    assert run("cut_by_name.py", lesson, "updates.example.org", cut)[0][0] == "198.51.100.8"
    records = subprocess.run(
        [sys.executable, str(EXAMPLES / "names.py"), cut], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert records == f"{PHONE}\thttp\tupdates.example.org\t198.51.100.8\n"
    whole, part = lesson.read_bytes(), cut.read_bytes()
    assert part[:24] == whole[:24]
    assert part[24:] in whole  # the frames of the visit follow each other, as they are
    assert run("cut_by_name.py", lesson, "none.\x1b.example", tmp_path / "x.pcap", status=1) == (
        [],
        f"'none.\\x1b.example' has no server in {lesson}\n",
    )


def test_remote_pipe_prints_flows_as_the_pipe_fills(lesson: Path) -> None:
    lines, error = run("remote_pipe.py", input=lesson.read_bytes())
    assert error == ""
    assert lines[:3] == [
        f"SF\t{VISITS[0]}\t25584\twww.example.org",
        f"SF\t{VISITS[1]}\t3687\tupdates.example.org",
        f"SF\t{VISITS[2]}\t6066\tcloud.camera.example",
    ]
    assert len(lines) == 41
    lines, error = run("remote_pipe.py", input=lesson.read_bytes()[:-10], status=1)
    assert len(lines) == 41  # of the last flow the question alone
    assert error.splitlines()[-1].startswith("remote_pipe.py: read capture file -: at byte ")


def test_remote_pipe_ends_at_a_signal_while_the_pipe_is_open(lesson: Path) -> None:
    pipe = subprocess.PIPE
    with spawn(command("remote_pipe.py"), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.buffer.write(lesson.read_bytes())  # type: ignore[attr-defined]
        process.stdin.flush()
        assert process.stdout.readline() == f"SF\t{VISITS[0]}\t25584\twww.example.org\n"
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert len(process.stdout.readlines()) == 40


def test_community_ids_join_flows_with_a_log(lesson: Path, tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    entries = [
        {"event_type": "alert", "alert": {"signature": "ET \x1b[31mbad"},
         "community_id": "1:7UtVl5DQ3KTsrl5ViwWsBhfcPMI="},
        {"event_type": "flow", "community_id": "1:OayS5edT7ZUE8wsDjOcezlbTWmU="},
        {"event_type": "flow", "community_id": "1:none"},
        {"event_type": "stats"},
    ]  # fmt: skip
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert run("community_id_join.py", lesson, log) == (
        [
            f"ET \\x1b[31mbad\t{VISITS[0]}\tSF\t25584 bytes",
            f"flow\t{VISITS[1]}\tSF\t3687 bytes",
        ],
        "",
    )
    log.write_text("{}\n[[\n")
    assert run("community_id_join.py", lesson, log, status=1) == ([], f"{log}, line 2: no JSON\n")


def test_community_ids_are_those_of_our_own_zeek_log(lesson: Path, tmp_path: Path) -> None:
    log = subprocess.run(
        [ROOT / ".venv" / "bin" / "netring-bpf", "flows", "-r", lesson, "--format", "eve"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "eve.json").write_text(log)
    told = Counter(line.split("\t")[1] for line in run(
        "community_id_join.py", lesson, tmp_path / "eve.json")[0])  # fmt: skip
    assert len(told) == 41


def test_the_tests_of_own_code_pass(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path,
         EXAMPLES / "test_own_code.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("2 passed"), done.stdout


def test_parquet_has_each_flow_once(lesson: Path, tmp_path: Path) -> None:
    target = tmp_path / "flows.parquet"
    lines, error = run("flows_to_parquet.py", lesson, target)
    assert (lines, error) == ([f"41 flows, {target.stat().st_size} bytes"], "")
    table = pq.read_table(target)
    assert table.num_rows == len(set(table["id"].to_pylist())) == 41
    assert sum(table["resp_bytes"].to_pylist()) == 31450
    assert run("flows_to_parquet.py", lesson, target, "udp port 53")[0][0].startswith("6 flows, ")
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(lesson.read_bytes()[:-10])
    lines, error = run("flows_to_parquet.py", broken, tmp_path / "none.parquet", status=1)
    assert lines == []
    assert error.startswith("flows_to_parquet.py: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.pcap", "flows.parquet"]


def test_duckdb_asks_the_capture(lesson: Path, tmp_path: Path) -> None:
    assert run("duckdb_flows.py", lesson)[0][:3] == [
        "www.example.org\t3\t25916",
        "cloud.camera.example\t2\t6242",
        "updates.example.org\t2\t3861",
    ]
    query = "SELECT count(*), sum(orig_bytes) FROM flows WHERE proto = 'udp'"
    assert run("duckdb_flows.py", lesson, query)[0] == ["6\t467"]
    file = saved(tmp_path / "hostile.pcap", *hostile_lookup())
    assert run("duckdb_flows.py", file, "SELECT app_name FROM flows")[0] == [SHOWN_LABEL]
    for wrong in ("SELECT nothing FROM flows", f"SELECT * FROM read_csv('{ROOT}/README.md')"):
        lines, error = run("duckdb_flows.py", lesson, wrong, status=1)
        assert lines == []
        assert error.startswith("duckdb_flows.py: ")


# -- by command --


def test_flows_go_to_csv_and_sqlite_by_commands(lesson: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "files.md").read_text()
    commands = page.partition("## Flows to CSV and SQLite")[2].partition("```sh\n")[2]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.partition("```")[0]],
        cwd=lesson.parent,
        env={"PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with (lesson.parent / "flows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 41
    table = sqlite3.connect(lesson.parent / "flows.db")
    found = table.execute("SELECT sum(orig_bytes + resp_bytes) FROM flows").fetchone()
    table.close()
    assert found == (sum(int(row["orig_bytes"]) + int(row["resp_bytes"]) for row in rows),)
