"""The filter of a capture file: right for every link type that turns up, and never waited for."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from netring_bpf import Filter, NetringError
from netring_bpf.capture.replay import Replay
from netring_bpf.errors import FilterError
from netring_bpf.filter import filter as filter_module
from netring_bpf.filter.libpcap import compile_for_file
from tests.support.frames import tcp, udp
from tests.support.patience import PATIENCE
from tests.support.replay import START, Frame, replay_file
from tests.support.savefiles import Interface, pcap, section

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
A, B = "10.0.0.1", "10.0.0.2"
ETHERNET, RAW, LOOPBACK, USB, WIFI = 1, 101, 0, 189, 105
PORTS = " or ".join(f"port {n}" for n in range(1, 1500))  # takes libpcap minutes


def wrapped(linktype: int, frame: bytes) -> bytes:
    """The Ethernet frame with the link header of another type in the place of its own."""
    return {ETHERNET: frame, RAW: frame[14:], LOOPBACK: b"\2\0\0\0" + frame[14:]}.get(
        linktype, frame[14:]
    )


def mixed(*linktypes: int, every: int = 1, count: int = 300) -> bytes:
    """Every third frame is TCP; the link types take turns of ``every`` frames."""
    frames = []
    for n in range(count):
        make = tcp if n % 3 == 0 else udp
        number = n // every % len(linktypes)
        data = wrapped(linktypes[number], make(A, B, 1024 + n, 53))
        frames.append((number, Frame(data, START + n * 1000)))
    return section([Interface(linktype) for linktype in linktypes], frames)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The link types that were compiled, and not only checked."""
    seen: list[int] = []

    def compile_and_note(expression: str, linktype: int, *rest: int, **options: bool) -> Any:
        if options.get("optimize", True):
            seen.append(linktype)
        return compile_for_file(expression, linktype, *rest, **options)

    monkeypatch.setattr(filter_module, "compile_for_file", compile_and_note)
    return seen


@pytest.mark.parametrize("every", [1, 2, 63, 64, 65, 150])
def test_a_link_type_in_the_middle_of_a_file_loses_no_frame(
    tmp_path: Path, compiled: list[int], every: int
) -> None:
    path = tmp_path / "mixed.pcapng"
    path.write_bytes(mixed(ETHERNET, RAW, LOOPBACK, every=every))
    story = replay_file(path, filter="tcp dst port 53")
    assert (story.books.file_frames, story.books.file_filtered) == (300, 200)
    assert [event.flow.key.orig.port for event in story.ended] == list(range(1024, 1324, 3))
    assert compiled == ([1, 12, 0] if every < 150 else [1, 12])


def test_only_link_types_with_frames_are_compiled(tmp_path: Path, compiled: list[int]) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2)[14:])] * 2, linktype=RAW))
    assert replay_file(path, filter="udp").books.file_filtered == 0
    assert compiled == [1, 12]  # a wrong expression is told before the file is opened
    compiled.clear()
    path.write_bytes(pcap([]))
    assert replay_file(path, filter="udp").books.file_frames == 0
    assert compiled == [1]


def test_a_filter_that_is_compiled_already_is_not_compiled_again(
    tmp_path: Path, compiled: list[int]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2))]))
    wanted = Filter("udp")
    with Replay(path, filter=wanted) as replay:
        ended = threading.Event()
        replay.start(lambda _: ended.set())
        assert ended.wait(PATIENCE)
        assert replay.statistics().file_filtered == 0
    assert compiled == [1]


def test_frames_that_no_filter_can_be_asked_about_are_told_and_counted_by_themselves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed.pcapng"
    path.write_bytes(mixed(ETHERNET, USB, every=10))
    with caplog.at_level(logging.WARNING):
        story = replay_file(path, filter="udp")
    assert (story.books.file_frames, len(story.ended)) == (300, 100)
    [record] = caplog.records
    assert "link type USB_LINUX (189: USB with Linux header) is not read" in record.message
    assert (story.books.file_filtered, story.books.not_keyed["unknown_link"]) == (50, 150)


def test_an_expression_may_be_for_another_link_type_than_ethernet(tmp_path: Path) -> None:
    path = tmp_path / "wifi.pcap"
    beacon = b"\x80\0" + bytes(34)
    data = b"\x08\0" + bytes(22) + b"\xaa\xaa\3\0\0\0\x08\0" + udp(A, B, 1, 2)[14:]
    path.write_bytes(pcap([Frame(beacon), Frame(data), Frame(data)], linktype=WIFI))
    assert replay_file(path, filter="type data").books.file_filtered == 1
    with pytest.raises(FilterError, match=r"unknown 802\.11 type name"):
        replay_file(path, filter="type date")


def test_more_link_types_than_the_table_has_room_for_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "many.pcapng"
    path.write_bytes(mixed(ETHERNET, *range(1000, 1299)))
    story = replay_file(path, filter="tcp")
    assert (story.books.file_frames, story.books.file_filtered) == (300, 0)
    assert story.books.not_keyed["unknown_link"] == 299


def test_a_compilation_that_fails_is_the_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_module, "_MAX_INSTRUCTIONS", 100)
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2))]))
    story = replay_file(path, filter=" and ".join(f"ip[{n}] != {n}" for n in range(60)))
    assert isinstance(story.error, FilterError)
    assert "the kernel takes 100" in str(story.error)
    story = replay_file(path, filter=f"{'ip or ' * 100} no such word")
    assert isinstance(story.error, FilterError)
    assert "no such word" in str(story.error)
    assert "the kernel takes" not in str(story.error)
    assert story.books.file_frames == 0


