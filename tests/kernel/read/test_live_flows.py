"""Flows of an interface without an event loop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

import netring_bpf as nr
from netring_bpf import FlowEnd
from netring_bpf.errors import InterfaceGoneError
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE, wait_until
from tests.support.rig import PORT, SENDER, WAYS, Way, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

QUICK = nr.FlowOptions(idle_udp=0.05, update_interval=None)


def queries(count: int) -> list[bytes]:
    return [udp("10.0.0.1", "10.0.0.2", 1024 + n, 9) for n in range(count)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_count_flows_come_as_they_end(way: Way) -> None:
    with wire() as namespace:
        live = nr.live_flows(PORT, netns=namespace.path, count=5, flow=QUICK, **way.options())
        with live as flows:
            send_frames(namespace, SENDER, queries(20))
            found = list(flows)
    assert [flow.reason for flow in found] == [FlowEnd.IDLE] * 5
    statistics = flows.statistics()
    assert (statistics.keyed, statistics.flows.started) == (20, 20)
    assert statistics.balanced


def test_after_the_duration_the_live_flows_come_too() -> None:
    with wire() as namespace:
        flows = nr.live_flows(PORT, netns=namespace.path, duration=0.5, filter="udp")
        with flows:
            send_frames(namespace, SENDER, queries(20))
            table = flows.to_arrow()
    assert table["orig_port"].to_pylist() == [1024 + n for n in range(20)]
    assert set(table["reason"].to_pylist()) == {"shutdown"}
    assert flows.statistics().balanced


def test_stop_ends_it_with_the_live_flows() -> None:
    with wire() as namespace, nr.live_flows(PORT, netns=namespace.path) as flows:
        found: list[nr.Flow] = []
        reader = threading.Thread(target=lambda: found.extend(flows))
        reader.start()
        send_frames(namespace, SENDER, queries(3))
        wait_until(lambda: flows.statistics().keyed == 3)
        flows.stop()
        reader.join(PATIENCE)
    assert [flow.reason for flow in found] == [FlowEnd.SHUTDOWN] * 3


def test_a_lost_interface_is_told_after_the_last_flow() -> None:
    with wire() as namespace, nr.live_flows(PORT, netns=namespace.path) as flows:
        send_frames(namespace, SENDER, queries(3))
        wait_until(lambda: flows.statistics().keyed == 3)
        namespace.run(["ip", "link", "del", PORT])
        found: list[nr.Flow] = []
        with pytest.raises(InterfaceGoneError):
            found.extend(flows)
    assert len(found) == 3
    assert isinstance(flows.error, InterfaceGoneError)


def test_ctrl_c_ends_it_and_leaves_nothing_attached() -> None:
    code = f"""
import netring_bpf as nr
try:
    with nr.live_flows({PORT!r}) as flows:
        print("open", flush=True)
        for flow in flows:
            print(flow)
except KeyboardInterrupt:
    print("interrupted")
"""
    with Namespace() as namespace:
        from tests.support.lab import VethPair, xdp_attached

        VethPair(namespace, SENDER, namespace, PORT)
        with namespace.popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "open\n"
            program.send_signal(signal.SIGINT)
            assert program.stdout.read() == "interrupted\n"
            assert program.wait(PATIENCE) == 0
        assert not xdp_attached(namespace, PORT)
