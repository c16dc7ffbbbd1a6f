"""conn.log: our rows beside Zeek's own, for every capture of its regression tests that is here."""

from __future__ import annotations

from collections import Counter

import pytest

from netring_bpf import FlowOptions
from netring_bpf.formats.zeek import HEADER
from tests.support.formatters import text_in_python
from tests.support.paths import ORACLES, ROOT
from tests.support.replay import replay_file

pytestmark = pytest.mark.requires("oracles")

ZEEK = ORACLES / "zeek"
COMPARED = (
    "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "orig_bytes", "resp_bytes",
    "conn_state", "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
)  # fmt: skip

# Captures that Zeek's own test reads in bare mode, without the list of server ports.
BARE = {"tunnels__gre-aruba-amsdu.pcap", "wikipedia.pcap"}

# Rows of Zeek's that ours differ from; docs/zeek-differences.md says why, capture by capture.
DIFFERENT = {
    "ftp__fake-long-commands.pcap": 1,
    "globus-url-copy.pcap": 1,
    "ldap__missing_krbtgt_ldap_request.pcapng": 1,
    "smtp.pcap": 2,
}


def rows(text: str) -> Counter[tuple[str, ...]]:
    names: list[str] = []
    found: Counter[tuple[str, ...]] = Counter()
    for line in text.splitlines():
        if line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            row = dict(zip(names, line.split("\t"), strict=True))
            found[tuple(row[name] for name in COMPARED)] += 1
    return found


def captures() -> list[tuple[str, bool]]:
    """Each with whether Zeek was told to ignore checksums."""
    index = ZEEK / "INDEX.tsv"
    if not index.exists():
        return []
    lines = index.read_text(encoding="utf-8").splitlines()[1:]
    return [(line.split("\t")[0], line.split("\t")[2] == "yes") for line in lines]


def missing(capture: str, *, verify_checksums: bool) -> tuple[int, int]:
    """Count Zeek's rows that are not among ours, and all of its rows."""
    options = FlowOptions(
        update_interval=None, verify_checksums=verify_checksums, server_ports=capture not in BARE,
        reassembled=True,
    )  # fmt: skip
    story = replay_file(ZEEK / capture, options)
    assert story.error is None
    ours = rows((HEADER + text_in_python("zeek", story.ended)).decode())
    theirs = rows((ZEEK / f"{capture}.conn.log").read_text(encoding="utf-8"))
    return (theirs - ours).total(), theirs.total()


@pytest.mark.parametrize(("capture", "ignores"), captures())
def test_the_rows_are_zeek_s(capture: str, ignores: bool) -> None:
    differing, _ = missing(capture, verify_checksums=not ignores)
    assert differing == DIFFERENT.get(capture, 0)


def test_of_a_hundred_rows_ninety_seven_are_zeek_s() -> None:
    counts = [missing(capture, verify_checksums=not ignores) for capture, ignores in captures()]
    differing, total = (sum(column) for column in zip(*counts, strict=True))
    assert (total - differing, total) == (188, 193)
    assert (total - differing) / total >= 0.97


def test_checksums_need_not_be_verified_for_that() -> None:
    counts = [missing(capture, verify_checksums=False) for capture, _ in captures()]
    assert sum(differing for differing, _ in counts) == 5


def test_each_capture_that_differs_is_explained() -> None:
    text = (ROOT / "docs" / "zeek-differences.md").read_text(encoding="utf-8")
    assert [capture for capture in DIFFERENT if f"`{capture}`" not in text] == []
