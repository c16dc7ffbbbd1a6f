"""Helpers that the tests of filters share."""

from __future__ import annotations

TAGS = (b"\x81\x00", b"\x88\xa8")


def without_tag(frame: bytes) -> bytes:
    """The frame as the kernel shows it to a live filter, without its outermost tag."""
    if frame[12:14] in TAGS and len(frame) >= 18:
        return frame[:12] + frame[16:]
    return frame
