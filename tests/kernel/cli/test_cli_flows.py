"""``netring-bpf flows`` as people and scripts use it: a real process, in a namespace, on a wire."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netring_bpf.events.fields import RECORD
from tests.kernel.cli.command import (
    HOW,
    LIMIT,
    LISTEN,
    A,
    B,
    Flows,
    opening,
    query,
    run,
    send,
    summary,
)
from tests.support.frames import ethernet, icmp_echo, tcp, udp
from tests.support.lab import xdp_attached
from tests.support.rig import PORT

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc")

BACKENDS = ["af_xdp", "tpacket_v3"]
ARP = ethernet(0x0806, bytes(28))


def has_a_child(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):  # a thread ended meanwhile
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return any((task / "children").read_text() for task in tasks)
    return False


# -- JSON lines --


def conversations() -> dict[tuple[Any, ...], tuple[list[bytes], list[bytes]]]:
    """The frames of each side of a flow, keyed by the flow's values in the record."""
    v6a, v6b = "2001:db8:a::1", "2001:db8:b::2"
    return {
        ("udp", A, 1001, B, 53, ()): (
            [query(1001), udp(A, B, 1001, 53, bytes(500))],
            [udp(B, A, 53, 1001, bytes(1200))],
        ),
        ("tcp", A, 1002, B, 443, ()): (
            [tcp(A, B, 1002, 443, flags="S"), tcp(A, B, 1002, 443, flags="A", seq=1, ack=5)],
            [tcp(B, A, 443, 1002, flags="SA", seq=4, ack=1)],
        ),
        ("udp", A, 1001, B, 53, (100,)): ([udp(A, B, 1001, 53, b"tagged", vlans=(100,))], []),
        ("udp", A, 1001, B, 53, (100, 200)): (
            [udp(A, B, 1001, 53, bytes(n), vlans=(100, 200)) for n in range(100, 103)],
            [],
        ),
        ("udp", v6a, 1003, v6b, 123, ()): (
            [udp(v6a, v6b, 1003, 123, bytes(48))],
            [udp(v6b, v6a, 123, 1003, bytes(48))] * 4,
        ),
    }  # fmt: skip


def in_turn(forth: list[bytes], back: list[bytes]) -> list[bytes]:
    """Return the frames as on a wire: the originator starts, then the responder answers."""
    return [*forth[:1], *back, *forth[1:]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_flow_is_in_the_json_lines_with_its_counters(
    namespace: Namespace, backend: str
) -> None:
    flows = conversations()
    with Flows(namespace, "--backend", backend).capturing() as command:
        send(namespace, *(frame for both in flows.values() for frame in in_turn(*both)))
        command.printed("started", 1003)
        send(namespace, query(9999))
        command.printed("started", 9999)  # all frames before this last one are counted
        done = command.finish(signal.SIGINT)
    assert done.status == 0
    records = [record for record in done.records if record["orig_port"] != 9999]
    kinds = [record["event"] for record in records]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "started": len(flows),
        "established": 1,
        "ended": len(flows),
    }
    assert len(done.out) == len(records) + 2
    for record in done.records:
        assert list(record) == [name for name in RECORD if name in record]
        assert ("reason" in record) == (record["event"] == "ended")
    ended = [record for record in records if record["event"] == "ended"]
    assert {record["reason"] for record in ended} == {"shutdown"}
    assert {
        (
            r["proto"], r["orig_addr"], r["orig_port"], r["resp_addr"], r["resp_port"],
            tuple(r["vlans"]),
        ): (r["orig_packets"], r["orig_bytes"], r["resp_packets"], r["resp_bytes"])
        for r in ended
    } == {
        key: (len(forth), sum(map(len, forth)), len(back), sum(map(len, back)))
        for key, (forth, back) in flows.items()
    }  # fmt: skip


def test_an_icmp_flow_has_its_identifier(namespace: Namespace) -> None:
    echo = icmp_echo(A, B, 7, 1, b"are you there?")
    reply = icmp_echo(B, A, 7, 1, b"are you there?", reply=True)
    with Flows(namespace, *LISTEN).capturing() as command:
        send(namespace, echo, reply, query(9999))
        command.printed("started", 9999)
        done = command.finish(signal.SIGTERM)
    [record] = [r for r in done.records if r["event"] == "ended" and r["proto"] == "icmp"]
    assert record["icmp_id"] == 7
    assert (record["orig_addr"], record["resp_addr"]) == (A, B)
    assert (record["orig_packets"], record["orig_bytes"]) == (1, len(echo))
    assert (record["resp_packets"], record["resp_bytes"]) == (1, len(reply))


