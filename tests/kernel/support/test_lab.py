"""The laboratory keeps its promises: nothing stays behind, nothing foreign is on the wire."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import frames
from tests.support.hugepages import TOTAL
from tests.support.lab import LabError, Namespace, VethPair, link, xdp_attached
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns")

FRAME = frames.udp("10.0.0.1", "10.0.0.2", 1, 2)


def test_a_namespace_is_another_one_and_is_gone_after_the_block() -> None:
    with Namespace() as ns:
        pid = ns.pid
        assert os.stat(ns.path).st_ino != os.stat("/proc/self/ns/net").st_ino
        assert ns.run(["readlink", "/proc/self/ns/net"]).stdout.strip() == os.readlink(ns.path)
        assert "lo" in ns.ip("link show")
    assert not Path(f"/proc/{pid}").exists()
    ns.close()


def test_a_killed_process_leaves_no_huge_pages() -> None:
    before = TOTAL.read_text()
    script = """
from tests.support.hugepages import free_pages, reserved
with reserved(free_pages() + 1):
    print("reserved", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reserved\n"
        process.kill()
        assert process.communicate() == ("", "")  # when who gives them back has ended as well
    assert TOTAL.read_text() == before


def test_a_killed_process_leaves_no_namespace() -> None:
    script = """
from tests.support.lab import Namespace
with Namespace() as ns:
    inside = ns.popen(["sleep", "1000"])
    print(ns.pid, inside.pid, flush=True)
    input()
"""
    with (
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        assert process.stdout is not None
        fds = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        for fd in fds:
            stack.callback(os.close, fd)
        assert len(fds) == 2
        process.kill()
        for fd in fds:
            assert select.select([fd], [], [], PATIENCE)[0], "it outlived its parent"


def test_entering_moves_only_this_block() -> None:
    home = os.readlink("/proc/thread-self/ns/net")
    with Namespace() as ns:
        with ns.enter():
            assert os.readlink("/proc/thread-self/ns/net") == os.readlink(ns.path)
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert os.readlink("/proc/thread-self/ns/net") == home


def test_a_failing_command_says_why() -> None:
    with Namespace() as ns, pytest.raises(LabError, match="nowhere"):
        ns.ip("link show dev nowhere")


@pytest.mark.parametrize("queues", [1, 4])
def test_a_cable_carries_our_frames_and_nothing_else(queues: int) -> None:
    with Namespace() as a, Namespace() as b:
        VethPair(a, "va", b, "vb", queues=queues, mtu=3000)
        shown = link(b, "vb")
        assert shown["mtu"] == 3000
        assert (shown["num_rx_queues"], shown["num_tx_queues"]) == (queues, queues)
        with b.enter():
            receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with receiver:
            receiver.bind(("vb", 3))
            assert send_frames(a, "va", [FRAME] * 100) == 100
            assert [receiver.recv(2048) for _ in range(100)] == [FRAME] * 100
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(2048)


def test_a_deleted_cable_is_gone_from_both_ends() -> None:
    with Namespace() as ns:
        pair = VethPair(ns, "va", ns, "vb")
        assert not xdp_attached(ns, "vb")
        pair.delete()
        assert _names(ns) == ["lo"]


def test_the_sender_is_fast_and_loses_nothing() -> None:
    count = 100_000
    with Namespace() as a, Namespace() as b:
        VethPair(a, "va", b, "vb")
        started = time.perf_counter()
        assert send_frames(a, "va", [FRAME] * count) == count
        seconds = time.perf_counter() - started
        received = int(b.run(["grep", "vb:", "/proc/net/dev"]).stdout.split()[2])
    assert received == count
    print(f"{count / seconds:,.0f} frames/s")  # shown by -rP: no number to fail a busy machine by


def _names(ns: Namespace) -> list[str]:
    with ns.enter():
        return [name for _, name in socket.if_nameindex()]
