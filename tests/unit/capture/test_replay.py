"""Netring on a capture file: nothing is lost, the stream ends with the file, errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netring_bpf import (
    CaptureError,
    Event,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    Lagged,
    Netring,
)
from netring_bpf.errors import CaptureFileError, InternalError, OptionError
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.patience import PATIENCE
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap
from tests.support.sizes import size

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
A, B = "10.0.0.1", "10.0.0.2"
FLOWS = 3000
NO_UPDATES = FlowOptions(update_interval=None)
STORY = [
    Frame(tcp(A, B, 40_000, 80, flags="S", seq=10), START + 1_000),
    Frame(tcp(B, A, 80, 40_000, flags="SA", seq=20, ack=11), START + 2_000),
    Frame(tcp(A, B, 40_000, 80, flags="A", seq=11, ack=21), START + 3_000),
    Frame(udp(A, B, 1000, 2000, b"abc", vlans=(7,)), START + SECOND),
    Frame(icmp_echo(A, B, 5, 1), START + 2 * SECOND),
    Frame(icmp_echo(B, A, 5, 1, reply=True), START + 2 * SECOND + 5_000),
    Frame(tcp(A, B, 40_000, 80, flags="R", seq=11), START + 3 * SECOND),
]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.pcap"
    frames = [Frame(udp(A, B, 1024 + n, 9), START + n * 1000) for n in range(FLOWS)]
    path.write_bytes(pcap(frames))
    return path


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.pcap"
    path.write_bytes(pcap(STORY))
    return path


async def read(ring: Netring, *, pause_every: int = 0) -> list[Event]:
    events: list[Event] = []
    async with ring:
        async for event in ring.subscribe(errors="event"):
            events.append(event)
            if pause_every and len(events) % pause_every == 0:
                await asyncio.sleep(0)
    return events


@pytest.mark.parametrize("buffer", [1, 2, 7, 4096])
def test_a_slow_subscriber_misses_nothing(many: Path, buffer: int) -> None:
    ring = Netring.replay(many, buffer=buffer, flow=NO_UPDATES)
    events = asyncio.run(read(ring, pause_every=3))
    kinds = [type(event) for event in events]
    assert (kinds.count(FlowStarted), kinds.count(FlowEnded)) == (FLOWS, FLOWS)
    assert kinds.count(Lagged) == 0
    statistics = ring.statistics()
    assert statistics.balanced
    assert statistics.capture.events_lost == 0
    assert statistics.capture.file_frames == FLOWS


def test_the_slowest_of_several_is_waited_for(many: Path) -> None:
    async def run() -> list[int]:
        async with Netring.replay(many, buffer=16, flow=NO_UPDATES) as ring:
            fast, slow = ring.subscribe(), ring.subscribe()

            async def count(subscriber: object, pause: int) -> int:
                seen = 0
                async for event in subscriber:  # type: ignore[attr-defined]
                    assert not isinstance(event, Lagged)
                    seen += 1
                    if pause and seen % pause == 0:
                        await asyncio.sleep(0)
                return seen

            return list(await asyncio.gather(count(fast, 0), count(slow, 1)))

    assert asyncio.run(run()) == [2 * FLOWS, 2 * FLOWS]


def test_leaving_early_waits_for_nobody(many: Path) -> None:
    async def run() -> int:
        async with asyncio.timeout(PATIENCE):
            async with Netring.replay(many, buffer=4, flow=NO_UPDATES) as ring:
                ring.subscribe(name="never read")
                subscriber = ring.subscribe()
                await anext(subscriber)
            return ring.statistics().capture.events_lost

    assert asyncio.run(run()) == 0


def test_without_subscribers_the_file_is_read_all_the_same(many: Path) -> None:
    async def run() -> int:
        async with Netring.replay(many, flow=NO_UPDATES) as ring:
            async with asyncio.timeout(PATIENCE):
                while not ring.broadcast.closed:
                    await asyncio.sleep(0.001)
        return ring.statistics().capture.keyed

    assert asyncio.run(run()) == FLOWS


def test_a_broken_file_gives_its_flows_and_then_the_error(story: Path) -> None:
    data = story.read_bytes()
    story.write_bytes(data[:-5])
    ring = Netring.replay(story, flow=NO_UPDATES)
    events = asyncio.run(read(ring))
    [error] = [event.error for event in events if isinstance(event, CaptureError)]
    assert isinstance(error, CaptureFileError)
    last = len(pcap(STORY[:-1]))
    assert error.offset == last
    assert f"byte {last}" in str(error)
    assert len([event for event in events if isinstance(event, FlowEnded)]) == 3
    assert ring.error is error


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As some event loops are: it cannot wait for a descriptor."""

    def add_reader(self, *_: object) -> None:
        raise NotImplementedError("add_reader")


