"""The program of the table benchmark: a SYN flood against a full table, and the floor beside it.

Nothing grows in the flood, and established flows keep every packet.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.table import build, run_once

# Building the program takes longer than running it.
pytestmark = pytest.mark.long

PACKETS, CAP = 10_000_000, 65_536


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("flood"))


@pytest.mark.parametrize("how", ["random", "collide"])
def test_a_flood_leaves_established_flows_exact_and_memory_flat(program: Path, how: str) -> None:
    said = run_once(program, "flood", PACKETS, CAP, how)
    assert said["exact"] == said["established"] == 1000
    assert said["bytes_grown"] == 0
    assert said["peak"] == CAP


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_floor_takes_the_packets_that_the_table_takes(program: Path, kind: str) -> None:
    for mode in ("floor", "steady"):  # each ends with an error when its sums are wrong
        assert run_once(program, mode, 1000, 64_000, kind)["ns_per_packet"] > 0


@pytest.mark.parametrize("kind", ["tcp", "udp", "tls"])
def test_names_take_eight_bytes_a_flow_beside_their_store(program: Path, kind: str) -> None:
    off, on = (run_once(program, "steady", CAP, 64_000, kind, *names) for names in ((), ("names",)))
    shared = (128 << 10) / CAP  # of the whole table
    assert on["bytes_per_flow"] <= off["bytes_per_flow"] + 8 + shared <= 288
    assert on["store_per_flow"] <= 4 * 64
    assert on["names_read"] == (CAP if kind == "tls" else 0)


def test_a_torrent_of_hellos_leaves_flows_exact_and_memory_flat(program: Path) -> None:
    said = run_once(program, "torrent", PACKETS, CAP, "whole", "names")
    assert said["exact"] == said["established"] == 1000
    assert said["bytes_grown"] == 0
    assert said["pool_full"] == said["store_full"] == 0
    assert said["names_read"] > said["left_out"] > 0  # of 16,667 a second, 10,000 are told


def test_a_torrent_of_halves_leaves_flows_exact_and_memory_flat(program: Path) -> None:
    said = run_once(program, "torrent", PACKETS, CAP, "half", "names")
    assert said["exact"] == said["established"] == 1000
    assert said["bytes_grown"] == 0
    assert said["pool_full"] > 0
