"""No capture opens where it would see nothing, or half of it, without a word."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from netring_bpf import Capture, FlowEnded, TpacketOptions, XdpOptions
from netring_bpf._core import ffi, lib
from netring_bpf.errors import XdpBusyError
from netring_bpf.interface import Interface
from tests.support.frames import udp
from tests.support.lab import Namespace, link
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, Way, wire
from tests.support.rig import capture as capture_flows
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

SMALL = XdpOptions(ring_size=64, chunks=128)
LITTLE = TpacketOptions(block_size=1 << 16, block_count=2)
FRAME = udp("10.0.0.1", "10.0.0.2", 1000, 53)
XDP_DROP, XDP_PASS = 1, 2
HOLDER = """
import sys
from netring_bpf import Capture
with Capture("vb", backend="af_xdp") as capture:
    print("ready", flush=True)
    sys.stdin.read()
"""


def capture(namespace: Namespace, **options: object) -> Capture:
    return Capture(PORT, netns=namespace.path, xdp=SMALL, tpacket=LITTLE, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def foreign_program(namespace: Namespace, action: int) -> Iterator[int]:
    """Somebody's XDP program, attached by netlink: no process needs to hold it."""
    code = (0xB7 | action << 32).to_bytes(8, "little") + (0x95).to_bytes(8, "little")
    xdp = 6
    program = lib.nr_program_load(xdp, ffi.from_buffer(code), 2, ffi.NULL, 0)
    assert program >= 0, os.strerror(-program)
    try:
        with namespace.enter():
            index = Interface.find(PORT).index
            with IPRoute() as route:
                route.link("set", index=index, xdp_fd=program)
    finally:
        os.close(program)
    yield int(link(namespace, PORT)["xdp"]["prog"]["id"])


@pytest.mark.parametrize("action", [XDP_DROP, XDP_PASS])
@pytest.mark.parametrize("backend", ["auto", "af_xdp"])
@pytest.mark.parametrize("steal", [False, True])
def test_beside_a_foreign_program_nothing_opens_that_may_be_blind(
    action: int, backend: str, steal: bool
) -> None:
    with wire() as namespace, foreign_program(namespace, action) as program_id:
        with pytest.raises(XdpBusyError) as caught:
            capture(namespace, backend=backend, steal=steal).open()
        error = caught.value
        assert (error.interface, error.program_id) == (PORT, program_id)
        assert (error.program_name, error.pids) == ("netring", ())
        for said in (
            f"program id {program_id} (netring), which no process shown by /proc holds",
            f"ip link set dev {PORT} xdp off",
            "backend='tpacket_v3'",
        ):
            assert said in str(error)
        assert link(namespace, PORT)["xdp"]["prog"]["id"] == program_id


@pytest.mark.parametrize(("action", "seen"), [(XDP_DROP, 0), (XDP_PASS, 5)])
def test_beside_a_foreign_program_tpacket_v3_opens_by_name_with_a_notice(
    action: int, seen: int
) -> None:
    with (
        wire() as namespace,
        foreign_program(namespace, action) as program_id,
        capture(namespace, backend="tpacket_v3") as port,
    ):
        [notice] = port.notices
        assert f"program id {program_id} (netring)" in notice
        assert "TPACKET_V3 sees only what it passes on" in notice
        send_frames(namespace, SENDER, [FRAME] * 5)
        timeout = PATIENCE if seen else 0.3
        assert len(list(port.packets(count=seen or None, timeout=timeout))) == seen


@pytest.mark.parametrize("backend", ["auto", "af_xdp"])
def test_a_second_capture_names_the_process_that_redirects(backend: str) -> None:
    with wire() as namespace:
        argv = [sys.executable, "-c", HOLDER]
        holder = namespace.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "ready\n"
            with pytest.raises(XdpBusyError) as caught:
                capture(namespace, backend=backend).open()
            assert caught.value.pids == (holder.pid,)
            assert caught.value.program_name == "netring"
            assert f"of process {holder.pid}." in str(caught.value)
        finally:
            holder.communicate()
        with capture(namespace) as port:  # nothing stays behind
            assert (port.backend, port.fallback_reason) == ("af_xdp", None)


def test_tpacket_v3_without_a_program_gives_no_notice() -> None:
    with wire() as namespace, capture(namespace, backend="tpacket_v3") as port:
        assert port.notices == ()


USES = {
    "addr add 10.9.0.1/24 dev vb": "it has the address 10.9.0.1/24",
    "route add 10.7.0.0/16 dev vb": "a route goes over it (10.7.0.0/16)",
    "link set vb master br0": "it is a port of br0",
    "link add mv link vb type macvlan": "mv runs over it",
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("backend", ["auto", "af_xdp"])
def test_flows_stolen_from_the_host_say_that_they_are_one_sided(use: str, backend: str) -> None:
    with wire() as namespace:
        namespace.ip("link add br0 type bridge")
        namespace.ip(use)

        def send() -> int:
            return send_frames(namespace, SENDER, [FRAME] * 3)

        outcome = capture_flows(namespace, Way("af_xdp", "native"), send, steal=True)
        [ended] = outcome.ended()
        assert ended.flow.one_sided is True
        assert ended.flow.conn_state == "S0"
        assert ended.flow.to_dict()["one_sided"] is True
        with capture(namespace, backend=backend, steal=True) as port:
            [notice] = port.notices
            assert notice == (
                f"every flow is one-sided: {USES[use]}, and AF_XDP sees what vb receives, not what "
                "the host sends; backend='tpacket_v3' sees both"
            )


@pytest.mark.parametrize("way", [Way("af_xdp", "native"), Way("tpacket_v3", None)])
def test_flows_of_a_capture_port_are_not_one_sided(way: Way) -> None:
    with wire() as namespace:

        def send() -> int:
            return send_frames(namespace, SENDER, [FRAME] * 3)

        outcome = capture_flows(namespace, way, send, steal=True)
        assert [e.flow.one_sided for e in outcome.events if isinstance(e, FlowEnded)] == [False]
        with capture(namespace, backend=way.backend, steal=True) as port:
            assert port.notices == ()
