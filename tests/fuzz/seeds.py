"""The fuzzers' first corpus: ``python -m tests.fuzz.seeds dissect|savefile|tls FOLDER``."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from netring_bpf.filter.libpcap import Savefile
from tests.native.app.hellos import (
    alpn,
    client_hello,
    datagram_record,
    extension,
    fragment,
    key_share,
    record,
    server_hello,
    server_name,
    versions,
)
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


def hellos() -> Iterator[bytes]:
    """Hellos, behind the byte that chooses their parser."""
    client = client_hello(server_name(b"a.example") + alpn(b"h2") + versions(0x0304, 0x0303))
    server = server_hello(key_share(29) + extension(43, b"\x03\x04"))
    datagram = client_hello(versions(0xFEFC, 0xFEFD), version=0xFEFD, cookie=b"")
    question = b"\x09\0\0\0\x03\x01\0\0"  # a record: a ticket without an ID
    yield from (b"\0" + record(hello) for hello in (client, server))
    yield from (b"\x08" + record(hello)[:60] for hello in (client, server))
    yield b"\0" + record(client[:20]) + record(client[20:])
    yield b"\x10" + question + record(server_hello()) + record(b"\x01", kind=20)
    yield from (b"\x01" + client, b"\x03" + client, b"\x01" + server, b"\x02" + datagram)
    yield b"\x04" + datagram_record(fragment(datagram, 0, 0, 20) + fragment(datagram, 0, 20))
    yield b"\x04" + datagram_record(b"\x02\x28", kind=21)


def main(target: str, folder: Path) -> None:
    """Write each seed under its own digest."""
    seeds: Iterator[bytes]
    if target == "savefile":
        files = [p.read_bytes() for p in captures() if p.stat().st_size <= MAX_FILE]
        seeds = iter([*FORMS.values(), *files])
    elif target == "tls":
        seeds = hellos()
    else:
        seeds = (bytes((4, 0, link, 1, 0, 0, 0, 0)) + data for link, data in frames())
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