def test_what_fails_inside_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    fifo = tmp_path / "capture"
    os.mkfifo(fifo)

    async def run(ring: Netring) -> list[list[Event]]:
        subscribers = [ring.subscribe(errors="event") for _ in range(2)]
        async with asyncio.timeout(PATIENCE), ring:
            return [[event async for event in subscriber] for subscriber in subscribers]

    ring = Netring.replay(fifo)
    writer = os.open(fifo, os.O_RDWR)  # kept open: the file does not end by itself
    try:
        os.write(writer, pcap(STORY))
        with asyncio.Runner(loop_factory=LoopWithoutReaders) as runner:
            heard = runner.run(run(ring))
    finally:
        os.close(writer)
    assert isinstance(ring.error, InternalError)
    assert isinstance(ring.error.__cause__, NotImplementedError)
    for events in heard:
        assert [event.error for event in events if isinstance(event, CaptureError)] == [ring.error]
    assert ring.statistics().balanced


def test_events_that_are_not_made_cannot_be_asked_for(story: Path) -> None:
    async def main() -> None:
        ring = Netring.replay(story, flow=FlowOptions(events=(FlowEnded,)))
        with pytest.raises(OptionError, match="FlowStarted is asked for"):
            ring.subscribe(kinds=(FlowStarted, FlowEnded))
        with pytest.raises(OptionError, match="FlowStarted is asked for"):
            ring.subscribe_batches(kinds=FlowStarted)
        events = ring.subscribe()
        async with ring:
            assert [type(event) async for event in events] == [FlowEnded] * 3
        assert ring.statistics().capture.events_produced == 3

    asyncio.run(main())


def test_what_a_replay_is(story: Path) -> None:
    async def run() -> None:
        async with Netring.replay(story) as ring:
            assert (ring.backend, ring.attach, ring.fallback_reason) == ("file", None, None)
            assert ring.xdp is None
            assert ring.interface == str(story)
            with pytest.raises(OptionError, match="one filter"):
                await ring.set_filter("tcp")
        assert ring.progress == (story.stat().st_size, story.stat().st_size)

    asyncio.run(run())

    async def absent() -> None:
        async with Netring.replay(story.with_name("absent")):
            pass

    with pytest.raises(CaptureFileError, match="No such file"):
        asyncio.run(absent())


# -- the command --


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [COMMAND, "flows", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def lines(path: Path, *arguments: str) -> list[str]:
    done = run("-r", path, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


def lines_of_format(path: Path, name: str) -> list[str]:
    """The lines of the file in this format, which are the same each time."""
    found = lines(path, "--format", name)
    assert lines(path, "--format", name) == found
    return found


def test_one_record_a_flow_can_be_had(story: Path) -> None:
    everything = lines_of_format(story, "json")
    ended = [line for line in everything if json.loads(line)["event"] == "ended"]
    assert lines(story, "--events", "ended") == ended
    assert lines(story, "--events", "ended,ended") == ended
    assert lines(story, "--format", "csv", "--events", "ended,ended") == lines(
        story, "--format", "csv"
    )
    both = [line for line in everything if json.loads(line)["event"] in {"started", "ended"}]
    assert lines(story, "--json", "--events", "ended,started") == both
    assert len(ended) < len(both) < len(everything)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--events", "ended,begun"), "must be some of started,established,updated,ended"),
        (("--events", ""), "must be some of"),
        (("--format", "csv", "--events", "started,ended"), "prints only ended"),
        (("--format", "zeek", "--events", "started"), "prints only ended"),
        (("--events", "started", "--mqtt", "mqtt://127.0.0.1"), "publishes updated and ended"),
    ],
)
def test_events_that_there_are_not_are_wrong_usage(
    story: Path, flags: tuple[str, ...], words: str
) -> None:
    done = run("-r", story, *flags)
    assert done.returncode == 2
    assert words in done.stderr.decode()


def test_zeek_s_conn_log(story: Path) -> None:
    *head, first, second, third = lines_of_format(story, "zeek")
    fields = next(line for line in head if line.startswith("#fields")).split("\t")[1:]
    rows = [dict(zip(fields, line.split("\t"), strict=True)) for line in (first, second, third)]
    assert [(r["proto"], r["id.orig_p"], r["id.resp_p"], r["conn_state"]) for r in rows] == [
        ("tcp", "40000", "80", "RSTO"), ("udp", "1000", "2000", "S0"), ("icmp", "8", "0", "OTH"),
    ]  # fmt: skip
    assert rows[0]["history"] == "ShAR"
    assert (rows[0]["ts"], rows[0]["duration"]) == ("1700000000.000001", "2.999999")
    assert (rows[1]["duration"], rows[1]["orig_bytes"], rows[1]["vlan"]) == ("-", "-", "-")
    assert len({r["uid"] for r in rows}) == 3


def test_in_zeek_s_formats_vlans_tell_no_flows_apart_unless_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "vlans.pcap"
    path.write_bytes(pcap([Frame(udp(A, B, 1, 2, vlans=(id_,)), START) for id_ in (5, 6)]))
    counts = {name: lines(path, "--format", name) for name in ("zeek-json", "eve", "csv")}
    assert [json.loads(line)["orig_pkts"] for line in counts["zeek-json"]] == [2]
    assert (len(counts["eve"]), len(counts["csv"])) == (2, 1 + 2)
    told = [json.loads(line)["vlan"] for line in lines(path, "--format", "zeek-json", "--key-vlan")]
    assert sorted(told) == [5, 6]
    assert len(lines(path, "--format", "eve", "--ignore-vlan")) == 1


