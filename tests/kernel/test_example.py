"""The example of the README, as a user would run it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.frames import tcp
from tests.support.lab import Namespace, VethPair, xdp_attached
from tests.support.paths import ROOT
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

EXAMPLE = ROOT / "examples" / "flows.py"
FLOW = [
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="S", seq=1),
    tcp("10.0.0.2", "10.0.0.1", 443, 40000, flags="SA", seq=1, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="A", seq=2, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, b"x" * 100, flags="PA", seq=2, ack=2),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="FA", seq=102, ack=2),
    tcp("10.0.0.2", "10.0.0.1", 443, 40000, flags="FA", seq=2, ack=103),
    tcp("10.0.0.1", "10.0.0.2", 40000, 443, flags="A", seq=103, ack=3),
]
NOISE = tcp("10.0.0.1", "10.0.0.2", 40000, 80)


def test_it_prints_the_flow_that_ended_and_no_other() -> None:
    with Namespace() as namespace:
        VethPair(namespace, "va", namespace, "eth1")
        program = namespace.popen([sys.executable, "-u", str(EXAMPLE)], stdout=subprocess.PIPE)
        with program:
            assert program.stdout is not None
            assert program.stdout.readline() == "af_xdp native None\n"
            send_frames(namespace, "va", [NOISE, *FLOW])
            assert program.stdout.readline() == (
                "tcp 10.0.0.1:40000 > 10.0.0.2:443 ShADFf "
                f"{sum(len(f) for f in FLOW if f[26:30] == bytes([10, 0, 0, 1]))} 120\n"
            )
            program.terminate()
            assert program.stdout.read() == ""
        assert not xdp_attached(namespace, "eth1")
