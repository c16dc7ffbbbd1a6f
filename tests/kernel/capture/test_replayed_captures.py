"""A capture gives the same flows from its file and from the wire, whatever reads the wire."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from netring_bpf import Flow, FlowOptions
from netring_bpf.filter.libpcap import Savefile
from tests.support.paths import ORACLES
from tests.support.replay import replay_file
from tests.support.rig import SENDER, WAYS, assert_balanced, capture, wire
from tests.support.sender import send_frames
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc", "oracles")

ZEEK = ORACLES / "zeek"
ETHERNET, LONGEST = 1, 1514
# On the wire the frames come at once: nothing may end by a timeout, in the file neither.
NEVER = 1e6
OPTIONS = FlowOptions(
    idle_tcp=NEVER, idle_udp=NEVER, idle_icmp=NEVER, idle_other=NEVER, half_open=NEVER,
    close_delay=60.0, port_timeouts=(), update_interval=None, fragment_timeout=NEVER,
)  # fmt: skip


def frames_of(path: Path) -> list[bytes] | None:
    """The frames, if a veth can carry every one of them whole."""
    with Savefile(path) as file:
        frames = list(file)
        fits = all(f.wire_length == len(f.data) <= LONGEST for f in frames)
        return [f.data for f in frames] if fits and file.linktype == ETHERNET else None


def captures() -> dict[str, list[bytes]]:
    paths = sorted(p for p in ZEEK.glob("*.pcap*") if p.suffix != ".log")
    return {path.name: frames for path in paths if (frames := frames_of(path)) is not None}


def told(flow: Flow) -> tuple[object, ...]:
    """All of a flow that does not depend on when its packets came."""
    untimed = [c._replace(first=0, last=0, rtt=0) for c in (flow.orig, flow.resp)]
    tunnel = flow.tunnel and (flow.tunnel.kind, flow.tunnel.id, flow.tunnel.orig, flow.tunnel.resp)
    return (flow.key, *untimed, flow.history, flow.conn_state, flow.icmp_errors, tunnel)


def test_enough_captures_can_be_sent() -> None:
    assert len(captures()) == 45


@pytest.mark.parametrize("way", WAYS)
def test_the_flows_of_the_wire_are_those_of_the_file(way: str) -> None:
    differ = []
    with wire() as namespace:
        for name, frames in list(captures().items())[:: size(5, 1)]:
            outcome = capture(
                namespace,
                WAYS[way],
                lambda frames=frames: send_frames(namespace, SENDER, frames),  # type: ignore[misc]
                flow=OPTIONS,
            )
            assert_balanced(outcome.statistics)
            story = replay_file(ZEEK / name, OPTIONS)
            live = Counter(told(event.flow) for event in outcome.ended())
            if live != Counter(told(event.flow) for event in story.ended):
                differ.append(name)
    assert differ == []
