"""Capture files of any number of packets, kept in ``build/bench``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CaptureFile", "make", "make_web"]

_HERE = Path(__file__).resolve().parent
_PLACE = _HERE.parent / "build" / "bench"
_SOURCE = _HERE / "captures.c"
_ROOT = _HERE.parent
_WEB_SOURCES = (_HERE / "web.py", _ROOT / "tests" / "support" / "web.py")


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A file, and the number of packets and flows in it."""

    path: Path
    packets: int
    flows: int

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.path.stat().st_size


def make(packets: int) -> CaptureFile:
    """Return the file of so many packets, always the same; writes it if it is missing."""
    path = _PLACE / f"capture-{packets}.pcap"
    count = path.with_suffix(".flows")
    if not (count.exists() and count.stat().st_mtime >= _SOURCE.stat().st_mtime):
        print(f"writing a capture file of {packets:,} packets", file=sys.stderr)
        _PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "captures"
            flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
            subprocess.run(["gcc", *flags, "-o", program, _SOURCE, "-lm"], check=True)
            command = [program, path, str(packets)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        os.sync()  # later writes to the disk would slow down the benchmark
        count.write_text(done.stdout, encoding="ascii")
    return CaptureFile(path, packets, int(count.read_text(encoding="ascii")))


def make_web(packets: int) -> CaptureFile:
    """Return a file of web traffic, of about so many packets; writes it if it is missing."""
    path = _PLACE / f"web-{packets}.pcap"
    count = path.with_suffix(".flows")
    newest = max(source.stat().st_mtime for source in _WEB_SOURCES)
    if not (count.exists() and count.stat().st_mtime >= newest):
        print(f"writing a capture file of {packets:,} packets of the web", file=sys.stderr)
        _PLACE.mkdir(parents=True, exist_ok=True)
        # In a process of its own: programs that are measured would inherit its peak of memory.
        command = [sys.executable, "-m", "benchmarks.web", path, str(packets)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        os.sync()
        count.write_text(done.stdout, encoding="ascii")
    written, flows = map(int, count.read_text(encoding="ascii").split())
    return CaptureFile(path, written, flows)
