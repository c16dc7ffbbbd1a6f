"""The recipes that need an interface, each run as a user would, until a signal ends it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSQR

from netring_bpf.errors import CaptureFileError
from tests.support.examples import Running, command, make_lesson
from tests.support.frames import tcp, udp
from tests.support.lab import Namespace, xdp_attached
from tests.support.patience import PATIENCE, wait_until
from tests.support.replay import replay_file
from tests.support.rig import PORT, SENDER, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

A, B = "10.0.0.1", "10.0.0.2"
ENDS = [signal.SIGINT, signal.SIGTERM]
HTTP = f"tcp {A}:4000 > {B}:80"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as made:
        made.ip("link set lo up")
        yield made


def send(namespace: Namespace, *frames: bytes) -> None:
    assert send_frames(namespace, SENDER, frames) == len(frames)


def syn(port: int, to: int = 80) -> bytes:
    return tcp(A, B, port, to, flags="S", seq=1)


def lookup(name: str, *, rcode: int = 0) -> list[bytes]:
    question = DNSQR(qname=name)
    return [
        udp(A, B, 4001, 53, bytes(DNS(id=7, qd=question))),
        udp(B, A, 53, 4001, bytes(DNS(id=7, qr=1, rcode=rcode, qd=question))),
    ]


def get(namespace: Namespace, url: str) -> str:
    """What a server in the namespace answers."""
    return namespace.run(["curl", "--silent", "--fail", "--max-time", "60", url]).stdout


# -- of files and interfaces --


@pytest.mark.parametrize("number", ENDS)
def test_block_list_sees_the_listed_networks_alone(
    namespace: Namespace, tmp_path: Path, number: int
) -> None:
    networks = tmp_path / "networks.txt"
    networks.write_text("10.0.0.0/30\n")
    with Running(namespace, "block_list.py", PORT, networks) as program:
        assert program.process.stderr is not None
        assert program.process.stderr.readline() == f"reading {PORT} by af_xdp\n"
        send(namespace, tcp("10.0.0.9", "10.0.0.10", 1, 2), syn(4000))
        assert program.line() == f"began\t{HTTP}"
        assert program.end(number) == [f"ended\t{HTTP}\t60 bytes"]


@pytest.mark.parametrize(
    ("name", "arguments", "last"),
    [
        ("port_scan.py", (), []),
        ("failed_lookups.py", (), ["1 times: bad.example"]),
        ("tls_versions.py", (), []),
        ("ja4_list.py", (), []),
        ("devices_json.py", ("devices.json",), ["2 devices in {}devices.json"]),
        ("several_subscribers.py", (), ["total\tudp\t{udp} bytes"]),
        ("batches_numpy.py", (), []),
        ("community_id_join.py", ("log.json",), []),
    ],
)
def test_what_reads_files_reads_an_interface_until_a_signal(
    namespace: Namespace, tmp_path: Path, name: str, arguments: tuple[str, ...], last: list[str]
) -> None:
    frames = lookup("bad.example", rcode=3)
    folder = f"{tmp_path}/"
    (tmp_path / "log.json").write_text("")
    with Running(namespace, name, PORT, *(folder + word for word in arguments)) as program:
        wait_until(lambda: xdp_attached(namespace, PORT))
        wait_until(lambda: handles_signals(program.process.pid))
        send(namespace, *frames)
        said = program.end(signal.SIGTERM)
    size = sum(map(len, frames))
    assert [line for line in said if not line.startswith(("new:", "10.0.0.", "name", "rate"))] == [
        text.format(folder, udp=size) for text in last
    ]


def handles_signals(pid: int) -> bool:
    """Whether SIGTERM of the example behind this process has a handler."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


# -- of interfaces --


@pytest.mark.parametrize("number", ENDS)
def test_link_changes_tells_down_and_up(namespace: Namespace, number: int) -> None:
    with Running(namespace, "link_changes.py", PORT) as program:
        assert program.line() == f"watching {PORT}"
        namespace.ip(f"link set {SENDER} down")
        assert program.line() == f"{PORT} is down"
        namespace.ip(f"link set {SENDER} up")
        program.until(rf"{PORT} is up after \d+\.\d s")
        assert program.end(number) == []


