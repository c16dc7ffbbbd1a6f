"""Community ID: the specification's own captures and identifiers, and its rules."""

from __future__ import annotations

import gzip
import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from netring_bpf import FlowOptions
from netring_bpf.events.community_id import community_id
from tests.support.paths import ORACLES
from tests.support.replay import replay_file

EXAMPLES = ORACLES / "community-id"
CAPTURES = ("icmp", "icmp6", "ipv6", "rsvp", "sctp", "tcp", "udp", "combined")


def expected(name: str) -> list[dict[str, object]]:
    text = (EXAMPLES / f"{name}.json").read_text(encoding="ascii")
    return list(json.loads(text))


def capture(name: str, folder: Path) -> Path:
    plain = EXAMPLES / f"{name}.pcap"
    if plain.exists():
        return plain
    path = folder / f"{name}.pcap"
    path.write_bytes(gzip.decompress((EXAMPLES / f"{name}.pcap.gz").read_bytes()))
    return path


@pytest.mark.requires("oracles")
@pytest.mark.parametrize(("baseline", "seed"), [("baseline_deflt", 0), ("baseline_seed1", 1)])
def test_every_identifier_of_the_specification_s_captures(
    baseline: str, seed: int, tmp_path: Path
) -> None:
    options = FlowOptions(update_interval=None, tunnel_depth=0)
    found = {
        event.flow.key.community_id(seed)
        for name in CAPTURES
        for event in replay_file(capture(name, tmp_path), options).ended
    }
    assert found == {entry["communityid"] for entry in expected(baseline)}


@pytest.mark.requires("oracles")
def test_every_entry_of_the_specification_by_itself() -> None:
    entries = expected("baseline_deflt")
    assert len(entries) == 23
    for entry in entries:
        src, dst = (ip_address(str(entry[name])).packed for name in ("saddr", "daddr"))
        # For ICMP the list has the answering type if there is one, and then the code 0.
        ports = (int(str(entry[name] or 0)) for name in ("sport", "dport"))
        found = community_id(int(str(entry["proto"])), src, next(ports), dst, next(ports))
        assert found == entry["communityid"]


def test_what_cannot_be_named_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        community_id(6, bytes(4), 1, bytes(4), 2, seed=65_536)
    with pytest.raises(ValueError, match="4 or both of 16"):
        community_id(6, bytes(4), 1, bytes(16), 2)
