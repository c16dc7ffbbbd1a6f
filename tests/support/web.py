"""The page of a capture that reads a pipe: it runs until the test ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from netring_bpf import Netring, StatsOptions
from netring_bpf.web import WebServer, serve
from tests.support.replay import SECOND, START, Frame
from tests.support.savefiles import pcap

__all__ = ["TOKEN", "piped", "timed"]

_PIPE = 1 << 20  # bytes: all frames of a test

TOKEN = "correct-horse-battery-staple"


def timed(frames: Iterable[bytes], *, gap: int = SECOND // 100, start: int = START) -> list[Frame]:
    """The frames, one after the other."""
    return [Frame(frame, ts=start + n * gap) for n, frame in enumerate(frames)]


@contextlib.asynccontextmanager
async def piped(
    folder: Path, frames: Iterable[Frame] = (), *, listen: str = "127.0.0.1:0", **options: Any
) -> AsyncIterator[tuple[Netring, WebServer]]:
    """A capture of these frames that has not ended, and its server."""
    path = folder / "pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        os.write(pipe, pcap(frames))
        ring = Netring.replay(path, devices=True, stats=StatsOptions(interval=1.0, top=50))
        async with ring, serve(ring, listen, **options) as server:
            yield ring, server
    finally:
        os.close(pipe)
