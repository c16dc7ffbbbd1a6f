"""A capture that is killed leaves no XDP program behind, and no frame of the host is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.frames import udp
from tests.support.lab import Namespace, VethPair, link, xdp_attached
from tests.support.patience import PATIENCE, wait_until
from tests.support.process import spawn
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

RUNS = size(6, 20)
CAPTURE = """
import asyncio, sys, netring_bpf
async def main():
    async with netring_bpf.Netring(sys.argv[1], netns=sys.argv[2], backend="af_xdp") as ring:
        print("attached", flush=True)
        async for event in ring.subscribe():
            pass
asyncio.run(main())
"""


def start(namespace: Namespace) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CAPTURE, PORT, namespace.path]
    return spawn(argv, stdout=subprocess.PIPE)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    with process:
        process.wait()


def test_no_program_is_left_when_a_capture_is_killed_at_a_random_moment() -> None:
    moments = random.Random(20)
    attached = 0
    with wire() as namespace:
        for run in range(RUNS):
            process = start(namespace)
            assert process.stdout is not None
            if run % 2:
                # Somewhere on the way from the interpreter's start to the open capture ...
                time.sleep(moments.uniform(0.05, 0.9))
            else:
                # ... or while it captures.
                assert process.stdout.readline() == "attached\n"
                assert xdp_attached(namespace, PORT)
                time.sleep(moments.uniform(0.0, 0.1))
            attached += xdp_attached(namespace, PORT)
            kill(process)
            wait_until(lambda: not xdp_attached(namespace, PORT))
    assert attached >= RUNS // 2


def test_the_port_can_be_captured_again_right_after_a_kill() -> None:
    with wire() as namespace:
        for _ in range(3):
            process = start(namespace)
            assert process.stdout is not None
            assert process.stdout.readline() == "attached\n"
            kill(process)


FORKED = """
import os, sys, time, netring_bpf
mode = netring_bpf.XdpMode(sys.argv[4]) if sys.argv[4] != "None" else None
xdp = netring_bpf.XdpOptions(ring_size=64, chunks=128, mode=mode)
capture = netring_bpf.Capture(
    sys.argv[1], netns=sys.argv[2], backend=sys.argv[3], xdp=xdp, steal=True, filter="udp"
)
capture.open()
child = 0
if sys.argv[5] == "True":
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
print(child, flush=True)
for packet in capture.packets():
    pass
"""


@contextlib.contextmanager
def host() -> Iterator[tuple[Namespace, Callable[[int], int]]]:
    """A host with an address on the port, and how many of so many datagrams it gets."""
    with Namespace() as outside, Namespace() as inside:
        VethPair(outside, SENDER, inside, PORT)
        inside.ip(f"addr add 10.9.0.1/24 dev {PORT}")
        mac = link(inside, PORT)["address"]
        with inside.enter():
            receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver:
            receiver.bind(("10.9.0.1", 7000))
            receiver.settimeout(PATIENCE)

            def reach(count: int) -> int:
                frames = [
                    udp("10.9.0.2", "10.9.0.1", 5000, 7000, bytes([n]), dmac=mac)
                    for n in range(count)
                ]
                send_frames(outside, SENDER, frames)
                return sum(receiver.recv(1)[0] == n for n in range(count))

            yield inside, reach


def test_nothing_stays_attached_when_the_parent_of_living_children_is_killed() -> None:
    ways = list(WAYS.values())
    with host() as (namespace, reach):
        assert reach(3) == 3
        for run in range(size(6, 40)):
            way = ways[run % len(ways)]
            argv = [PORT, namespace.path, way.backend, str(way.attach), str(run // 3 % 2 == 1)]
            process = spawn([sys.executable, "-c", FORKED, *argv], stdout=subprocess.PIPE)
            assert process.stdout is not None
            child = int(process.stdout.readline())
            assert xdp_attached(namespace, PORT) == (way.attach is not None)
            try:
                kill(process)
                wait_until(lambda: not xdp_attached(namespace, PORT))
                assert reach(10) == 10
                if child:
                    os.kill(child, 0)  # it is still there
            finally:
                if child:
                    os.kill(child, signal.SIGKILL)
