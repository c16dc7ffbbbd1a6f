"""Flags that only an interface shows: namespaces, snaplen, CPUs, and counters while it runs."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from netring_bpf import Filter
from netring_bpf.capture.file_reader import FileReader
from tests.kernel.cli.command import (
    COMMAND,
    LIMIT,
    LISTEN,
    NO_LOSSES,
    NO_LOSSES_OF_FRAMES,
    A,
    B,
    Finished,
    Flows,
    Lines,
    query,
    run,
    send,
    summary,
)
from tests.support.frames import udp
from tests.support.paths import ROOT
from tests.support.patience import wait_until
from tests.support.process import spawn
from tests.support.rig import PORT

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns")

STARTED = {
    "flows": "capturing on",
    "devices": "capturing on",
    "serve": "serving on",
    "record": "netring-bpf: recording",
}


class Running:
    """A command of a capture, once it captures."""

    def __init__(self, namespace: Namespace, command: str, *words: str) -> None:
        more = {"serve": ["--listen", "127.0.0.1:0"], "record": ["-w", "/dev/null"]}
        self.process = namespace.popen(
            [COMMAND, command, "-i", PORT, *LISTEN, *more.get(command, []), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self.err = Lines(self.process.stderr)

    def finish(self) -> Finished:
        self.process.terminate()
        status = self.process.wait(LIMIT)
        return Finished(status, [], self.err.all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.err.all()


# -- a namespace --


@contextlib.contextmanager
def named(namespace: Namespace, name: str) -> Iterator[None]:
    """Give the namespace a name, as ``ip netns attach`` does."""
    subprocess.run(["ip", "netns", "attach", name, str(namespace.pid)], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.parametrize("way", ["path", "name"])
@pytest.mark.parametrize("command", ["flows", "devices", "record"])
def test_a_capture_is_in_the_namespace_that_is_asked_for(
    namespace: Namespace, command: str, way: str, tmp_path: Path
) -> None:
    name = f"netring-test-{namespace.pid}"
    where = namespace.path if way == "path" else name
    more = ["-w", str(tmp_path / "a.pcap")] if command == "record" else []
    with named(namespace, name) if way == "name" else contextlib.nullcontext():
        process = spawn(
            [COMMAND, command, "-i", PORT, *LISTEN, "--netns", where, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        assert process.stdout is not None
        err, out = Lines(process.stderr), Lines(process.stdout)
        try:
            err.wait_for(lambda line: STARTED[command] in line)
            send(namespace, query(1001))
            process.terminate()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.wait()
        assert "1 frames " in " ".join(err.all())
        out.all()


def test_a_namespace_that_is_not_there_is_told_with_one_like_it(namespace: Namespace) -> None:
    name = f"netring-test-{namespace.pid}"
    with named(namespace, name):
        done = run(namespace, "flows", "-i", PORT, "--netns", f"{name}x")
    assert done.status == 1
    assert done.err == [
        f"netring-bpf: open network namespace /var/run/netns/{name}x (did you mean {name}?): No "
        "such file or directory (errno 2)"
    ]


def test_an_interface_that_is_not_there_is_told_with_one_like_it(namespace: Namespace) -> None:
    namespace.ip("link add uplink0 type veth peer name other")
    for words in (["flows"], ["record", "-w", "/dev/null"]):
        done = run(namespace, *words, "-i", "upliink0")
        assert done.status == 1
        assert done.err == [
            "netring-bpf: capture on 'upliink0': there is no such interface in this network "
            "namespace; `ip link` lists them; did you mean uplink0?"
        ]


# -- counters --


@pytest.mark.requires("clients")
@pytest.mark.parametrize("command", ["flows", "devices", "serve", "record"])
def test_counters_are_printed_when_asked_for_and_at_the_end(
    namespace: Namespace, command: str
) -> None:
    namespace.ip("link set lo up")
    with Running(namespace, command) as running:
        running.err.wait_for(lambda line: STARTED[command] in line)
        send(namespace, query(1001), query(1002))
        running.process.send_signal(signal.SIGUSR1)
        running.err.wait_for(lambda line: "losses: " in line)
        done = running.finish()
    assert done.status == 0
    losses = NO_LOSSES_OF_FRAMES if command == "record" else NO_LOSSES
    assert [line.removeprefix("netring-bpf: ") for line in done.err].count(losses) == 2
    if command != "record":
        assert done.err[-5:] == summary(2, keyed=2, seen=2, passed=2, started=2, ended=2)


@pytest.mark.requires("clients")
@pytest.mark.parametrize("command", ["flows", "devices", "serve", "record"])
def test_counters_are_printed_from_time_to_time(namespace: Namespace, command: str) -> None:
    namespace.ip("link set lo up")
    with Running(namespace, command, "--stats-interval", "0.1") as running:
        running.err.wait_for(lambda line: STARTED[command] in line)
        send(namespace, query(1001))
        running.err.wait_for(lambda line: "1 frames seen" in line)
        done = running.finish()
    assert done.status == 0
    assert sum("losses: " in line for line in done.err) >= 2


def test_counters_of_a_file_are_printed_from_time_to_time(tmp_path: Path) -> None:
    command = [COMMAND, "flows", "-r", "-", "--stats-interval", "0.1", "--json"]
    process = spawn(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert process.stdin is not None
    err = Lines(process.stderr)
    try:
        err.wait_for(lambda line: line == "0 flows started, 0 ended")
        process.stdin.close()
        process.wait(LIMIT)
    finally:
        process.kill()
        process.wait()
        err.all()


def test_the_summary_has_every_counter_that_tuning_explains() -> None:
    page = (ROOT / "docs" / "tuning.md").read_text()
    table = page.partition("## Losses and remedies\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`[^`]*?(\w+)(?:\"\])?`", row)}
    assert named == {"rx_ring_full", "rx_dropped", "tp_drops", "events_lost", "evicted"}
    assert [name for name in named if not re.search(rf"\d {name}\b", NO_LOSSES)] == []


def test_a_loss_is_told_with_its_remedy(namespace: Namespace) -> None:
    words = ("--max-flows", "1", "--events", "ended")
    with Flows(namespace, *LISTEN, *words).capturing() as command:
        send(namespace, *(query(1000 + n) for n in range(10)))
        command.printed("ended", 1005)
        done = command.finish(signal.SIGINT)
    assert done.err[4].endswith(", 0 events_lost, 9 evicted")
    assert done.err[-1].startswith("9 flows evicted, as the table has room for 1: --max-flows N")


# -- messages --


@pytest.mark.requires("clients")
@pytest.mark.parametrize("command", ["flows", "devices", "serve", "record"])
def test_quiet_says_nothing(namespace: Namespace, command: str) -> None:
    namespace.ip("link set lo up")
    words = ["--listen", "127.0.0.1:0"] if command == "serve" else []
    words += ["-w", "/dev/null"] if command == "record" else []
    bounds = ["-q", "--duration", "0.2", "--stats-interval", "0.1"]
    done = run(namespace, command, "-i", PORT, *LISTEN, *words, *bounds)
    assert (done.status, done.err) == (0, [])
    if command in {"flows", "record"}:
        failed = run(namespace, command, "-i", "nothing0", *words, *bounds)
        assert (failed.status, len(failed.err)) == (1, 1)


def test_verbose_says_how_it_was_opened(namespace: Namespace) -> None:
    words = ["--duration", "0.1", "--preset", "small-memory", "--json", "udp", "-s", "128"]
    told = f"{PORT}: captured by tpacket_v3, with 1 readers; 16 blocks of 262144 bytes; a filter of"
    usual = run(namespace, "flows", "-i", PORT, *LISTEN, *words)
    assert not any(told in line for line in usual.err)
    for flag in ("-v", "-vv"):
        done = run(namespace, "flows", "-i", PORT, *LISTEN, *words, flag)
        [line] = [line for line in done.err if told in line]
        count = len(Filter("udp", snaplen=128).instructions)
        assert line == f"netring-bpf: {told} {count} instructions, 128 bytes of a frame"


def has_started(command: Flows) -> bool:
    """Whether the command counts a flow: the frame may reach it after the signal."""
    command.process.send_signal(signal.SIGUSR1)
    return command.err.has(lambda line: "1 flows started" in line)


def test_no_names_are_in_the_table(namespace: Namespace) -> None:
    question = (
        bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\x03www\x07example\x03org\x00"
        + bytes.fromhex("0001 0001")
    )  # fmt: skip
    shown = []
    for words in ([], ["-n"]):
        words += ["--format", "table", "--events", "ended"]
        wide = ("env", "-u", "COLUMNS")
        with Flows(namespace, *LISTEN, *words, before=wide).capturing() as command:
            send(namespace, udp(A, B, 1001, 53, question))
            wait_until(functools.partial(has_started, command))
            done = command.finish(signal.SIGTERM)
        shown.append(done.out[-1])
    assert "dns www.example.org" in shown[0]
    assert "dns" in shown[1]
    assert "example" not in shown[1]


# -- the capture --


def test_a_snaplen_cuts_what_is_recorded(namespace: Namespace, tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    words = ["-w", str(path), "-s", "60", "-c", "1"]
    process = namespace.popen(
        [COMMAND, "record", "-i", PORT, *LISTEN, *words], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    err = Lines(process.stderr)
    try:
        err.wait_for(lambda line: "recording" in line)
        send(namespace, udp(A, B, 1, 2, bytes(500)))
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()
        err.all()
    with FileReader(path) as file:
        [(_, data, length)] = list(file.frames())
    assert (len(data), length) == (60, 542)


@pytest.mark.parametrize("command", ["flows", "devices", "record"])
def test_the_thread_that_reads_runs_on_its_cpu(
    namespace: Namespace, command: str, tmp_path: Path
) -> None:
    with Running(namespace, command, "--cpus", "0") as running:
        running.err.wait_for(lambda line: STARTED[command] in line)
        allowed = {
            int(task.name): re.findall(r"Cpus_allowed_list:\s+(\S+)", (task / "status").read_text())
            for task in Path(f"/proc/{running.process.pid}/task").iterdir()
        }
        assert running.finish().status == 0
    if command == "record":  # the main thread reads
        assert allowed[running.process.pid] == ["0"]
    else:
        assert ["0"] in [cpus for pid, cpus in allowed.items() if pid != running.process.pid]
    more = ["-w", str(tmp_path / "a.pcapng")] if command == "record" else []
    done = run(namespace, command, "-i", PORT, *LISTEN, "--cpus", "900", *more)
    assert done.status == 1
    assert "900" in done.err[-1]
    if command == "record":
        both = ["--cpus", "0,900", "--duration", "0.1"]
        assert run(namespace, command, "-i", PORT, *LISTEN, *more, *both).status == 0


def test_timeouts_of_ports_end_flows(namespace: Namespace) -> None:
    words = ["--port-timeout", "udp/53=0.2", "--events", "ended"]
    with Flows(namespace, *LISTEN, *words).capturing() as command:
        send(namespace, query(1001))
        command.printed("ended", 1001)
        done = command.finish(signal.SIGINT)
    [record] = map(json.loads, done.out)
    assert record["reason"] == "idle"