@pytest.mark.parametrize("name", ["eve", "csv"])
def test_a_live_capture_names_its_interface(namespace: Namespace, name: str) -> None:
    with Flows(namespace, "--backend", "tpacket_v3", "--format", name).capturing() as command:
        send(namespace, query(1000))
        done = command.finish(signal.SIGTERM)
    flows = [line for line in done.out if "1000" in line]
    if name == "eve":
        assert [json.loads(line)["in_iface"] for line in flows] == [PORT]
    else:
        assert [line.rpartition(",")[2] for line in (done.out[0], *flows)] == ["interface", PORT]


def test_lines_appear_while_the_capture_goes_on(namespace: Namespace) -> None:
    with Flows(namespace, *LISTEN).capturing() as command:
        for port in (1001, 1002, 1003):
            send(namespace, query(port))
            command.printed("started", port)
        assert command.process.poll() is None
        assert command.finish(signal.SIGTERM).status == 0


# -- how it ends --


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_signal_ends_it_with_a_summary(
    namespace: Namespace, backend: str, number: signal.Signals
) -> None:
    with Flows(namespace, "--backend", backend).capturing() as command:
        assert xdp_attached(namespace, PORT) == (backend == "af_xdp")
        send(namespace, query(1001), query(1001), ARP, query(1002), query(9999))
        command.printed("started", 9999)
        done = command.finish(number)
    assert done.status == 0
    received = 5
    passed = 0 if backend == "af_xdp" else received
    assert done.err == [
        opening(HOW[backend]),
        *summary(
            received, keyed=4, seen=received, passed=passed, started=3, ended=3, without="1 not_ip"
        ),
    ]
    assert not xdp_attached(namespace, PORT)


