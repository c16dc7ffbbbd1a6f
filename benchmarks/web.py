"""Writes a capture file of web traffic: real exchanges, again and again between other ends.

    python -m benchmarks.web FILE PACKETS

It prints the packets and the flows in the file, about so many packets.

A page is two questions of DNS, three connections of TLS, one of HTTP/3 and now and then one of
HTTP/1, of sizes as pages have them. OpenSSL and aioquic make the bytes
(``tests/support/exchanges.py``).
Each copy of a page has another client, and checksums that are right.
"""

from __future__ import annotations

import random
import ssl
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import exchanges
from tests.support.certificates import Certificates
from tests.support.replay import Frame
from tests.support.savefiles import pcap

_PAGES = 40  # that differ
_STEP = 50_000  # ns from frame to frame
_CLIENT = "10.0.0.1"
_CLIENT_BYTES = bytes(map(int, _CLIENT.split(".")))
_ADDRESS, _IP_SUM = 26, 24  # where they stand in a frame of Ethernet and IPv4
_TCP_SUM, _UDP_SUM = 50, 40
_TCP = 6


def _write(path: Path, packets: int) -> tuple[int, int]:
    """Write the file; returns the packets and the flows in it."""
    with tempfile.TemporaryDirectory() as folder:
        made = Certificates(Path(folder))
        dice = random.Random(443)
        pages = [_page(made, dice) for _ in range(min(_PAGES, 1 + packets // 500))]
    written = flows = copy = 0
    with path.open("wb") as file:
        file.write(pcap([]))
        while written < packets:
            page = pages[copy % len(pages)]
            for data in page.copied(copy):
                file.write(pcap([Frame(data, _STEP * (written + 1))])[24:])
                written += 1
            flows += page.flows
            copy += 1
    return written, flows


@dataclass(frozen=True)
class _Page:
    flows: int
    frames: Sequence[bytes]

    def copied(self, number: int) -> Iterator[bytes]:
        """The frames as those of another client."""
        for frame in self.frames:
            yield _renumbered(frame, number)


def _page(made: Certificates, dice: random.Random) -> _Page:
    name = f"www{dice.randrange(1 << 32):x}.example.org"
    ports = iter(range(40_000, 50_000))

    def sizes(count: int) -> list[tuple[int, int]]:
        """Draw the sizes of requests and answers: most are small, few are large."""
        return [(dice.randint(200, 900), int(dice.lognormvariate(8.6, 1.4))) for _ in range(count)]

    laid: list[Iterator[bytes]] = []
    for kind, answer in (("A", "198.51.100.7"), ("AAAA", "2001:db8::7")):
        said = exchanges.dns(name, kind, [answer], id=dice.randrange(1 << 16))
        laid.append(exchanges.datagrams((_CLIENT, next(ports)), ("10.255.255.254", 53), said))
    for newest in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        said = exchanges.tls(made, name, sizes(3), exchanges.TlsOptions(newest=newest))
        laid.append(exchanges.connection((_CLIENT, next(ports)), ("198.51.100.7", 443), said))
    said = exchanges.quic(made, name, sizes(3))
    laid.append(exchanges.datagrams((_CLIENT, next(ports)), ("198.51.100.7", 443), said))
    if dice.random() < 0.25:
        said = exchanges.http(name, [(f"/{n}", size) for n, (_, size) in enumerate(sizes(3))])
        laid.append(exchanges.connection((_CLIENT, next(ports)), ("198.51.100.7", 80), said))
    return _Page(len(laid), list(_mixed(laid, dice)))


def _mixed(laid: Sequence[Iterator[bytes]], dice: random.Random) -> Iterator[bytes]:
    """The frames of all connections, as they run beside each other."""
    left = list(laid)
    while left:
        one = dice.choice(left)
        try:
            yield next(one)
        except StopIteration:
            left.remove(one)


def _renumbered(frame: bytes, number: int) -> bytes:
    """The frame with the number added to its client's address, and its checksums kept right."""
    at = _ADDRESS if frame[_ADDRESS : _ADDRESS + 4] == _CLIENT_BYTES else _ADDRESS + 4
    changed = bytearray(frame)
    old = struct.unpack_from("!HH", frame, at)
    struct.pack_into("!I", changed, at, int.from_bytes(_CLIENT_BYTES, "big") + number)
    new = struct.unpack_from("!HH", changed, at)
    for place in (_IP_SUM, _TCP_SUM if frame[23] == _TCP else _UDP_SUM):
        (sum_,) = struct.unpack_from("!H", frame, place)
        struct.pack_into("!H", changed, place, _updated(sum_, old, new))
    return bytes(changed)


def _updated(sum_: int, old: Sequence[int], new: Sequence[int]) -> int:
    """A checksum after words under it have changed (RFC 1624, equation 3)."""
    total = ~sum_ & 0xFFFF
    for word, other in zip(old, new, strict=True):
        total += (~word & 0xFFFF) + other
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def main() -> None:
    """Write the file."""
    print(*_write(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
