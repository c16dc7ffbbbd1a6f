"""The bytes of a pcap file with times in nanoseconds, made from the blocks of pcapng.

Source: draft-ietf-opsawg-pcap. Numbers are in the machine's byte order. The format has no place for
the interface's name, the filter and the counts of dropped frames.
"""

from __future__ import annotations

import struct

from netring_bpf.recording.pcapng_blocks import ETHERNET, PACKET_HEAD, InterfaceCounts

__all__ = ["PcapRecords"]

_MAGIC_NANOSECONDS = 0xA1B23C4D
_NS = 1_000_000_000
_RECORD = struct.Struct("=IIII")


class PcapRecords:
    """A pcap file in its parts."""

    def __init__(self, *, snaplen: int, linktype: int = ETHERNET) -> None:
        self._snaplen = snaplen
        self._linktype = linktype

    def head(self) -> bytes:
        """Return the file's header."""
        fields = _MAGIC_NANOSECONDS, 2, 4, 0, 0, self._snaplen, self._linktype
        return struct.pack("=IHHiIII", *fields)

    def body(self, blocks: bytes) -> bytes:
        """Return enhanced packet blocks of pcapng as the records of pcap."""
        parts: list[bytes | memoryview] = []
        view, at = memoryview(blocks), 0
        while at < len(blocks):
            _, length, _, high, low, caplen, size = PACKET_HEAD.unpack_from(blocks, at)
            parts.append(_RECORD.pack(*divmod(high << 32 | low, _NS), caplen, size))
            parts.append(view[at + PACKET_HEAD.size : at + PACKET_HEAD.size + caplen])
            at += length
        return b"".join(parts)

    def whole(self, body: bytes, size: int) -> tuple[int, int]:
        """Return the size of the whole records in the first ``size`` bytes, and their number."""
        at = count = 0
        while at + _RECORD.size <= size:
            end = at + _RECORD.size + _RECORD.unpack_from(body, at)[2]
            if end > size:
                break
            at, count = end, count + 1
        return at, count

    def tail(self, counts: InterfaceCounts) -> bytes:
        """Return nothing: the format has no place for the counts."""
        return b""
