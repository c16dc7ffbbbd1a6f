"""The sizes of AF_XDP rings that nobody gave: by speed, MTU, queues, and the memory-lock limit."""

from __future__ import annotations

import resource
from dataclasses import dataclass

import pytest

from netring_bpf.capture import ring_sizes
from netring_bpf.capture.ring_sizes import RingSizes, choose_sizes
from netring_bpf.interface import Interface
from netring_bpf.ring.options import XdpOptions


@dataclass(frozen=True, slots=True)
class Link(Interface):
    """An interface of a certain speed."""

    mbit: int | None = None

    def speed(self) -> int | None:
        return self.mbit


def choose(
    *, mtu: int = 1500, mbit: int | None = None, queues: int = 1, xdp: XdpOptions | None = None
) -> tuple[int, int, int]:
    link = Link("eth1", 2, mtu, True, True, False, None, mbit)
    chosen = choose_sizes(xdp or XdpOptions(), link, queues)
    return chosen.ring_size, chosen.chunk_size, chosen.chunks


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_sizes, "_memory_lock_limit", lambda: None)


def test_where_nothing_is_known_a_queue_takes_32_mib() -> None:
    assert choose() == (16_384, 2048, 16_384)


@pytest.mark.parametrize(
    ("mbit", "queues", "ring_size"),
    [
        (100, 1, 2048),  # 1488 frames in 10 ms
        (1000, 1, 16_384),  # 14,881
        (1000, 4, 4096),
        (1000, 64, 2048),
        (2500, 1, 65_536),  # 37,202
        (10_000, 1, 65_536),  # 148,810, and no more than this
        (10_000, 8, 32_768),
        (100_000, 64, 32_768),
    ],
)
def test_a_ring_holds_ten_milliseconds_of_the_shortest_frames(
    mbit: int, queues: int, ring_size: int
) -> None:
    assert choose(mbit=mbit, queues=queues) == (ring_size, 2048, 2 * ring_size)


@pytest.mark.parametrize(
    ("mtu", "chunk_size"), [(1500, 2048), (1774, 2048), (1775, 4096), (9000, 4096)]
)
def test_a_chunk_holds_a_frame_of_the_mtu_with_its_header_and_a_tag(
    mtu: int, chunk_size: int
) -> None:
    assert choose(mtu=mtu) == (16_384, chunk_size, 16_384)


def test_what_was_given_stays_and_the_rest_fits_to_it() -> None:
    assert choose(mtu=9000, xdp=XdpOptions(chunk_size=2048)) == (16_384, 2048, 16_384)
    assert choose(mbit=10_000, xdp=XdpOptions(ring_size=64)) == (64, 2048, 128)
    assert choose(mbit=10_000, xdp=XdpOptions(chunks=4096)) == (4096, 2048, 4096)
    given = XdpOptions(ring_size=64, chunk_size=4096, chunks=1024)
    assert choose(mbit=10_000, xdp=given) == (64, 4096, 1024)


@pytest.mark.parametrize(
    ("limit", "queues", "expected"),
    [
        (32 << 20, 1, (16_384, 2048, 16_384)),
        (8 << 20, 1, (4096, 2048, 4096)),
        (8 << 20, 4, (1024, 2048, 1024)),
        (1 << 16, 4, (64, 2048, 64)),  # too little for four: the kernel's error says so
    ],
)
def test_under_a_memory_lock_limit_all_queues_fit_together_in_words(
    monkeypatch: pytest.MonkeyPatch, limit: int, queues: int, expected: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(ring_sizes, "_memory_lock_limit", lambda: limit)
    assert choose(queues=queues) == expected
    link = Link("eth1", 2, 1500, True, True, False, None)
    notice = choose_sizes(XdpOptions(), link, queues).notice
    if expected[0] == 16_384:
        assert notice is None
    else:
        assert notice is not None
        assert f"instead of 16384 and 16384: the memory-lock limit is {limit >> 10} KiB" in notice


def test_what_was_given_is_never_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_sizes, "_memory_lock_limit", lambda: 1 << 20)
    assert choose(xdp=XdpOptions(ring_size=4096)) == (4096, 2048, 4096)
    assert choose(xdp=XdpOptions(ring_size=4096, chunks=32_768)) == (4096, 2048, 32_768)


def test_the_limit_is_the_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert ring_sizes._memory_lock_limit() in {None, soft}


def test_the_chosen_sizes_are_put_into_the_options() -> None:
    asked = XdpOptions(queues=(1,), huge_pages=True)
    given = RingSizes(64, 4096, 128).put_in(asked)
    assert given == XdpOptions(
        queues=(1,), huge_pages=True, ring_size=64, chunk_size=4096, chunks=128
    )
