"""The blocks of a pcapng file around its packets, as bytes.

Source: draft-ietf-opsawg-pcapng. The blocks are in the machine's byte order, as the packets' blocks
are, which the C core makes.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

__all__ = ["ETHERNET", "NANOSECONDS", "PACKET_HEAD", "InterfaceCounts", "PcapngBlocks"]

# The start of an enhanced packet block: type, length, interface, time (high, low), captured
# length, length.
PACKET_HEAD = struct.Struct("=7I")

_SECTION, _INTERFACE, _STATISTICS = 0x0A0D0D0A, 1, 5
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
ETHERNET = 1  # LINKTYPE_ETHERNET
NANOSECONDS = 9  # as the option if_tsresol has it
_SHB_OS, _SHB_USERAPPL = 3, 4
_IF_NAME, _IF_TSRESOL, _IF_FILTER = 2, 9, 11
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_IFDROP = 2, 3, 4, 5
_ISB_FILTERACCEPT, _ISB_OSDROP, _ISB_USRDELIV = 6, 7, 8


@dataclass(frozen=True, slots=True)
class InterfaceCounts:
    """The numbers of a recording's frames, from ``start`` to ``end``, in nanoseconds.

    ``received``: seen on the interface; ``accepted``: matched the filter; ``dropped``: matched and
    found no room; ``delivered``: written.
    """

    received: int
    accepted: int
    dropped: int
    delivered: int
    start: int
    end: int


class PcapngBlocks:
    """A pcapng file of one interface, which may have no name, in its parts."""

    def __init__(
        self,
        name: str,
        *,
        snaplen: int,
        expression: str,
        application: str,
        linktype: int = ETHERNET,
        resolution: int = NANOSECONDS,
    ) -> None:
        self._name = name
        self._linktype = linktype
        self._resolution = resolution
        self._snaplen = snaplen
        self._expression = expression
        self._application = application

    def head(self) -> bytes:
        """Return the section header and the description of interface 0."""
        section = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1) + _options(
            (_SHB_OS, f"{platform.system()} {platform.release()}".encode()),
            (_SHB_USERAPPL, self._application.encode()),
        )
        options = [(_IF_TSRESOL, bytes([self._resolution]))]
        if self._name:
            options.insert(0, (_IF_NAME, self._name.encode(errors="surrogateescape")))
        if self._expression:
            # A first byte of 0 says that a string of libpcap's language follows.
            options.append((_IF_FILTER, b"\0" + self._expression.encode(errors="replace")))
        interface = struct.pack("=HHI", self._linktype, 0, self._snaplen) + _options(*options)
        return _block(_SECTION, section) + _block(_INTERFACE, interface)

    def body(self, blocks: bytes) -> bytes:
        """Return the blocks as they are."""
        return blocks

    def whole(self, body: bytes, size: int) -> tuple[int, int]:
        """Return the size of the whole blocks in the first ``size`` bytes, and their number."""
        at = count = 0
        while at + PACKET_HEAD.size <= size:
            end = at + PACKET_HEAD.unpack_from(body, at)[1]
            if end > size:
                break
            at, count = end, count + 1
        return at, count

    def tail(self, counts: InterfaceCounts) -> bytes:
        """Return the statistics of interface 0."""
        body = struct.pack("=III", 0, counts.end >> 32, counts.end & 0xFFFF_FFFF) + _options(
            (_ISB_STARTTIME, _time(counts.start)),
            (_ISB_ENDTIME, _time(counts.end)),
            (_ISB_IFRECV, _count(counts.received)),
            (_ISB_IFDROP, _count(0)),
            (_ISB_FILTERACCEPT, _count(counts.accepted)),
            (_ISB_OSDROP, _count(counts.dropped)),
            (_ISB_USRDELIV, _count(counts.delivered)),
        )
        return _block(_STATISTICS, body)


def _count(value: int) -> bytes:
    return struct.pack("=Q", value)


def _time(ns: int) -> bytes:
    return struct.pack("=II", ns >> 32, ns & 0xFFFF_FFFF)


def _options(*options: tuple[int, bytes]) -> bytes:
    out = b"".join(
        struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in options
    )
    return out + struct.pack("=HH", 0, 0)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("=I", 12 + len(body))
    return struct.pack("=I", kind) + length + body + length
