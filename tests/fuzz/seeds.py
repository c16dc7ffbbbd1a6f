"""The fuzzers' first corpus: ``python -m tests.fuzz.seeds TARGET FOLDER``."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from netring_bpf.filter.libpcap import Savefile
from tests.native.app.test_neighbours import MESSAGES
from tests.native.source.test_savefile import FORMS
from tests.support.encapsulations import LINKS, MACS, TAGS, TUNNELS
from tests.support.frames import icmp_echo, tcp, udp
from tests.support.paths import ORACLES, ROOT

MAX_FILE = 16_384
MAX_FRAMES = 40  # of one capture
RING = ROOT / "netring_bpf" / "ring"


def link_numbers() -> dict[int, int]:
    """The links of link_types.h by their LINKTYPE_."""
    names = re.findall(r"^    (NR_LINK_\w+)", (RING / "link_types.h").read_text(), re.MULTILINE)
    rows = re.findall(r"\{(\d+), (NR_LINK_\w+)\}", (RING / "link_types.c").read_text())
    return {int(linktype): names.index(name) for linktype, name in rows}


def captures() -> list[Path]:
    """The captures that are here; may be none."""
    return sorted(p for p in ORACLES.rglob("*.pcap*") if p.suffix in {".pcap", ".pcapng"})


def frames() -> Iterator[tuple[int, bytes]]:
    """Link, as the C core numbers it, and frame."""
    numbers = link_numbers()
    yield 0, tcp("10.0.0.1", "10.0.0.2", 1, 80, flags="S")
    yield 0, udp("fd00::1", "fd00::2", 1, 53, b"x" * 20, vlans=(5, 6))
    yield 0, icmp_echo("10.0.0.1", "10.0.0.2", 1, 1)
    yield from ((numbers[linktype], frame) for linktype, frame in LINKS.values())
    yield from ((0, MACS + tail) for tail in TAGS.values())
    yield from ((0, row.frame) for row in TUNNELS.values())
    for path in captures():
        with Savefile(path) as file:
            for _, frame in zip(range(MAX_FRAMES), file, strict=False):
                if file.linktype in numbers:
                    yield numbers[file.linktype], frame.data[:1500]


def main(target: str, folder: Path) -> None:
    """Write each seed under its own digest."""
    seeds: Iterator[bytes]
    if target == "savefile":
        files = [p.read_bytes() for p in captures() if p.stat().st_size <= MAX_FILE]
        seeds = iter([*FORMS.values(), *files])
    elif target == "neighbours":
        packets = [bytes(frame)[14:] for frame, _ in MESSAGES.values()]
        seeds = (bytes([how]) + packet for packet in packets for how in range(8))
    else:
        seeds = (bytes((4, 0, link, 1, 0, 0, 0, 0)) + data for link, data in frames())
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