def test_a_signal_while_it_opens_ends_it_too(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRING_BPF_CACHE", "")  # forces a compilation
    with Flows(namespace, "--backend", "af_xdp") as command:
        # The compiler is the only child; the command sets its handlers before it starts one.
        deadline = time.monotonic() + LIMIT
        while not has_a_child(command.process.pid):
            assert time.monotonic() < deadline
            assert command.process.poll() is None
        done = command.finish(signal.SIGINT)
    assert done.status == 0
    assert done.out == []
    assert done.err == [
        opening(HOW["af_xdp"]),
        *summary(0, keyed=0, seen=0, passed=0, started=0, ended=0),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_count_ends_it_after_exactly_so_many_events(namespace: Namespace, backend: str) -> None:
    with Flows(namespace, "--backend", backend, "-c", "3").capturing() as command:
        send(namespace, *(query(1000 + n) for n in range(20)))
        done = command.finish()
    assert done.status == 0
    assert [(r["event"], r["orig_port"]) for r in done.records] == [
        ("started", 1000),
        ("started", 1001),
        ("started", 1002),
    ]


def test_a_duration_ends_it_by_itself(namespace: Namespace) -> None:
    begin = time.monotonic()
    with Flows(namespace, *LISTEN, "--duration", "0.8").capturing() as command:
        send(namespace, query(1001), query(1001))
        done = command.finish()
    assert time.monotonic() - begin >= 0.8
    assert done.status == 0
    assert [r["event"] for r in done.records] == ["started", "ended"]
    assert done.err[1:] == summary(2, keyed=2, seen=2, passed=2, started=1, ended=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reader_of_the_pipe_may_leave(namespace: Namespace, backend: str) -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as head,
        os.fdopen(writing, "w") as tail,
        Flows(namespace, "--backend", backend, stdout=writing).capturing() as command,
    ):
        tail.close()
        send(namespace, query(1001))
        assert json.loads(head.readline())["event"] == "started"
        head.close()
        send(namespace, query(1002))
        done = command.finish()
    assert done.status == 0
    passed = 0 if backend == "af_xdp" else 2
    assert done.err == [
        opening(HOW[backend]),
        *summary(2, keyed=2, seen=2, passed=passed, started=2, ended=2),
    ]


def test_a_reader_that_reads_no_more_does_not_keep_it_from_ending(namespace: Namespace) -> None:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as stalled,
        os.fdopen(writing, "w") as tail,
        Flows(namespace, *LISTEN, stdout=writing).capturing() as command,
    ):
        tail.close()
        # About three times the size of a pipe.
        send(namespace, *(query(port) for port in range(10_000, 10_800)))
        assert select.select([stalled], [], [], LIMIT)[0]
        command.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(LIMIT)
        assert command.process.returncode == 0


def test_a_full_disk_is_an_error_without_a_traceback(namespace: Namespace) -> None:
    with (
        open("/dev/full", "wb") as full,
        Flows(namespace, *LISTEN, stdout=full.fileno()).capturing() as command,
    ):
        send(namespace, query(1001))
        done = command.finish()
    assert done.status == 1
    assert "Traceback (most recent call last):" not in done.err
    assert "No space left on device" in done.err[-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_interface_deleted_ends_it_with_the_reason(namespace: Namespace, backend: str) -> None:
    with Flows(namespace, "--backend", backend).capturing() as command:
        send(namespace, query(1001))
        command.printed("started", 1001)
        namespace.ip(f"link del {PORT}")
        done = command.finish()
    assert done.status == 1
    assert [r["event"] for r in done.records] == ["started", "link_down", "error", "ended"]
    assert done.records[1]["interface"] == PORT
    reason = f"capture on {PORT}: the interface is gone"
    assert reason in done.records[2]["message"]
    assert "Traceback (most recent call last):" not in done.err
    # The reason is printed once.
    assert sum(reason in line for line in done.err) == 1


# -- filters --


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_filter_may_be_several_words(namespace: Namespace, backend: str) -> None:
    arguments = ("--backend", backend, "udp", "port", "53")
    with Flows(namespace, *arguments).capturing() as command:
        send(
            namespace,
            query(1001),
            query(1001, dport=54),
            tcp(A, B, 1001, 53),
            udp(B, A, 53, 1001, b"answer"),
            ARP,
            query(9999),
        )
        command.printed("started", 9999)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0
    assert [
        (r["orig_port"], r["orig_packets"], r["resp_packets"])
        for r in done.records
        if r["event"] == "ended"
    ] == [(1001, 1, 1), (9999, 1, 0)]
    # TPACKET_V3 sees only frames that match; the XDP program sees all frames.
    seen, passed = (6, 3) if backend == "af_xdp" else (3, 3)
    assert done.err == [
        opening(HOW[backend], "udp port 53"),
        *summary(3, keyed=3, seen=seen, passed=passed, started=2, ended=2),
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_filter_may_be_one_argument(namespace: Namespace, backend: str) -> None:
    with Flows(namespace, "--backend", backend, "-c", "1", "not port 53").capturing() as command:
        send(namespace, query(1001), query(1002, dport=54))
        done = command.finish()
    assert [r["orig_port"] for r in done.records] == [1002]


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["udp", "prot", "53"], "syntax error"),
        (["port", "99999"], "illegal port number 99999 > 65535"),
    ],
    ids=["syntax", "port"],
)
def test_a_wrong_filter_is_one_line_with_libpcaps_reason(
    namespace: Namespace, words: list[str], reason: str, backend: str
) -> None:
    done = run(namespace, "flows", "-i", PORT, "--backend", backend, *words)
    assert done.status == 1
    assert done.out == []
    [line] = done.err
    assert line.startswith(f"netring-bpf: filter '{' '.join(words)}': ")
    assert reason in line


def test_a_filter_that_is_no_text_is_one_line(namespace: Namespace) -> None:
    done = run(namespace, "flows", "-i", PORT, *LISTEN, os.fsdecode(b"host \xff"))
    assert done.status == 1
    assert len(done.err) == 1


def test_a_filter_is_repeated_letter_for_letter(namespace: Namespace) -> None:
    expression = "ether host 0:a:0:b:0:1"
    done = run(namespace, "flows", "-i", PORT, *LISTEN, "--duration", "0", expression)
    assert done.err[0] == opening(HOW["tpacket_v3"], expression)