def test_zeek_s_json(story: Path) -> None:
    records = [json.loads(line) for line in lines_of_format(story, "zeek-json")]
    assert [r["proto"] for r in records] == ["tcp", "udp", "icmp"]
    assert records[0]["id.resp_p"] == 80
    assert "duration" not in records[1]
    assert records[2]["orig_bytes"] == records[2]["resp_bytes"] == 0


def test_suricata_s_flow_events(story: Path) -> None:
    records = [json.loads(line) for line in lines_of_format(story, "eve")]
    assert [r["proto"] for r in records] == ["TCP", "UDP", "ICMP"]
    assert {r["event_type"] for r in records} == {"flow"}
    assert records[0]["flow"]["state"] == "closed"
    assert records[0]["flow"]["pkts_toserver"] == 3
    assert records[0]["flow"]["start"] == "2023-11-14T22:13:20.000001+0000"
    assert records[1]["vlan"] == [7]
    assert (records[2]["icmp_type"], records[2]["icmp_code"]) == (8, 0)
    assert len({r["flow_id"] for r in records}) == 3
    assert not any("in_iface" in r for r in records)


def test_comma_separated_values(story: Path) -> None:
    rows = list(csv.DictReader(lines_of_format(story, "csv")))
    assert [(r["proto"], r["reason"], r["orig_packets"]) for r in rows] == [
        ("tcp", "rst", "3"), ("udp", "shutdown", "1"), ("icmp", "shutdown", "1"),
    ]  # fmt: skip
    assert rows[0]["orig_state"] == "reset"
    assert rows[0]["start"] == "2023-11-14T22:13:20.000001000Z"
    assert (rows[0]["duration"], rows[1]["vlans"], rows[1]["orig_state"]) == ("2.999999", "7", "")


def test_json_has_every_event_and_a_filter_holds(story: Path) -> None:
    events = [json.loads(line) for line in lines(story, "--json", "icmp or udp")]
    assert [e["event"] for e in events] == ["started", "ended"]
    assert {e["proto"] for e in events} == {"icmp"}  # udp is behind a tag in the file
    assert {e["community_id"] for e in events} == {events[0]["community_id"]}
    assert events[-1]["conn_state"] == "OTH"


def test_a_count_is_exact_and_the_file_is_read_no_further_than_it_is_shown(many: Path) -> None:
    whole = lines(many, "--json")
    assert len(whole) == 2 * FLOWS
    for count in (1, 1023, 1024, 1025, 2 * FLOWS, 3 * FLOWS):
        done = run("-r", many, "--json", "-c", str(count))
        assert done.returncode == 0
        assert done.stdout.decode().splitlines() == whole[:count]


def test_the_reader_of_the_pipe_may_leave(many: Path) -> None:
    command = [COMMAND, "flows", "-r", str(many), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "started"
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(PATIENCE) == 0
    assert "Traceback" not in said
    # How far the file was read by then is left to chance; the figures agree all the same.
    told = re.search(r"(\d+) frames read, 0 filtered out, (\d+) with a flow\n", said)
    flows = re.search(r"(\d+) flows started, (\d+) ended", said)
    assert told is not None
    assert flows is not None
    assert {*told.groups(), *flows.groups()} == {told[1]}
    assert "books off" not in said


def test_standard_input_and_the_kinds_of_keys(story: Path) -> None:
    done = run("-r", "-", "--format", "csv", "--key", "host-pair", "--ignore-vlan",
               stdin=story.read_bytes())  # fmt: skip
    assert done.returncode == 0
    [row] = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert (row["orig_packets"], row["resp_packets"], row["orig_port"]) == ("5", "2", "0")


def test_a_broken_file_is_an_error_of_the_command(story: Path) -> None:
    story.write_bytes(story.read_bytes()[:-5])
    done = run("-r", story, "--format", "zeek")
    assert done.returncode == 1
    assert b"at byte" in done.stderr
    assert len(done.stdout.splitlines()) == 7 + 3


@pytest.mark.parametrize(
    "arguments", [(), ("-i", "x", "-r", "y"), ("-r", "y", "--json", "--format", "csv")]
)
def test_contradictions_are_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_a_bar_shows_the_progress_on_a_terminal(tmp_path: Path) -> None:
    path, count = tmp_path / "long.pcap", size(20_000, 100_000)
    path.write_bytes(pcap([Frame(udp(A, B, 1024 + n % 9, 9), START + n) for n in range(count)]))
    here, there = os.openpty()
    command = [COMMAND, "flows", "-r", str(path), "--format", "csv"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=there, env=environment
    ) as process:
        os.close(there)
        seen = b""
        with contextlib.suppress(OSError), os.fdopen(here, "rb", buffering=0) as terminal:
            while data := terminal.read(4096):  # EIO once the other end is closed
                seen += data
        assert process.wait(PATIENCE) == 0
    assert "━".encode() in seen
    assert f"{count} frames read".encode() in seen
