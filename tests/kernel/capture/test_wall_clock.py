"""The wall clock is stepped by an hour while a capture runs: no flow and no wait takes notice.

The process that captures has a wall clock of its own, which the test steps; that of the machine
stays. ``tests/native/source/stamps.c`` has the kernel's stamps step as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.process import spawn
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

HOUR = 3600
FRAME = udp("10.0.0.1", "10.0.0.2", 1, 2, b"one")
FLOWS = """
import asyncio, json, signal, sys, time, netring_bpf as nr
interface, netns, backend, mode, idle = sys.argv[1:]
xdp = nr.XdpOptions(ring_size=64, chunks=128, mode=nr.XdpMode(mode) if mode != "None" else None)
async def main():
    ring = nr.Netring(
        interface, netns=netns, backend=backend, xdp=xdp, flow=nr.FlowOptions(idle_udp=float(idle))
    )
    events = ring.subscribe()
    async with ring:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: asyncio.ensure_future(ring.close())
        )
        print(json.dumps({"event": "open"}), flush=True)
        async for e in events:
            print(json.dumps({
                "event": type(e).__name__, "ts": e.ts,
                "start": e.flow.start, "last": e.flow.last,
                "packets": e.flow.orig.packets,
                "reason": e.reason.value if isinstance(e, nr.FlowEnded) else None,
                "wall": time.time_ns(),
            }), flush=True)
asyncio.run(main())
"""
PACKETS = """
import sys, time, netring_bpf as nr
interface, netns, backend, mode, _ = sys.argv[1:]
xdp = nr.XdpOptions(ring_size=64, chunks=128, mode=nr.XdpMode(mode) if mode != "None" else None)
with nr.Capture(interface, netns=netns, backend=backend, xdp=xdp) as capture:
    print('{"event": "open"}', flush=True)
    print(len(list(capture.packets(timeout=1.5))), flush=True)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("clock") / "stepped_clock.so"
    source = Path(__file__).parent / "stepped_clock.c"
    command = ["gcc", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", built, source], check=True)
    return built


@dataclass
class Stepped:
    """A process with a wall clock that can be stepped, and what it prints."""

    process: subprocess.Popen[str]
    file: Path

    def step(self, seconds: int) -> None:
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    def line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def stepped(
    shim: Path, folder: Path, script: str, namespace: Namespace, way: str, idle: float = 2.0
) -> Iterator[Stepped]:
    file = folder / "step"
    file.write_bytes(struct.pack("q", 0))
    argv = [PORT, namespace.path, WAYS[way].backend, str(WAYS[way].attach), str(idle)]
    process = spawn(
        [sys.executable, "-c", script, *argv],
        stdout=subprocess.PIPE,
        env={**os.environ, "LD_PRELOAD": str(shim), "CLOCK_STEP": str(file)},
    )
    with process:
        try:
            run = Stepped(process, file)
            assert run.line() == {"event": "open"}
            yield run
        finally:
            process.kill()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hours", [-1, 1])
def test_timers_run_on_and_flow_time_goes_on(
    shim: Path, tmp_path: Path, way: str, hours: int
) -> None:
    with wire() as namespace, stepped(shim, tmp_path, FLOWS, namespace, way) as run:
        send_frames(namespace, SENDER, [FRAME] * 5)
        first = run.line()
        assert (first["event"], first["packets"]) == ("FlowStarted", 1)
        assert abs(first["ts"] - first["wall"]) < 60e9
        run.step(hours * HOUR)
        began = time.monotonic()
        ended = run.line()
        assert (ended["event"], ended["reason"], ended["packets"]) == ("FlowEnded", "idle", 5)
        assert 1.0 < time.monotonic() - began < 60
        assert 0 <= ended["last"] - ended["start"] < 60e9
        assert 2e9 <= ended["ts"] - ended["last"] < 60e9
        assert abs(ended["wall"] - ended["ts"] - hours * HOUR * 10**9) < 60e9
        send_frames(namespace, SENDER, [FRAME] * 5)
        second = run.line()
        assert (second["event"], second["start"] > ended["ts"]) == ("FlowStarted", True)
        assert second["start"] - ended["ts"] < 60e9
        run.process.terminate()
        last = run.line()
        assert (last["event"], last["reason"], last["packets"]) == ("FlowEnded", "shutdown", 5)
        assert 0 <= last["last"] - last["start"] < 60e9
        assert run.process.wait(60) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hours", [-1, 1])
def test_no_flow_is_ended_by_the_step(shim: Path, tmp_path: Path, way: str, hours: int) -> None:
    with wire() as namespace, stepped(shim, tmp_path, FLOWS, namespace, way, 600.0) as run:
        send_frames(namespace, SENDER, [FRAME] * 5)
        assert run.line()["event"] == "FlowStarted"
        run.step(hours * HOUR)
        time.sleep(0.5)  # several looks at the timers
        send_frames(namespace, SENDER, [FRAME] * 5)
        time.sleep(0.5)
        run.process.terminate()
        ended = run.line()
        assert (ended["event"], ended["reason"], ended["packets"]) == ("FlowEnded", "shutdown", 10)
        assert 0.5e9 <= ended["last"] - ended["start"] < 60e9
        assert run.process.wait(60) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_timeout_of_packets_is_as_long_as_it_says(
    shim: Path, tmp_path: Path, way: str, hours: int
) -> None:
    with wire() as namespace, stepped(shim, tmp_path, PACKETS, namespace, way) as run:
        began = time.monotonic()
        run.step(hours * HOUR)
        assert run.line() == 0
        assert 1.0 < time.monotonic() - began < 60
        assert run.process.wait(60) == 0