# -- interfaces --


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_a_missing_interface_is_one_line(namespace: Namespace, backend: str) -> None:
    done = run(namespace, "flows", "-i", "absent", "--backend", backend)
    assert done.status == 1
    assert done.out == []
    assert done.err == [
        "netring-bpf: capture on 'absent': there is no such interface in this network namespace; "
        "`ip link` lists them"
    ]


def test_an_interface_whose_name_is_no_text_is_one_line(namespace: Namespace) -> None:
    done = run(namespace, "flows", "-i", os.fsdecode(b"v\xff"))
    assert done.status == 1
    assert len(done.err) == 1


def test_an_interface_that_is_down_is_one_line(namespace: Namespace) -> None:
    namespace.ip(f"link set {PORT} down")
    done = run(namespace, "flows", "-i", PORT)
    assert done.status == 1
    [line] = done.err
    assert line.startswith(f"netring-bpf: capture on {PORT}: it is down")


def test_the_hosts_own_interface_is_not_taken_without_steal(namespace: Namespace) -> None:
    namespace.ip(f"addr add 10.9.0.1/24 dev {PORT}")
    done = run(namespace, "flows", "-i", PORT, "--backend", "af_xdp")
    assert done.status == 1
    assert done.out == []
    [line] = done.err
    assert "10.9.0.1/24" in line
    assert "--steal" in line
    assert not xdp_attached(namespace, PORT)


def test_the_hosts_own_interface_is_taken_with_steal(namespace: Namespace) -> None:
    namespace.ip(f"addr add 10.9.0.1/24 dev {PORT}")
    with Flows(namespace, "--backend", "af_xdp", "--steal").capturing() as command:
        send(namespace, query(1001))
        command.printed("started", 1001)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0
    one_sided, *rest = done.err
    assert "every flow is one-sided: it has the address 10.9.0.1/24" in one_sided
    assert rest == [
        opening(HOW["af_xdp"]),
        *summary(1, keyed=1, seen=1, passed=0, started=1, ended=1),
    ]
    assert all(record["one_sided"] is True for record in done.records)


def test_auto_listens_to_the_hosts_own_interface_and_says_why(namespace: Namespace) -> None:
    namespace.ip(f"addr add 10.9.0.1/24 dev {PORT}")
    with Flows(namespace).capturing() as command:
        send(namespace, query(1001))
        command.printed("started", 1001)
        done = command.finish(signal.SIGTERM)
    assert done.status == 0
    why, *rest = done.err
    assert why.startswith(f"netring-bpf: {PORT}: TPACKET_V3 instead of AF_XDP: ")
    assert "it has the address 10.9.0.1/24" in why
    assert rest == [
        opening(HOW["tpacket_v3"]),
        *summary(1, keyed=1, seen=1, passed=1, started=1, ended=1),
    ]


def test_auto_takes_af_xdp_where_it_does_no_harm(namespace: Namespace) -> None:
    done = run(namespace, "flows", "-i", PORT, "--duration", "0")
    assert done.status == 0
    assert done.err[0] == opening(HOW["af_xdp"])


# -- threads and presets --


def test_threads_of_a_preset_share_the_flows(namespace: Namespace) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    where = f"{cpus[0]},{cpus[-1]}"
    flags = ("--preset", "latency", "--threads", "2", "--cpus", where)
    with Flows(namespace, *LISTEN, *flags) as command:
        command.capturing()
        send(namespace, *(query(2000 + n) for n in range(64)))
        done = command.finish(signal.SIGINT)
    assert done.status == 0
    ended = [record for record in done.records if record["event"] == "ended"]
    assert {record["orig_port"] for record in ended} == set(range(2000, 2064))
    assert {record["id"] % 2 for record in ended} == {0, 1}
    assert not [line for line in done.err if "books off" in line]


def test_wrong_values_are_wrong_usage(namespace: Namespace) -> None:
    for flags, said in {
        ("--threads", "0"): "--threads: 0: must be from 1 to 64",
        ("--threads", "two"): "--threads: two: must be a number, from 1 to 64",
        ("--threads", "2", "--cpus", "0"): "a CPU for each thread",
        ("--cpus", "0-3"): "--cpus: 0-3: must be numbers of CPUs, as 2,3",
        ("--duration", "long"): "--duration: long: must be a number of seconds, 0 or more",
    }.items():
        done = run(namespace, "flows", "-i", PORT, *flags)
        assert done.status == 2
        assert said in " ".join(done.err)
