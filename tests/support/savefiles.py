"""Capture files as bytes, written by the book: pcap and pcapng in all their forms."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.support.replay import Frame

_MAGIC = {"us": 0xA1B2C3D4, "ns": 0xA1B23C4D, "modified": 0xA1B2CD34}


def pcap(
    frames: Iterable[Frame], *, kind: str = "us", order: str = "<", linktype: int = 1
) -> bytes:
    """A pcap file; ``kind``: us, ns or modified; ``order``: of the bytes, < or >."""
    out = [struct.pack(order + "IHHiIII", _MAGIC[kind], 2, 4, 0, 0, 262_144, linktype)]
    unit = 1 if kind == "ns" else 1000
    for frame in frames:
        seconds, rest = divmod(frame.ts, 1_000_000_000)
        head = (seconds, rest // unit, len(frame.data), _length(frame))
        out.append(struct.pack(order + "IIII", *head))
        out.append((bytes(8) if kind == "modified" else b"") + frame.data)
    return b"".join(out)


@dataclass(frozen=True)
class Interface:
    """An interface of a pcapng section; ``resolution`` as the option if_tsresol has it.

    ``options``: codes and values of further ones, before those.
    """

    linktype: int = 1
    resolution: int | None = None
    offset: int = 0
    options: tuple[tuple[int, bytes], ...] = ()

    def units(self, ns: int) -> int:
        """The time in the interface's own units."""
        value = 6 if self.resolution is None else self.resolution
        ns -= self.offset * 1_000_000_000
        if value & 0x80:
            return (ns << (value & 0x7F)) // 1_000_000_000
        return ns * 10**value // 1_000_000_000


def section(
    interfaces: Sequence[Interface],
    frames: Iterable[tuple[int, Frame]],
    *,
    order: str = "<",
    block: int = 6,
) -> bytes:
    """A section of pcapng: frames with the number of their interface.

    ``block``: 6 enhanced, 3 simple, 2 the old packet block.
    """
    parts = [head(order)]
    parts += [described(interface, order) for interface in interfaces]
    parts.append(any_block(0xBAD, b"not known", order))  # is passed over
    parts += [packet(interfaces, *one, order=order, block=block) for one in frames]
    return b"".join(parts)


def head(order: str = "<", options: Iterable[tuple[int, bytes]] = ()) -> bytes:
    """A section header block."""
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    return any_block(0x0A0D0D0A, body + options_of(options, order), order)


def described(interface: Interface, order: str = "<") -> bytes:
    """An interface description block."""
    options = list(interface.options)
    if interface.resolution is not None:
        options.append((9, bytes([interface.resolution])))
    if interface.offset:
        options.append((14, struct.pack(order + "q", interface.offset)))
    body = struct.pack(order + "HHI", interface.linktype, 0, 262_144)
    return any_block(1, body + options_of([*options, (0, b"")], order), order)


def packet(
    interfaces: Sequence[Interface],
    number: int,
    frame: Frame,
    *,
    order: str = "<",
    block: int = 6,
    options: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """A packet block."""
    units = interfaces[number].units(frame.ts)
    high, low = units >> 32, units & 0xFFFF_FFFF
    if block == 3:
        fixed = struct.pack(order + "I", _length(frame))
    elif block == 2:
        fields = number, 0, high, low, len(frame.data), _length(frame)
        fixed = struct.pack(order + "HHIIII", *fields)
    else:
        fixed = struct.pack(order + "IIIII", number, high, low, len(frame.data), _length(frame))
    padded = frame.data + bytes(-len(frame.data) % 4)
    return any_block(block, fixed + padded + options_of(options, order), order)


def options_of(options: Iterable[tuple[int, bytes]], order: str = "<") -> bytes:
    """Options as they stand in a block."""
    return b"".join(
        struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
        for code, value in options
    )


def _length(frame: Frame) -> int:
    return len(frame.data) if frame.len is None else frame.len


def any_block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A block of this type around its body."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length
