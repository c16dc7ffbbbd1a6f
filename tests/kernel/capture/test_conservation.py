"""Every frame offered to the wire is accounted for, exactly, whichever way it is captured."""

from __future__ import annotations

import pytest

from tests.support.frames import icmp_echo, tcp, udp
from tests.support.rig import WAYS, Outcome, assert_balanced, capture, send_repeatedly, wire
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAMES = size(12_000, 120_000)
ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}


def numbered_mix(family: int, vlans: tuple[int, ...]) -> list[bytes]:
    """600 different frames: conversations in both directions of three protocols, numbered."""
    a, b = ENDS[family]
    frames = []
    for n in range(100):
        payload = n.to_bytes(8, "big")
        port = 10_000 + n
        frames += [
            udp(a, b, port, 53, payload, vlans=vlans),
            udp(b, a, 53, port, payload + b"answer", vlans=vlans),
            tcp(a, b, port, 443, flags="PA", seq=n, ack=1, payload=payload, vlans=vlans),
            tcp(b, a, 443, port, flags="A", seq=1, ack=n + 8, vlans=vlans),
            icmp_echo(a, b, n + 1, n, payload, vlans=vlans),
            icmp_echo(b, a, n + 1, n, payload, reply=True, vlans=vlans),
        ]
    return frames


@pytest.fixture(scope="module", params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module", params=[(), (100,), (100, 200)], ids=["plain", "vlan", "qinq"])
def vlans(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.fixture(scope="module")
def outcomes(family: int, vlans: tuple[int, ...]) -> dict[str, Outcome]:
    """The same frames, captured in every way."""
    frames = numbered_mix(family, vlans)
    result = {}
    for name, way in WAYS.items():
        with wire() as namespace:
            result[name] = capture(namespace, way, send_repeatedly(namespace, frames, FRAMES))
    return result


@pytest.mark.parametrize("way", WAYS)
def test_every_equation_closes(outcomes: dict[str, Outcome], way: str) -> None:
    outcome = outcomes[way]
    capture_books = outcome.statistics.capture
    assert outcome.offered == FRAMES
    assert capture_books.seen == FRAMES
    assert capture_books.received + capture_books.lost == FRAMES
    assert capture_books.keyed == capture_books.received
    assert_balanced(outcome.statistics)


@pytest.mark.parametrize("way", WAYS)
def test_flow_counters_add_up_to_the_frames_received(
    outcomes: dict[str, Outcome], way: str
) -> None:
    outcome = outcomes[way]
    flows = outcome.flows().values()
    assert sum(f[0] + f[2] for f in flows) == outcome.statistics.capture.keyed
    assert sum(f[1] + f[3] for f in flows) == outcome.statistics.capture.keyed_bytes


def test_all_ways_give_the_same_flows(
    outcomes: dict[str, Outcome], family: int, vlans: tuple[int, ...]
) -> None:
    assert {name: o.statistics.capture.lost for name, o in outcomes.items()} == dict.fromkeys(
        WAYS, 0
    )
    native = outcomes["native"].flows()
    assert len(native) == 300
    assert {key.vlans for key in native} == {vlans}
    assert outcomes["generic"].flows() == native
    assert outcomes["tpacket_v3"].flows() == native
    offered = sum(map(len, numbered_mix(family, vlans))) * (FRAMES // 600)
    assert sum(f[1] + f[3] for f in native.values()) == offered
