"""``netring-bpf flows --metrics``: what it serves while it captures."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.kernel.cli.command import LISTEN, Flows, query, run, send
from tests.support.rig import PORT

if TYPE_CHECKING:
    from tests.support.lab import Namespace

pytestmark = pytest.mark.requires("root", "netns", "bcc", "clients")


def test_the_counters_are_served(namespace: Namespace) -> None:
    namespace.ip("link set lo up")
    with Flows(namespace, *LISTEN, "--metrics", "127.0.0.1:9560").capturing() as command:
        send(namespace, *(query(1000 + n) for n in range(5)))
        command.printed("started", 1004)
        curl = namespace.run(["curl", "-sS", "--fail", "http://127.0.0.1:9560/metrics"])
        done = command.finish(signal.SIGINT)
    assert done.status == 0
    assert f'netring_received_frames_total{{interface="{PORT}"}} 5.0' in curl.stdout.splitlines()
    assert not any("accepted" in line for line in done.err)


def test_a_wrong_address_is_refused(namespace: Namespace) -> None:
    done = run(namespace, "flows", "-i", PORT, "--metrics", "9560")
    assert done.status == 2
    assert any("--metrics: metrics at '9560': must be ADDRESS:PORT" in line for line in done.err)
