"""The floor of the table benchmark counts what it should: a floor that skips work is none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cffi import FFI

from tests.support.frames import icmp_echo, ip, tcp, udp

_ROOT = Path(__file__).resolve().parents[2]
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC")
_DECLARATIONS = """
struct nr_frame { const uint8_t *data; uint64_t ts; uint32_t caplen, len;
                  uint16_t vlan_tci, vlan_tpid, link; };
struct floor { void *slots; uint32_t mask, flows; };
struct floor floor_create(uint32_t flows);
void floor_destroy(struct floor *floor);
uint32_t floor_take(struct floor *floor, const struct nr_frame *frames, uint32_t count);
void floor_sums(const struct floor *floor, uint64_t packets[2], uint64_t bytes[2]);
"""


class Floor:
    """The floor as a library, one table a call."""

    def __init__(self, library: Path) -> None:
        self._ffi = FFI()
        self._ffi.cdef(_DECLARATIONS)
        self._lib = self._ffi.dlopen(str(library))

    def take(self, frames: Sequence[bytes], room: int = 64) -> tuple[int, int, list[int]]:
        """Returns how many frames counted, in how many flows, and packets and bytes by end."""
        ffi = self._ffi
        kept = [ffi.from_buffer(frame) for frame in frames]
        records = ffi.new("struct nr_frame[]", len(frames))
        for record, data in zip(records, kept, strict=True):
            record.data, record.caplen, record.len = data, len(data), len(data)
        floor = ffi.new("struct floor *", self._lib.floor_create(room))
        counted = self._lib.floor_take(floor, records, len(frames))
        packets, sizes = ffi.new("uint64_t[2]"), ffi.new("uint64_t[2]")
        self._lib.floor_sums(floor, packets, sizes)
        self._lib.floor_destroy(floor)
        return counted, floor.flows, [*packets, *sizes]


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Floor:
    library = tmp_path_factory.mktemp("floor") / "floor.so"
    source = _ROOT / "benchmarks" / "table_floor.c"
    include = f"-I{_ROOT / 'netring_bpf' / 'ring'}"
    subprocess.run(["gcc", *_FLAGS, include, "-o", library, source], check=True)
    return Floor(library)


@pytest.mark.parametrize("make", [tcp, udp])
@pytest.mark.parametrize(("low", "high"), [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "fd00::1")])
def test_both_directions_are_one_flow_counted_by_end(
    floor: Floor, make: Callable[..., bytes], low: str, high: str
) -> None:
    there, back = make(low, high, 4000, 53, b"x" * 20), make(high, low, 53, 4000, b"x" * 99)
    counted, flows, sums = floor.take([there, back, there])
    assert (counted, flows) == (3, 1)
    assert sums == [2, 1, 2 * len(there), len(back)]


def test_each_part_of_the_five_tuple_tells_flows_apart(floor: Floor) -> None:
    frames = [
        tcp("10.0.0.1", "10.0.0.2", 4000, 53),
        udp("10.0.0.1", "10.0.0.2", 4000, 53),
        tcp("10.0.0.3", "10.0.0.2", 4000, 53),
        tcp("10.0.0.1", "10.0.0.3", 4000, 53),
        tcp("10.0.0.1", "10.0.0.2", 4001, 53),
        tcp("10.0.0.1", "10.0.0.2", 4000, 54),
        tcp("2001:db8::1", "2001:db8::2", 4000, 53),
        tcp("2001:db8::1", "2001:db8:1::2", 4000, 53),
    ]
    assert floor.take(frames)[:2] == (len(frames), len(frames))


def test_the_ports_order_the_ends_of_one_address(floor: Floor) -> None:
    frames = [tcp("::1", "::1", 9, 5), tcp("::1", "::1", 5, 9), udp("10.0.0.1", "10.0.0.1", 2, 1)]
    counted, flows, sums = floor.take(frames)
    assert (counted, flows, sums[:2]) == (3, 2, [1, 2])


def test_frames_without_a_five_tuple_are_not_counted(floor: Floor) -> None:
    whole = tcp("10.0.0.1", "10.0.0.2", 4000, 53)
    frames = [
        icmp_echo("10.0.0.1", "10.0.0.2", 1, 1),
        ip("10.0.0.1", "10.0.0.2", 47, b"x" * 40),
        tcp("10.0.0.1", "10.0.0.2", 4000, 53, vlans=(7,)),
        whole[:14],
        whole[: 14 + 20 + 3],
        whole[:14] + b"\x44" + whole[15:],
    ]
    assert floor.take(frames) == (0, 0, [0, 0, 0, 0])


def test_a_full_table_takes_no_further_flow_and_keeps_those_it_has(floor: Floor) -> None:
    frames = [udp("10.0.0.1", "10.0.0.2", port, 53) for port in range(1, 100)]
    counted, flows, _ = floor.take([*frames, *frames], room=64)
    assert (counted, flows) == (128, 64)
