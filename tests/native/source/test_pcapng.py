"""pcapng as it is written: many options, long blocks, many interfaces, any resolution."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from netring_bpf.errors import CaptureFileError
from tests.support.frames import udp
from tests.support.replay import SECOND, START, FileStory, Frame, replay_file
from tests.support.savefiles import Interface, any_block, described, head, packet, section

A, B = "10.0.0.1", "10.0.0.2"
COMMENT, SECRETS, CUSTOM = 1, 10, 0x40000BAD
LONGEST_BLOCK = 64 << 20
FRAMES = [Frame(udp(A, B, 1000 + n, 53, b"ask"), START + n * SECOND) for n in range(3)]


def read(path: Path, data: bytes) -> FileStory:
    path.write_bytes(data)
    return replay_file(path)


def starts(story: FileStory) -> list[int]:
    return sorted(event.flow.start for event in story.ended)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file.pcapng"


# -- options --


@pytest.mark.parametrize("count", [63, 64, 70, 5000])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_is_read_behind_any_number_of_options(
    file: Path, count: int, order: str
) -> None:
    address = (4, bytes([10, 0, 0, 1, 255, 255, 255, 0]))
    interface = Interface(resolution=9, offset=-5, options=(address,) * count)
    story = read(file, section([interface], [(0, f) for f in FRAMES], order=order))
    assert story.error is None
    assert starts(story) == [frame.ts for frame in FRAMES]


def test_what_stands_behind_the_end_of_the_options_is_no_option(file: Path) -> None:
    interface = Interface(resolution=9, options=((COMMENT, b"x"), (0, b"")))
    data = head() + described(interface) + packet([Interface()], 0, FRAMES[0])
    assert starts(read(file, data)) == [START]


# -- resolutions --


@pytest.mark.parametrize(
    ("resolution", "units", "ns"),
    [
        (0, 1_700_000_000, START),
        (19, 17 * 10**18 + 123_456_789, 1_700_000_000),
        (20, 0x00060A24_181E4000, 17_000),
        (28, 2**64 - 1, 1),
        (29, 2**64 - 1, 0),
        (127, 2**64 - 1, 0),
        (0x80, 1_700_000_000, START),
        (0x80 | 63, 3 << 62, 1_500_000_000),
        (0x80 | 64, 3 << 62, 750_000_000),
        (0x80 | 92, 2**64 - 1, 3),
        (0x80 | 127, 2**64 - 1, 0),
    ],
)
def test_every_resolution_that_an_option_can_have_is_understood(
    file: Path, resolution: int, units: int, ns: int
) -> None:
    frame = FRAMES[0].data
    fields = 0, units >> 32, units & 0xFFFF_FFFF, len(frame), len(frame)
    body = struct.pack("<5I", *fields) + frame + bytes(-len(frame) % 4)
    story = read(file, head() + described(Interface(resolution=resolution)) + any_block(6, body))
    assert story.error is None
    assert starts(story) == [ns]


@pytest.mark.parametrize(
    ("offset", "start"),
    [
        (-1_700_000_001, 0),
        (-(2**63), 0),
        (100_000_000_000, 2**63 - 1),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_times_beyond_those_of_63_bits_are_the_first_or_the_last(
    file: Path, offset: int, start: int
) -> None:
    data = head() + described(Interface(offset=offset)) + packet([Interface()], 0, FRAMES[0])
    story = read(file, data)
    assert story.error is None
    assert starts(story) == [start]


# -- interfaces --


@pytest.mark.parametrize("count", [1025, 65_536])
def test_a_file_may_have_many_interfaces(file: Path, count: int) -> None:
    interfaces = [Interface(resolution=9) for _ in range(count)]
    story = read(file, section(interfaces, [(0, FRAMES[0]), (count - 1, FRAMES[1])]))
    assert story.error is None
    assert starts(story) == [FRAMES[0].ts, FRAMES[1].ts]


def test_each_section_has_interfaces_of_its_own(file: Path) -> None:
    many = section([Interface()] * 40_000, [])
    story = read(file, many + many + section([Interface()], [(0, FRAMES[0])], order=">"))
    assert story.error is None
    assert starts(story) == [START]
    story = read(file, many + section([Interface()], []) + packet([Interface()] * 2, 1, FRAMES[0]))
    assert "not described" in str(story.error)


# -- long blocks --

LONG = 3_000_000  # bytes, more than the buffer has


def values(size: int) -> list[tuple[int, bytes]]:
    """Comments of so many bytes in all."""
    return [(COMMENT, bytes(60_000))] * (size // 60_000)


def long_block(name: str, order: str = "<") -> bytes:
    one = [Interface()]
    return {
        "section": lambda: head(order, values(LONG)),
        "interface": lambda: described(Interface(options=tuple(values(LONG))), order),
        "packet": lambda: packet(one, 0, FRAMES[2], order=order, options=values(LONG)),
        "old": lambda: packet(one, 0, FRAMES[2], order=order, block=2, options=values(LONG)),
        "secrets": lambda: any_block(SECRETS, bytes(LONG), order),
        "custom": lambda: any_block(CUSTOM, bytes(LONG), order),
        "of a buffer": lambda: any_block(SECRETS, bytes((2 << 20) - 60), order),
    }[name]()


LONG_BLOCKS = ("section", "interface", "packet", "old", "secrets", "custom", "of a buffer")
HAVE_FRAMES = {"packet", "old"}


@pytest.mark.parametrize("name", LONG_BLOCKS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_long_blocks_are_passed_over(file: Path, name: str, order: str) -> None:
    before = section([Interface()], [(0, FRAMES[0])], order=order)
    again = described(Interface(), order) if name == "section" else b""
    after = packet([Interface()], 0, FRAMES[1], order=order)
    story = read(file, before + long_block(name, order) + again + after)
    assert story.error is None
    assert starts(story) == [f.ts for f in (FRAMES if name in HAVE_FRAMES else FRAMES[:2])]


@pytest.mark.parametrize("name", LONG_BLOCKS)
def test_a_long_block_whose_lengths_differ_is_damaged(file: Path, name: str) -> None:
    before = section([Interface()], [(0, FRAMES[0])])
    story = read(file, before + long_block(name)[:-4] + bytes(4))
    assert isinstance(story.error, CaptureFileError)
    assert "contradicts itself" in str(story.error)
    assert story.error.offset == len(before)


@pytest.mark.parametrize("name", LONG_BLOCKS)
@pytest.mark.parametrize("left", [1, 4, 1_000_000])
def test_a_file_that_ends_in_a_long_block_gives_what_is_before(
    file: Path, name: str, left: int
) -> None:
    before = section([Interface()], [(0, FRAMES[0])])
    story = read(file, before + long_block(name)[:-left])
    assert isinstance(story.error, CaptureFileError)
    assert "ends inside of a record" in str(story.error)
    assert story.error.offset == len(before)
    assert starts(story)[0] == START


def test_a_frame_of_more_than_a_mebibyte_is_read_to_there(file: Path) -> None:
    long = Frame(udp(A, B, 7, 8, b"x") + bytes(1_500_000), START)
    story = read(file, section([Interface()], [(0, long), (0, FRAMES[1])]))
    assert story.error is None
    assert [event.flow.orig.bytes for event in story.ended] == [len(long.data), len(FRAMES[1].data)]


@pytest.mark.parametrize("kind", [1, 2, 3, 6])
def test_a_block_of_more_than_64_mebibytes_is_damaged(file: Path, kind: int) -> None:
    before = section([Interface()], [(0, FRAMES[0])])
    story = read(file, before + struct.pack("<III", kind, LONGEST_BLOCK + 4, 0))
    assert "length makes no sense" in str(story.error)
    assert isinstance(story.error, CaptureFileError)
    assert story.error.offset == len(before)
    story = read(file, before + struct.pack("<III", kind, LONGEST_BLOCK, 0))
    assert "ends inside of a record" in str(story.error)


def test_a_length_that_is_no_multiple_of_four_is_damaged(file: Path) -> None:
    before = section([Interface()], [(0, FRAMES[0])])
    story = read(file, before + struct.pack("<III", SECRETS, 13, 13))
    assert "length makes no sense" in str(story.error)
