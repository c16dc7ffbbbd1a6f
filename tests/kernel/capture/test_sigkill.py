"""A capture that is killed leaves no XDP program behind."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from tests.support.lab import Namespace, xdp_attached
from tests.support.patience import wait_until
from tests.support.process import spawn
from tests.support.rig import PORT, wire
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
