"""Packed capture files: every packing, pipes of them, and damaged ones."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from netring_bpf.capture.packings import DamagedError, Unpacker, recognise
from netring_bpf.errors import CaptureFileError
from tests.support.frames import udp
from tests.support.replay import START, FileStory, Frame, replay_file
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"


def zstd_compress(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    options = {zstd.CompressionParameter.checksum_flag: 1}
    return zstd.compress(data, options=options)


def lz4_compress(data: bytes) -> bytes:
    import lz4.frame

    return lz4.frame.compress(data, content_checksum=True)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd_compress,
    "lz4": lz4_compress,
}
COUNT = 500
RANDOM = random.Random(4)
FRAMES = [
    Frame(udp(A, B, 1024 + n, 9, RANDOM.randbytes(60) + bytes(100)), START + n * 1000)
    for n in range(COUNT)
]
WHOLE = pcap(FRAMES)
HEAD, RECORD = len(pcap([])), (len(WHOLE) - len(pcap([]))) // COUNT


def read(path: Path, data: bytes) -> FileStory:
    path.write_bytes(data)
    return replay_file(path)


def read_pipe(path: Path, data: bytes) -> FileStory:
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as sink:
            sink.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    story = replay_file(path)
    writer.join()
    return story


WAYS: dict[str, Callable[[Path, bytes], FileStory]] = {"file": read, "pipe": read_pipe}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("packing", PACK)
def test_every_packing_is_read(tmp_path: Path, packing: str, way: str) -> None:
    story = WAYS[way](tmp_path / "file", PACK[packing](WHOLE))
    assert story.error is None
    assert story.books.file_frames == COUNT


@pytest.mark.parametrize("packing", PACK)
def test_members_behind_each_other_are_one_stream(tmp_path: Path, packing: str) -> None:
    pack = PACK[packing]
    data = pack(WHOLE[:1000]) + pack(b"") + bytes(512) + pack(WHOLE[1000:]) + bytes(512)
    story = read(tmp_path / "file", data)
    assert story.error is None
    assert story.books.file_frames == COUNT


def test_a_skippable_frame_of_zstd_is_passed_over(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0meta"
    story = read(tmp_path / "file", skippable + zstd_compress(WHOLE) + skippable)
    assert story.error is None
    assert story.books.file_frames == COUNT


@pytest.mark.parametrize("packing", PACK)
def test_little_input_gives_much_output_in_pieces(packing: str) -> None:
    data = PACK[packing](bytes(8_000_000))
    found = recognise(data)
    assert found is not None
    assert found.name == packing
    sizes = [len(piece) for piece in Unpacker(found).feed(data)]
    assert sum(sizes) == 8_000_000
    assert max(sizes) <= 1 << 18


# -- damage --


def complete(size: int) -> int:
    """The number of whole frames in so many bytes of the file."""
    return max(0, size - HEAD) // RECORD


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("packing", PACK)
def test_a_stream_that_is_cut_gives_all_that_its_bytes_hold(
    tmp_path: Path, packing: str, way: str
) -> None:
    data = PACK[packing](WHOLE)
    data = data[: len(data) * 2 // 3]
    found = recognise(data)
    assert found is not None
    held = sum(map(len, Unpacker(found).feed(data)))
    story = WAYS[way](tmp_path / "file", data)
    assert isinstance(story.error, CaptureFileError)
    assert f"cut short: the {packing} data end before their end" in str(story.error)
    assert story.books.file_frames == complete(held)


TRAILER = {"gzip": 8, "xz": 12 + 8 + 8, "zstd": 4, "lz4": 4}  # from the end: a checksum


@pytest.mark.parametrize("packing", TRAILER)
def test_a_wrong_checksum_at_the_end_costs_no_frame(tmp_path: Path, packing: str) -> None:
    data = bytearray(PACK[packing](WHOLE))
    data[-TRAILER[packing]] ^= 0xFF
    story = read(tmp_path / "file", bytes(data))
    assert isinstance(story.error, CaptureFileError)
    assert f"damaged as {packing}: " in str(story.error)
    assert story.books.file_frames == COUNT
    assert story.error.offset == len(WHOLE)


def test_a_wrong_checksum_of_gzip_costs_no_frame_of_a_pipe(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(WHOLE))
    data[-8] ^= 0xFF
    story = read_pipe(tmp_path / "file", bytes(data))
    assert story.books.file_frames == COUNT
    assert "damaged as gzip: " in str(story.error)


def good_bytes(data: bytes, intact: int) -> int:
    """Unpack the bytes behind the intact ones one by one, and count those that come out right."""
    found = recognise(data)
    assert found is not None
    unpacker = Unpacker(found)
    content = b"".join(unpacker.feed(data[:intact]))
    with contextlib.suppress(DamagedError):
        for at in range(intact, len(data)):
            content += b"".join(unpacker.feed(data[at : at + 1]))
    pairs = zip(content, WHOLE, strict=False)
    return next((at for at, (got, right) in enumerate(pairs) if got != right), len(content))


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("packing", PACK)
def test_damage_in_the_middle_costs_nothing_before_it(
    tmp_path: Path, packing: str, at: float
) -> None:
    """What is unpacked behind the damage may be no capture before the packing finds it."""
    data = bytearray(PACK[packing](WHOLE))
    middle = int(len(data) * at)
    for n in range(16):
        data[middle + n] ^= 0xA5
    story = read(tmp_path / "file", bytes(data))
    assert isinstance(story.error, CaptureFileError)
    assert story.books.file_frames >= complete(good_bytes(bytes(data), middle))


@pytest.mark.parametrize("packing", PACK)
def test_what_is_no_member_behind_the_last_one_is_told(tmp_path: Path, packing: str) -> None:
    story = read(tmp_path / "file", PACK[packing](WHOLE) + b"rubbish, rubbish, rubbish")
    assert f"damaged as {packing}: " in str(story.error)
    assert story.books.file_frames == COUNT


# -- packings that cannot be unpacked here --


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lz4", "lz4.frame", "backports.zstd", "compression.zstd", "bz2", "lzma"):
        monkeypatch.setitem(sys.modules, name, None)


MAGIC = {
    "zstd": (b"\x28\xb5\x2f\xfd", "zstd -dc"),
    "lz4": (b"\x04\x22\x4d\x18", "lz4 -dc"),
    "xz": (b"\xfd7zXZ\0", "xz -dc"),
    "bzip2": (b"BZh9", "bzip2 -dc"),
    "zip": (b"PK\x03\x04", "unzip -p"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z x -so"),
    "compress": (b"\x1f\x9d\x90", "gzip -dc"),
}


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("packing", MAGIC)
def test_a_packing_without_its_library_is_named_with_a_pipe(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "file"
    magic, command = MAGIC[packing]
    with pytest.raises(CaptureFileError) as raised:
        read(path, magic + bytes(100))
    assert f"{path}: it is packed with {packing}, which cannot be unpacked here; " in str(
        raised.value
    )
    assert str(raised.value).endswith(f"{command} {path} | … -r -")
    assert ("netring-bpf[packed]" in str(raised.value)) == (packing in {"zstd", "lz4"})


@pytest.mark.usefixtures("nothing_installed")
def test_a_pipe_of_a_packing_without_its_library_is_named(tmp_path: Path) -> None:
    story = read_pipe(tmp_path / "file", MAGIC["zstd"][0] + bytes(100))
    assert isinstance(story.error, CaptureFileError)
    assert "it is packed with zstd, which cannot be unpacked here" in str(story.error)


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, way: str) -> None:
    story = WAYS[way](tmp_path / "file", b"")
    assert str(story.error) == (
        f"read capture file {tmp_path / 'file'}: it is empty, without one byte"
    )