def test_link_changes_ends_with_the_interface(namespace: Namespace) -> None:
    with Running(namespace, "link_changes.py", PORT) as program:
        assert program.line() == f"watching {PORT}"
        namespace.ip(f"link del {PORT}")
        _, error = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 1
    assert f"link_changes.py: capture on {PORT}: the interface is gone" in error


def test_before_alert_writes_what_came_before(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "alert.pcapng"
    with Running(namespace, "before_alert.py", PORT, path, "bad.example") as program:
        assert program.line() == f"waiting for bad.example on {PORT}"
        for number in (1, 2):
            send(namespace, syn(4000 + number), *lookup("good.example"), *lookup("bad.example"))
            written = tmp_path / f"alert-{number:05d}.pcapng"
            assert program.lines(2) == [f"{A} asks for it by dns", f"wrote {written}"]
            flows = replay_file(written).ended
            assert f"tcp {A}:{4000 + number} > {B}:80" in {str(e.flow.key) for e in flows}
        assert program.end(signal.SIGTERM) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_swap_filter_takes_another_filter_at_sighup(namespace: Namespace, tmp_path: Path) -> None:
    expression = tmp_path / "filter.txt"
    expression.write_text("tcp port 80\n")
    with Running(namespace, "swap_filter.py", PORT, expression) as program:
        assert program.line() == f"watching {PORT}"
        send(namespace, syn(4001, 443), syn(4000))
        assert program.line() == HTTP
        expression.write_text("tcp port")
        program.process.send_signal(signal.SIGHUP)
        assert program.line().startswith("the old filter stays: ")
        expression.write_text("tcp port 443\n")
        program.process.send_signal(signal.SIGHUP)
        assert program.line() == "filter: tcp port 443"
        send(namespace, syn(4002), syn(4003, 443))
        assert program.line() == f"tcp {A}:4003 > {B}:443"
        assert program.end(signal.SIGINT) == []


@pytest.mark.parametrize("number", ENDS)
def test_count_by_name_counts_in_the_kernel(namespace: Namespace, number: int) -> None:
    arguments = (PORT, "0.2", "web=tcp port 80", "dns=port 53", "syn=tcp[tcpflags] & tcp-syn != 0")
    with Running(namespace, "count_by_name.py", *arguments) as program:
        assert program.line() == f"counting on {PORT}"
        send(namespace, syn(4000), syn(4001, 443), *lookup("one.example"))
        program.until("web: 1  dns: 2  syn: 2")
        assert program.end(number)[-1] == "web: 1  dns: 2  syn: 2"


def test_slow_subscriber_knows_what_it_missed(namespace: Namespace, tmp_path: Path) -> None:
    path, flows = tmp_path / "flows.json", 1000
    with Running(namespace, "slow_subscriber.py", PORT, "0.01", path) as program:
        assert program.line() == f"storing flows of {PORT}"
        # A connection on the ports of another ends that one: each SYN but one ends a flow.
        send(namespace, *(tcp(A, B, 4000, 80, flags="S", seq=n << 20) for n in range(flows + 1)))
        wait_until(lambda: path.exists() and '"lagged"' in path.read_text())
        [books] = program.end(signal.SIGTERM)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    ended = [record for record in records if record["event"] == "ended"]
    missed = sum(record["missed"] for record in records if record["event"] == "lagged")
    words = books.replace(",", "").replace(":", "").split()
    published, stored, lagged, left = (int(words[at]) for at in (1, 3, 5, 7))
    assert (stored, lagged) == (len(ended), missed)
    assert published == stored + lagged + left
    assert left <= 64
    assert missed > 0


def ports_in(folder: Path) -> set[int]:
    found: set[int] = set()
    for path in folder.iterdir():
        with contextlib.suppress(CaptureFileError):  # it was removed meanwhile, or is being written
            found |= {event.flow.key.orig.port for event in replay_file(path).ended}
    return found


def test_rotate_keeps_the_latest_files(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "day.pcapng"
    with Running(namespace, "rotate.py", PORT, path, "4096", "2", "tcp port 80") as program:
        assert program.line() == f"recording {PORT} by af_xdp"
        for burst in range(8):
            send(namespace, *(syn(4000 + 100 * burst + n) for n in range(30)))
            wait_until(lambda last=4029 + 100 * burst: last in ports_in(tmp_path))
        *files, books = program.end(signal.SIGTERM)
    assert files == sorted(map(str, tmp_path.iterdir()))
    assert len(files) == 2
    assert books.startswith("240 frames written, 0 not, ")


def test_metrics_of_a_program_stand_beside_those_of_the_capture(namespace: Namespace) -> None:
    with Running(namespace, "metrics.py", PORT, "127.0.0.1:9560", "9561") as program:
        assert program.line() == f"serving metrics of {PORT}"
        send(namespace, *lookup("good.example"), *lookup("bad.example", rcode=3))
        wait_until(lambda: 'code="NXDOMAIN"' in get(namespace, "http://127.0.0.1:9561/metrics"))
        own = get(namespace, "http://127.0.0.1:9561/metrics").splitlines()
        assert 'dns_answers_total{code="NXDOMAIN"} 1.0' in own
        assert 'dns_answers_total{code="NOERROR"} 1.0' in own
        books = get(namespace, "http://127.0.0.1:9560/metrics").splitlines()
        assert f'netring_received_frames_total{{interface="{PORT}"}} 4.0' in books
        assert program.end(signal.SIGTERM) == []


def test_page_serves_and_tells_new_devices(namespace: Namespace) -> None:
    with Running(namespace, "page.py", PORT, "127.0.0.1:8080") as program:
        assert program.line() == "the page is at http://127.0.0.1:8080/"
        send(namespace, syn(4000))
        assert program.line() == "new: 02:00:00:00:00:0a -"
        told = json.loads(get(namespace, "http://127.0.0.1:8080/api/info"))["info"]
        assert told["interface"] == PORT
        assert "<!doctype html>" in get(namespace, "http://127.0.0.1:8080/").lower()
        assert program.end(signal.SIGTERM) == []


def test_service_talks_to_systemd_and_loses_nothing_at_its_end(
    namespace: Namespace, tmp_path: Path
) -> None:
    path = tmp_path / "flows.json"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        settings = [f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=300000"]
        process = namespace.popen(
            ["env", *settings, *command("service.py", PORT, path)], stderr=subprocess.PIPE
        )
        with process:
            assert systemd.recv(4096).decode() in {
                "WATCHDOG=1",
                f"READY=1\nSTATUS=capturing {PORT} by af_xdp",
            }
            heard = {systemd.recv(4096).decode() for _ in range(4)}
            assert "WATCHDOG=1" in heard
            send(namespace, syn(4000), syn(4001))
            process.terminate()
            while systemd.recv(4096) != b"STOPPING=1":
                continue  # a socket that is full would stop the program
            assert process.stderr is not None
            assert process.stderr.read() == ""
            assert process.wait(PATIENCE) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(record["event"], record["reason"]) for record in records] == [
        ("ended", "shutdown"),
        ("ended", "shutdown"),
    ]


def test_service_fails_with_its_capture(namespace: Namespace, tmp_path: Path) -> None:
    with Running(namespace, "service.py", "nothere", tmp_path / "flows.json") as program:
        _, error = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 1
    assert error.startswith("service.py: ")


def test_the_lesson_plays_what_its_file_has(namespace: Namespace, tmp_path: Path) -> None:
    lesson, path = make_lesson(tmp_path / "lesson.pcap"), tmp_path / "flows.json"
    with Running(namespace, "service.py", PORT, path) as program:
        wait_until(lambda: handles_signals(program.process.pid))
        namespace.run([*command("lesson.py", "--play", SENDER, PORT, "0.001")])
        assert program.end(signal.SIGTERM) == []
    records = map(json.loads, path.read_text().splitlines())
    played = sorted(record["community_id"] for record in records)
    written = sorted(event.flow.key.community_id() for event in replay_file(lesson).ended)
    assert played == written
    assert len(played) == 41
