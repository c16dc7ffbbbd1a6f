"""Zeek's logs of application protocols: our fields beside its own, capture by capture."""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import NamedTuple

import pytest

from netring_bpf import FlowOptions
from netring_bpf.formats.batch_text import TextEncoder
from netring_bpf.formats.zeek import header
from tests.support.paths import ORACLES, ROOT
from tests.support.replay import replay_file

pytestmark = pytest.mark.requires("oracles")

ZEEK = ORACLES / "zeek-names"
COMPARED = {
    "ssl": ("server_name", "version", "cipher", "next_protocol"),
    "http": ("host", "method", "uri", "status_code", "user_agent"),
    "dns": ("query", "qtype_name", "rcode_name", "answers"),
    "quic": ("version", "server_name", "client_protocol"),
    "dhcp": ("mac", "host_name", "assigned_addr"),
    "ssh": ("client", "server", "version"),
}
ENDS = (("id.orig_h", "id.orig_p"), ("id.resp_h", "id.resp_p"))
# Zeek's test of this capture hides a part of the originators' addresses.
MASKED = {"wikipedia.pcap": {"http"}}
DOCUMENT = ROOT / "docs" / "zeek-differences.md"

Row = dict[str, str]


class Case(NamedTuple):
    """A log of a capture. ``ignores``: Zeek was told to ignore checksums."""

    capture: str
    log: str
    ignores: bool


class Difference(NamedTuple):
    """A field in which a line of Zeek differs; ``ours`` None: there is no such line."""

    field: str
    theirs: str
    ours: str | None


def cases() -> list[Case]:
    index = ZEEK / "INDEX.tsv"
    if not index.exists():
        return []
    lines = (line.split("\t") for line in index.read_text(encoding="utf-8").splitlines()[1:])
    return [Case(capture, log, ignores == "yes") for capture, log, ignores, _ in lines]


def listed(title: str) -> dict[tuple[str, str], str]:
    """Return the second column of the document's table, by capture and log."""
    _, _, behind = DOCUMENT.read_text(encoding="utf-8").partition(f"| capture, log | {title} |")
    found = {}
    for line in behind.splitlines()[2:]:
        if not line.startswith("|"):
            break
        _, name, value, *_ = line.split("|")
        capture, _, log = name.replace("`", "").strip().rpartition(", ")
        found[capture, log] = value.strip()
    return found


def compared() -> list[Case]:
    """Return the logs whose lines come from packets, in protocols that are read here."""
    left_out = listed("the lines of Zeek come from")
    return [case for case in cases() if (case.capture, case.log) not in left_out]


def table(text: str) -> list[Row]:
    """Return the lines by their columns; a log of Zeek's tests may have lost its ``#fields``."""
    lines = [line for line in text.splitlines() if line and not line.startswith("### ")]
    named = next((line for line in lines if line.startswith("#fields\t")), None)
    if named is None:
        named, lines = lines[0], lines[1:]
    names = named.removeprefix("#fields\t").split("\t")
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return [dict(zip(names, row, strict=True)) for row in rows]


@functools.cache
def ours(capture: str, log: str, verify_checksums: bool) -> list[Row]:
    options = FlowOptions(update_interval=None, verify_checksums=verify_checksums, key_vlan=False)
    story = replay_file(ZEEK / capture, options)
    assert story.error is None
    encoder = TextEncoder(f"zeek-{log}")
    lines = b"".join(encoder.encode(batch) for batch in story.batches)
    return table((header(log) + lines).decode())


def differences(case: Case) -> tuple[list[Difference], int]:
    """Return the fields of Zeek's lines that differ, and the number of all that are compared."""
    theirs = table((ZEEK / f"{case.capture}.{case.log}.log").read_text(encoding="utf-8"))
    names = [name for name in COMPARED[case.log] if name in theirs[0]]
    # Zeek has lines for what it took for a message, and could read nothing of.
    theirs = [row for row in theirs if {row[name] for name in names} != {"-"}]
    is_masked = case.log in MASKED.get(case.capture, ())
    ends = [end[is_masked:] for end in ENDS if all(name in theirs[0] for name in end)]

    def key(row: Row) -> list[list[str]]:
        # Which side is the originator is the matter of conn.log.
        return sorted([row[name] for name in end] for end in ends)

    left: dict[str, list[Row]] = defaultdict(list)
    for row in ours(case.capture, case.log, not case.ignores):
        left[str(key(row))].append(row)
    open_: list[Row] = []
    for row in theirs:
        rest = left[str(key(row))]
        same = next((r for r in rest if all(r[name] == row[name] for name in names)), None)
        if same is None:
            open_.append(row)
        else:
            rest.remove(same)
    found = []
    for row in open_:
        rest = left[str(key(row))]
        nearest = max(rest, key=lambda r, row=row: sum(r[n] == row[n] for n in names), default=None)
        if nearest is not None:
            rest.remove(nearest)
        found += [
            Difference(name, row[name], None if nearest is None else nearest[name])
            for name in names
            if nearest is None or nearest[name] != row[name]
        ]
    return found, len(names) * len(theirs)


@pytest.mark.parametrize("case", compared(), ids=lambda case: f"{case.capture}-{case.log}")
def test_the_fields_are_zeek_s(case: Case) -> None:
    found, _ = differences(case)
    assert len(found) == int(listed("fields").get((case.capture, case.log), 0)), found


def test_of_a_hundred_fields_ninety_seven_are_zeek_s() -> None:
    counts = [(len(found), total) for found, total in map(differences, compared())]
    differing, total = (sum(column) for column in zip(*counts, strict=True))
    assert (total - differing) / total >= 0.97
