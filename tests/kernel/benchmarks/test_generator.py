"""The benchmarks' generator offers exactly what it says, in frames that are what they should be."""

from __future__ import annotations

import time

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from benchmarks.generator import Generator, Load, Offered
from netring_bpf import Capture, FlowOptions, XdpMode, XdpOptions
from tests.support.lab import counter
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, Outcome, assert_balanced, capture, wire
from tests.support.sizes import size

pytestmark = pytest.mark.requires("root", "netns", "bcc")

_RATE = 100_000
# All frames of a load fit into the ring: nothing is lost, however long the reader waits for a CPU.
ROOM = XdpOptions(ring_size=1 << 15, mode=XdpMode.NATIVE)
_LOADS = {
    "udp": Load(20_000, flows=300, rate=_RATE),
    "udp, IPv6, one flow": Load(20_000, size=62, ipv6=True, rate=_RATE),
    "udp, new flows": Load(20_001, size=512, flows=100, per_flow=7, rate=_RATE),
    "tcp": Load(20_000, size=512, protocol="tcp", flows=100, per_flow=10, rate=_RATE),
    "tcp, IPv6": Load(20_000, size=80, ipv6=True, protocol="tcp", flows=8, per_flow=6, rate=_RATE),
}
LOADS = size(dict(list(_LOADS.items())[1:4:2]), _LOADS)


def _offer(load: Load) -> tuple[Offered, Outcome, int]:
    with wire() as namespace, Generator(namespace, SENDER, load) as generator:
        offered: list[Offered] = []

        def send() -> int:
            offered.append(generator.run())
            return offered[0].frames

        outcome = capture(
            namespace, WAYS["native"], send, flow=FlowOptions(event_slots=1 << 17), xdp=ROOM
        )
        return offered[0], outcome, counter(namespace, SENDER, "tx_queue_0_xdp_xmit")


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_what_is_offered_is_what_the_wire_and_the_program_counted(load: Load) -> None:
    offered, outcome, sent = _offer(load)
    books = outcome.statistics.capture
    assert_balanced(outcome.statistics)
    assert offered.frames == load.count == sent == books.seen == books.received
    assert books.keyed == books.received
    assert books.flows.started == load.started


def test_tcp_connections_are_whole() -> None:
    load = _LOADS["tcp"]
    _, outcome, _ = _offer(load)
    flows = outcome.flows()
    payload = load.size - 54
    assert len(flows) == load.started == load.count // load.per_flow
    # The SYN, the ACK, four segments, the FIN, the last ACK; the SYN+ACK and the FIN+ACK.
    assert set(flows.values()) == {(8, 4 * 60 + 4 * load.size, 2, 120, "ShADFf")}
    payloads = {(e.flow.orig.payload, e.flow.resp.payload) for e in outcome.ended()}
    assert payloads == {(4 * payload, 0)}
    assert {e.reason.value for e in outcome.ended()} == {"fin"}


def _frames(load: Load) -> list[bytes]:
    with (
        wire() as namespace,
        Capture(PORT, backend="af_xdp", netns=namespace.path, xdp=ROOM) as ring,
        Generator(namespace, SENDER, load) as generator,
    ):
        generator.start()
        frames = [packet.data for packet in ring.packets(count=load.count, timeout=PATIENCE)]
        generator.wait()
        return frames


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_frames_are_as_long_as_they_say(load: Load) -> None:
    for frame in set(_frames(load)[:500]):
        packet = Ether(frame)
        network = packet[IPv6 if load.ipv6 else IP]
        length = network.plen + 40 if load.ipv6 else network.len
        control = load.protocol == "tcp" and not packet[TCP].flags.P
        assert len(frame) == (load.size if not control else max(60, 14 + length))
        assert max(60, 14 + length) == len(frame)
        if load.protocol == "udp":
            assert packet[UDP].len == length - (40 if load.ipv6 else 20)
        if not load.ipv6:
            again = network.copy()
            del again.chksum
            assert IP(bytes(again)).chksum == network.chksum


def _stamp(frame: bytes) -> int:
    return int.from_bytes(frame[26:30], "big") | int.from_bytes(frame[31:34], "big") << 32


@pytest.mark.parametrize("every", [1, 10])
def test_a_stamp_is_the_time_at_which_the_frame_was_made(every: int) -> None:
    before = time.monotonic_ns()
    frames = _frames(Load(2_000, rate=_RATE, per_flow=1, stamp=every))
    after = time.monotonic_ns()
    stamps = [_stamp(frame) for frame in frames[::every]]
    assert len(frames) == 2_000
    assert before < stamps[0] < stamps[-1] < after
    assert stamps == sorted(stamps)
    others = {_stamp(f) for n, f in enumerate(frames) if n % every}
    assert others == ({0x0A000000} if every > 1 else set())


def test_it_ends_in_time_however_much_is_missing() -> None:
    with wire() as namespace:
        namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        load = Load(1_000_000, rate=1000, seconds=0.5)
        with Generator(namespace, SENDER, load) as generator:
            offered = generator.run()
        assert offered.frames == counter(namespace, SENDER, "tx_queue_0_xdp_xmit")
        assert 0 < offered.frames < load.count


def test_closing_ends_a_generator_that_is_sending() -> None:
    with wire() as namespace:
        namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        with Generator(namespace, SENDER, Load(1_000_000, rate=1000)) as generator:
            generator.start()
        sent = counter(namespace, SENDER, "tx_queue_0_xdp_xmit")
        assert sent == counter(namespace, SENDER, "tx_queue_0_xdp_xmit") < 1_000_000
