"""The flow table of a file grows as it needs to, unless a cap is asked for."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from netring_bpf import FlowEnded, FlowOptions
from netring_bpf.capture import memory_bound, replay
from netring_bpf.capture.memory_bound import memory_bound as bound
from tests.support.frames import udp
from tests.support.replay import START, Frame, replay_file
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"
FLOWS = 5000
PORTS = [(10_000 + n, 9) for n in range(FLOWS)]
NO_UPDATES = FlowOptions(update_interval=None)


@pytest.fixture
def there_and_back(tmp_path: Path) -> Path:
    """Each flow has a packet in either direction, the second after all others' first."""
    there = [udp(A, B, *ports) for ports in PORTS]
    back = [udp(B, A, *reversed(ports)) for ports in PORTS]
    path = tmp_path / "file"
    path.write_bytes(pcap([Frame(f, START + n) for n, f in enumerate([*there, *back])]))
    return path


@pytest.mark.parametrize("details", [False, True], ids=["plain", "details"])
def test_a_table_that_grows_loses_no_flow(
    there_and_back: Path, monkeypatch: pytest.MonkeyPatch, details: bool
) -> None:
    monkeypatch.setattr(replay, "_PIPE_FLOWS", 700)
    there_and_back.write_bytes(gzip.compress(there_and_back.read_bytes(), 1))
    options = FlowOptions(
        update_interval=0.001, packet_statistics=details, first_packets=3 * details
    )
    story = replay_file(there_and_back, options)
    assert story.error is None
    flows = story.books.flows
    assert (flows.started, flows.ended["evicted"], flows.peak) == (FLOWS, 0, FLOWS)
    assert flows.capacity in {700 * 8, 700 * 16}  # it grows some time before it is full
    assert {(e.flow.orig.packets, e.flow.resp.packets) for e in story.ended} == {(1, 1)}
    assert len({e.flow.key for e in story.ended}) == FLOWS
    if details:
        assert {len(e.flow.first_packets) for e in story.ended} == {2}
        assert {e.flow.statistics[0].size.max for e in story.ended if e.flow.statistics} == {60.0}


def test_a_table_of_large_arrays_grows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are of huge pages, where the kernel has some."""
    monkeypatch.setattr(replay, "_PIPE_FLOWS", 17_000)
    count, frame = 40_000, udp(A, B, 0, 9)
    frames = [
        Frame(frame[:26] + (0x0A00_0000 + n).to_bytes(4) + frame[30:], START + n)
        for n in range(count)
    ]
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(pcap(frames), 1))
    options = FlowOptions(events=(FlowEnded,), first_packets=32, tunnel_depth=0)
    flows = replay_file(path, options).books.flows
    assert (flows.started, flows.ended["evicted"], flows.capacity) == (count, 0, 68_000)


def test_a_plain_file_has_room_for_its_flows_from_the_beginning(there_and_back: Path) -> None:
    story = replay_file(there_and_back, NO_UPDATES)
    assert story.books.flows.capacity == there_and_back.stat().st_size // 76
    assert (story.books.flows.started, story.books.flows.ended["evicted"]) == (FLOWS, 0)


def test_a_cap_that_is_asked_for_is_kept_to(there_and_back: Path) -> None:
    story = replay_file(there_and_back, FlowOptions(update_interval=None, max_flows=1000))
    flows = story.books.flows
    assert (flows.capacity, flows.peak) == (1000, 1000)
    assert flows.ended["evicted"] == 2 * FLOWS - 1000


def test_a_table_grows_up_to_a_bound_and_then_evicts(
    there_and_back: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "memory_bound", lambda: 1_200_000)
    monkeypatch.setattr(replay, "_PIPE_FLOWS", 700)
    there_and_back.write_bytes(gzip.compress(there_and_back.read_bytes(), 1))
    flows = replay_file(there_and_back, NO_UPDATES).books.flows
    assert 700 < flows.capacity < FLOWS
    assert flows.peak == flows.capacity
    assert flows.ended["evicted"] == 2 * FLOWS - flows.capacity


def test_the_bound_is_half_of_what_the_group_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("/proc/self/cgroup").read_text()
    [path] = [line[4:] for line in own.splitlines() if line.startswith("0::/")] or ["missing"]
    group = tmp_path / path
    group.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(memory_bound, "_GROUPS", tmp_path)
    (group / "memory.max").write_text("max\n")
    whole = bound()
    assert whole > 1 << 28
    if path != "missing":
        (group / "memory.max").write_text(f"{1 << 27}\n")
        assert bound() == 1 << 26
