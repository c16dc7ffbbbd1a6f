"""Identifiers of flows: the same for the same file, others for other files, in every format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netring_bpf import FlowEnded, FlowOptions
from netring_bpf.events.batch import EventBatch
from netring_bpf.formats.base import FORMATS
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.ring.readers import Readers
from tests.support.frames import udp
from tests.support.replay import START, Frame, replay_file
from tests.support.savefiles import pcap

A, B = "10.0.0.1", "10.0.0.2"
FLOWS = 5
OF_FLOWS = [name for name, of in FORMATS.items() if FlowEnded in of.kinds]


def capture(last: bytes = b"") -> bytes:
    return pcap(
        [Frame(udp(A, B, 1000 + n, 9), START + n) for n in range(FLOWS - 1)]
        + [Frame(udp(A, B, 999, 9, last), START + FLOWS)]
    )


def ids(format: str, path: str | Path) -> set[str]:
    """The identifiers in the text of this format."""
    encoder = TextEncoder(format, kinds=(FlowEnded,))
    story = replay_file(path)
    assert story.error is None
    lines = [
        line
        for batch in story.batches
        if isinstance(batch, EventBatch)
        for line in encoder.encode(batch).decode().splitlines()
    ]
    if format in {"zeek", "csv"}:
        separator, name = {"zeek": ("\t", "uid"), "csv": (",", "id")}[format]
        names = next(
            line.removeprefix("#fields\t").split(separator)
            for line in FORMATS[format].header.decode().splitlines()
            if f"{separator}{name}{separator}" in line
        )
        return {line.split(separator)[names.index(name)] for line in lines}
    name = {"json": "id", "zeek-json": "uid", "eve": "flow_id"}[format]
    return {str(json.loads(line)[name]) for line in lines}


def ids_through_a_pipe(format: str, data: bytes) -> set[str]:
    ours, theirs = os.pipe()
    try:
        os.write(theirs, data)
    finally:
        os.close(theirs)
    try:
        return ids(format, f"/dev/fd/{ours}")
    finally:
        os.close(ours)


@pytest.mark.parametrize("format", OF_FLOWS)
def test_each_format_has_identifiers_of_its_file_alone(tmp_path: Path, format: str) -> None:
    paths = [tmp_path / folder / "capture.pcap" for folder in "ab"]
    for path, data in zip(paths, (capture(), capture(b"other")), strict=True):
        path.parent.mkdir()
        path.write_bytes(data)
    found = [ids(format, path) for path in paths]
    assert [len(each) for each in found] == [FLOWS, FLOWS]
    assert found[0] & found[1] == set()
    assert [ids(format, path) for path in paths] == found


@pytest.mark.parametrize("format", OF_FLOWS)
def test_captures_through_pipes_have_identifiers_of_their_own(format: str) -> None:
    data = [capture(), pcap([Frame(udp(A, B, n, 9), START + n) for n in range(1, FLOWS + 1)])]
    found = [ids_through_a_pipe(format, each) for each in data]
    assert [len(each) for each in found] == [FLOWS, FLOWS]
    assert found[0] & found[1] == set()
    assert [ids_through_a_pipe(format, each) for each in data] == found


def test_readers_of_json_can_tell_the_ids_of_any_capture_apart(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(capture())
    found = [event.flow.id for event in replay_file(path).ended]
    assert found == list(range(found[0], found[0] + FLOWS))
    assert 2**53 > found[-1] > found[0] > 0


def test_live_captures_have_ids_of_their_own_and_threads_share_none() -> None:
    with Readers(FlowOptions(), 3) as one, Readers(FlowOptions(), 3) as other:
        firsts = [reader.first_id for readers in (one, other) for reader in readers.each]
    assert [first % 3 for first in firsts] == [1, 2, 0] * 2
    assert len({first // 3 for first in firsts}) > 2