def test_stopping_does_not_wait_for_a_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2)[14:])], linktype=RAW))
    begun, may_end = threading.Event(), threading.Event()

    def compile_slowly(*arguments: Any, **options: bool) -> Any:
        begun.set()
        assert may_end.wait(PATIENCE)
        return compile_for_file(*arguments, **options)

    replay = Replay(path, filter="udp")
    monkeypatch.setattr(filter_module, "compile_for_file", compile_slowly)
    ended: list[NetringError | None] = []
    with replay:
        replay.start(ended.append)
        assert begun.wait(PATIENCE)
        replay.stop()
        assert ended == [None]
        assert replay.statistics().file_frames == 0
    may_end.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_wait_for_a_compilation(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2))]))
    with subprocess.Popen(
        [COMMAND, "flows", "-r", path, "--json", PORTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("netring-bpf: reading")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


# -- long lists, which become sets --

HOSTS = [f"10.{n >> 8}.{n & 255}.1" for n in range(500)]
LIST = " or ".join(f"host {host}" for host in HOSTS)


def test_a_list_of_hosts_is_compiled_once_a_link_type_and_never_by_the_optimizer(
    tmp_path: Path, compiled: list[int]
) -> None:
    path = tmp_path / "file"
    frames = [udp(host, "192.0.2.1", 1, 2) for host in ("10.0.0.1", "10.1.99.1", "10.2.0.1")]
    path.write_bytes(pcap([Frame(frame) for frame in frames]))
    story = replay_file(path, filter=f"udp and ({LIST})")
    assert [str(event.flow.key.orig.addr) for event in story.ended] == ["10.0.0.1", "10.1.99.1"]
    assert compiled == []


@pytest.mark.parametrize("list_", ["host", "src host", "dst host"])
def test_on_frames_that_were_cut_at_an_address_the_verdict_is_libpcap_s(
    tmp_path: Path, compiled: list[int], list_: str
) -> None:
    hosts = ["2001:db8::1", *(f"2001:db9::{n}" for n in range(20)), "10.0.0.1", "10.0.0.2"]
    expression = " or ".join(f"{list_} {host}" for host in hosts) + " or greater 1000"
    whole = [
        udp(a, b, 1, 2, bytes(40))
        for a, b in [
            ("2001:db9::7", "2001:db8::1"), ("2001:db8::1", "2001:db9::7"),
            ("2001:dbb::1", "2001:db8::1"), ("2001:dbb::1", "2001:dbb::2"),
            ("2001:db9::3", "2001:dbb::2"), ("10.0.0.2", "10.9.9.9"), ("10.9.9.9", "10.0.0.2"),
            ("10.0.0.1", "10.0.0.2"), ("10.9.9.9", "10.8.8.8"),
        ]
    ]  # fmt: skip
    cut = [Frame(f[:n], len=1200 if n % 3 else len(f)) for f in whole for n in range(14, 60)]
    judge = Filter(expression)
    expected = [judge.matches(f.data, f.len) for f in cut]
    path = tmp_path / "file"
    path.write_bytes(pcap(cut))
    compiled.clear()
    story = replay_file(path, filter=expression)
    assert story.books.file_filtered == expected.count(False)
    assert compiled == [1]
    # The frames that pass are those, and not as many others.
    assert story.books.received_bytes == sum(
        frame.len for frame, verdict in zip(cut, expected, strict=True) if verdict
    )


def test_a_list_too_long_for_libpcap_has_a_verdict_on_cut_frames_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_module, "_MAX_INSTRUCTIONS", 100)
    path = tmp_path / "file"
    frame = udp("10.9.9.9", "10.0.0.1", 1, 2)
    path.write_bytes(pcap([Frame(frame), Frame(frame[:30], len=60)]))
    story = replay_file(path, filter=" or ".join(f"host {host}" for host in HOSTS[:60]))
    assert (story.error, story.books.file_filtered) == (None, 1)


# -- the addresses of files --


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "flows", *arguments], capture_output=True, text=True, check=False
    )


def test_addresses_of_files_and_words_are_a_filter_together(tmp_path: Path) -> None:
    path, hosts, nets = tmp_path / "file", tmp_path / "hosts.txt", tmp_path / "nets.txt"
    sources = ("10.0.0.1", "10.0.0.2", "10.7.0.1", "10.8.0.1")
    path.write_bytes(
        pcap([Frame(make(a, "192.0.2.1", 1, 2), START) for a in sources for make in (tcp, udp)])
    )
    hosts.write_text("10.0.0.1\n")
    nets.write_text("# a blocklist\n10.7.0.0/16 ; a comment\n10.0.0.1\n")
    both = ("--format", "csv", "--events", "ended", "--hosts", hosts, "--nets", nets)
    done = run("-r", path, *both)
    sources_of = sorted(line.split(",")[4] for line in done.stdout.splitlines()[1:])
    assert sources_of == ["10.0.0.1", "10.0.0.1", "10.7.0.1", "10.7.0.1"]
    assert "8 frames read, 4 filtered out, 4 with a flow" in done.stderr
    assert "filter '(host in {1 hosts " in done.stderr
    done = run("-r", path, *both, "udp")
    assert [line.split(",")[3] for line in done.stdout.splitlines()[1:]] == ["udp", "udp"]


def test_a_wrong_line_of_a_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    nets = tmp_path / "nets.txt"
    nets.write_text("10.0.0.0/8\n10.0.0.1/8\n")
    done = run("-r", "-", "--nets", nets)
    assert done.returncode == 1
    assert done.stderr == (f"netring-bpf: nets of {nets}: line 2: 10.0.0.1/8 has host bits set\n")
