"""``netring-bpf`` as a process, and the lines that it writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER
from tests.support.sender import send_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMAND = str(Path(sys.executable).with_name("netring-bpf"))
HOW = {"af_xdp": "af_xdp, native XDP", "tpacket_v3": "tpacket_v3"}
LISTEN = ("--backend", "tpacket_v3")
A, B = "10.0.0.1", "10.0.0.2"
NO_LOSSES = (
    "losses: 0 rx_ring_full, 0 rx_dropped, 0 fill_ring_empty, 0 tp_drops, 0 events_lost, 0 evicted"
)
NO_LOSSES_OF_FRAMES = NO_LOSSES.partition(", 0 events_lost")[0]
LIMIT = 60.0  # seconds; only a test that fails waits so long


class Lines:
    """Reads the lines of a process as it writes them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                with self._changed:
                    self._lines.append(line.removesuffix("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, holds: Callable[[str], bool]) -> str:
        """Return the first line for which ``holds``; fails if the stream ends without one."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or any(map(holds, self._lines)), LIMIT)
            for line in self._lines:
                if holds(line):
                    return line
            raise AssertionError(f"not among the lines: {self._lines}")

    def has(self, holds: Callable[[str], bool]) -> bool:
        """Return whether ``holds`` is true for a line by now."""
        with self._changed:
            return any(map(holds, self._lines))

    def all(self) -> list[str]:
        """Return all lines, once the stream has ended."""
        self._reader.join(LIMIT)
        assert not self._reader.is_alive()
        return self._lines


@dataclass(frozen=True)
class Finished:
    """A command that has ended, and its output."""

    status: int
    out: list[str]
    err: list[str]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out]


class Flows:
    """``netring-bpf flows`` on the port, as a process inside the namespace."""

    def __init__(
        self, namespace: Namespace, *arguments: str, stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE, before: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.process = namespace.popen(
            [*before, COMMAND, "flows", "-i", PORT, *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        assert self.process.stderr is not None
        self.err = Lines(self.process.stderr)
        self.out = Lines(self.process.stdout) if self.process.stdout else None

    def capturing(self) -> Self:
        """Wait until the command captures."""
        try:
            self.err.wait_for(lambda line: "capturing on" in line)
        except BaseException:
            self.close()
            raise
        return self

    def printed(self, event: str, port: int) -> None:
        """Wait until this event of the flow from this port is printed."""
        assert self.out is not None

        def holds(line: str) -> bool:
            record = json.loads(line)
            return record["event"] == event and record["orig_port"] == port

        self.out.wait_for(holds)

    def finish(self, number: signal.Signals | None = None) -> Finished:
        """Send the signal, if given, and wait for the end."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        return Finished(status, self.out.all() if self.out else [], self.err.all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it still runs."""
        self.process.kill()
        self.process.wait()
        for lines in (self.out, self.err):
            if lines is not None:
                lines.all()


def run(namespace: Namespace, *arguments: str) -> Finished:
    """Run the whole command, from its start to its end."""
    done = namespace.run([COMMAND, *arguments], check=False, timeout=LIMIT)
    return Finished(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


def send(namespace: Namespace, *frames: bytes) -> None:
    assert send_frames(namespace, SENDER, frames) == len(frames)


def query(port: int, dport: int = 53) -> bytes:
    return udp(A, B, port, dport, b"question")


def summary(
    received: int,
    *,
    keyed: int,
    seen: int,
    passed: int,
    started: int,
    ended: int,
    without: str | None = None,
) -> list[str]:
    return [
        f"{received} frames received, {keyed} with a flow",
        f"{seen} frames seen, {passed} passed to the host",
        "0 frames dropped by the kernel, 0 events lost",
        NO_LOSSES,
        *([] if without is None else [f"without a flow: {without}"]),
        f"{started} flows started, {ended} ended",
    ]


def opening(how: str, expression: str | None = None) -> str:
    what = f", filter {expression!r}" if expression else ""
    return f"netring-bpf: capturing on {PORT} ({how}{what})"
