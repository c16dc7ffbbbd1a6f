"""TPACKET_V3 by several threads: each flow whole in one table, no frame twice, one set of books."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import itertools
import os
import struct
import threading
from collections import Counter

import pytest

from netring_bpf import (
    Capture,
    CaptureError,
    Filter,
    FlowOptions,
    FlowStarted,
    Netring,
    Packet,
    TpacketOptions,
)
from netring_bpf.errors import InterfaceGoneError, SyscallError
from netring_bpf.filter.libpcap import Instruction
from netring_bpf.interface import Interface
from netring_bpf.ring.readers import Readers
from tests.support.frames import icmp_echo, ip, tcp, udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, Outcome, Way, assert_balanced, capture, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

THREADS = 3
QUICK = TpacketOptions(
    block_size=1 << 16, block_count=64, retire_timeout=0.005, threads=THREADS
)  # fmt: skip
LITTLE = TpacketOptions(block_size=1 << 16, block_count=8, retire_timeout=0.005)
NOTHING = (Instruction(6, 0, 0, 0),)
FLOWS, EACH = 600, 5
HOSTS = {4: "10.{}.{}.1", 6: "fd00::{:x}:{:x}"}


def conversations(family: int, vlans: tuple[int, ...]) -> list[bytes]:
    """Both directions of many flows: UDP, TCP, and echo between other hosts."""
    frames = []
    for n in range(FLOWS // 3):
        a, b = (HOSTS[family].format(side, n) for side in (1, 2))
        frames += [
            udp(a, b, 10_000 + n, 53, vlans=vlans),
            udp(b, a, 53, 10_000 + n, b"answer", vlans=vlans),
            tcp(a, b, 20_000 + n, 443, flags="PA", seq=n, ack=1, payload=b"x", vlans=vlans),
            tcp(b, a, 443, 20_000 + n, flags="A", seq=1, ack=n + 1, vlans=vlans),
            icmp_echo(a, b, n + 1, n, vlans=vlans),
            icmp_echo(b, a, n + 1, n, reply=True, vlans=vlans),
        ]
    return frames * EACH


def tables(outcome: Outcome) -> Counter[int]:
    """Count the flows that ended in each thread's table, by their ids."""
    return Counter((event.flow.id - 1) % THREADS for event in outcome.ended())


def run(namespace: Namespace, frames: list[bytes], options: TpacketOptions = QUICK) -> Outcome:
    return capture(
        namespace,
        Way("tpacket_v3", None),
        lambda: send_frames(namespace, SENDER, frames),
        tpacket=options,
    )


@pytest.mark.parametrize("vlans", [(), (100,), (100, 200)], ids=["plain", "vlan", "qinq"])
@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_both_directions_of_every_flow_meet_in_one_table(
    family: int, vlans: tuple[int, ...]
) -> None:
    frames = conversations(family, vlans)
    with wire() as namespace:
        outcome = run(namespace, frames)
    flows = outcome.flows()  # fails where a flow ended in two tables
    assert len(flows) == FLOWS
    assert {(counters[0], counters[2]) for counters in flows.values()} == {(EACH, EACH)}
    books = outcome.statistics.capture
    assert (books.received, books.lost, books.tp_packets) == (len(frames), 0, len(frames))
    assert len({event.flow.id for event in outcome.ended()}) == FLOWS
    assert set(tables(outcome)) == set(range(THREADS))
    assert_balanced(outcome.statistics)


def fragments(a: str, b: str, ident: int) -> list[bytes]:
    """A UDP datagram between these ports in two pieces, and an unfragmented one."""
    body = struct.pack("!HHHH", 4000 + ident, 53, 8 + 64, 0) + bytes(64)

    def piece(data: bytes, offset: int, more: bool) -> bytes:
        frame = bytearray(ip(a, b, 17, data))
        frame[18:22] = struct.pack("!HH", ident, offset // 8 | (0x2000 if more else 0))
        frame[24:26] = b"\0\0"
        return bytes(frame)

    return [piece(body[:32], 0, True), piece(body[32:], 32, False), ip(a, b, 17, body)]


def test_the_fragments_of_a_datagram_meet_and_find_no_whole_ones() -> None:
    """docs/tuning.md describes PACKET_FANOUT_HASH and its limits."""
    datagrams = [fragments("10.0.0.1", f"10.0.1.{n}", n + 1) for n in range(200)]
    with wire() as namespace:
        outcome = run(namespace, list(itertools.chain(*datagrams)))
    books = outcome.statistics.capture
    assert books.partly_read["fragment"] == 0  # each later one came to the table of its first
    assert books.fragments == len(datagrams)
    packets = Counter[int](event.flow.orig.packets for event in outcome.ended())
    # The kernel hashes fragments by their addresses alone: a flow of both kinds can be in two
    # tables, once with the fragments and once with the whole datagrams.
    assert set(packets) == {1, 2, 3}
    assert packets[1] == packets[2]
    assert packets[1] + packets[3] == len(datagrams)
    assert_balanced(outcome.statistics)


def test_sockets_that_join_under_traffic_take_no_frame_twice_and_none_unfiltered() -> None:
    def numbered(port: int) -> list[bytes]:
        return [
            udp(f"10.{n >> 8}.{n & 255}.1", "10.9.0.1", n + 1, port, n.to_bytes(4, "big"))
            for n in range(2000)
        ]

    mixed = [frame for pair in zip(numbered(53), numbered(80), strict=True) for frame in pair]
    with wire() as namespace:
        stop = threading.Event()

        def send() -> None:
            for _ in itertools.takewhile(lambda _: not stop.is_set(), range(100)):
                send_frames(namespace, SENDER, mixed)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            with Capture(
                PORT,
                filter="udp dst port 53",
                backend="tpacket_v3",
                netns=namespace.path,
                # All that is sent fits into the ring of one socket: nothing is lost, whoever waits.
                tpacket=dataclasses.replace(QUICK, block_size=1 << 20, block_count=64),
            ) as port:
                packets = list(port.packets(count=20_000, timeout=PATIENCE))
                stop.set()
                sending.join()
                port.quiesce()
                packets += port.packets(timeout=1.0)
        finally:
            stop.set()
            sending.join()
        assert {packet.data[36:38] for packet in packets} == {(53).to_bytes(2, "big")}
        # Every number comes once a round: no two sockets had the same frame.
        times = Counter(packet.data[42:46] for packet in packets)
        assert max(times.values()) - min(times.values()) <= 1
        books = port.statistics()
        assert (books.received, books.lost) == (len(packets), 0)
        assert [str(law) for law in books.equations() if not law.holds] == []


def test_a_new_filter_takes_over_on_every_socket() -> None:
    def burst(port: int) -> list[bytes]:
        return [udp(f"10.0.{n >> 8}.{n & 255}", "10.9.0.1", 40_000 + n, port) for n in range(300)]

    async def swap(namespace: Namespace) -> Netring:
        ring = Netring(
            PORT,
            netns=namespace.path,
            backend="tpacket_v3",
            filter="dst port 1000",
            tpacket=QUICK,
            buffer=1 << 16,
        )
        async with ring:
            events = ring.subscribe(kinds=FlowStarted)

            async def ports_of(count: int) -> set[int]:
                return {(await anext(events)).flow.key.resp.port for _ in range(count)}

            send_frames(namespace, SENDER, burst(1000) + burst(2000))
            assert await ports_of(300) == {1000}
            await ring.set_filter({"two": "dst port 2000"})
            send_frames(namespace, SENDER, burst(1000) + burst(2000))
            assert await ports_of(300) == {2000}
        return ring

    with wire() as namespace:
        books = asyncio.run(swap(namespace)).statistics()
    assert books.capture.received == 600
    assert books.capture.matches == {"two": 300}
    assert_balanced(books)


def test_a_filter_that_one_socket_refuses_is_taken_back_from_the_others() -> None:
    frames = [udp("10.0.0.1", "10.9.0.1", 40_000, port) for port in (1000, 2000, 1000)]
    with wire() as namespace, Readers(FlowOptions(), 2) as readers:
        with namespace.enter():
            port = Interface.find(PORT)
            for reader in readers.each:
                reader.add_tpacket(port.index, NOTHING, LITTLE, ignore_outgoing=False)
        readers.set_filter(Filter("dst port 1000").instructions)
        with open(os.devnull, "rb") as no_socket:
            os.dup2(no_socket.fileno(), readers.each[1].descriptors[0], inheritable=False)
        with pytest.raises(SyscallError, match="swap the filter") as caught:
            readers.set_filter(Filter("dst port 2000").instructions)
        assert caught.value.errno == errno.ENOTSOCK
        send_frames(namespace, SENDER, frames)
        packets: list[Packet] = []
        while len(packets) < 2 and (more := readers.each[0].packets(9, PATIENCE)):
            packets += more
        assert [p.data for p in packets] == [frames[0], frames[2]]


def test_two_captures_have_groups_of_their_own() -> None:
    frames = [udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(500)]
    options = {"backend": "tpacket_v3", "tpacket": QUICK}
    with wire() as namespace:
        first = Capture(PORT, netns=namespace.path, **options)  # type: ignore[arg-type]
        second = Capture(PORT, netns=namespace.path, **options)  # type: ignore[arg-type]
        with first, second:
            send_frames(namespace, SENDER, frames)
            for port in (first, second):
                assert len(list(port.packets(count=500, timeout=PATIENCE))) == 500


def test_the_table_s_cap_is_divided_and_every_eviction_is_in_the_books() -> None:
    frames = [udp(f"10.0.{n >> 8}.{n & 255}", "10.9.0.1", n, 53) for n in range(1200)]
    with wire() as namespace:
        outcome = capture(
            namespace,
            Way("tpacket_v3", None),
            lambda: send_frames(namespace, SENDER, frames),
            tpacket=QUICK,
            flow=FlowOptions(max_flows=300),
        )
    flows = outcome.statistics.capture.flows
    assert (flows.ended["shutdown"], flows.ended["evicted"]) == (300, 900)
    assert flows.peak == 300
    assert_balanced(outcome.statistics)


def test_when_the_interface_goes_all_threads_end_and_it_is_told_once() -> None:
    async def lose(namespace: Namespace) -> list[CaptureError]:
        ring = Netring(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=QUICK)
        async with ring:
            errors = ring.subscribe(kinds=CaptureError)
            namespace.ip(f"link del dev {PORT}")
            async with asyncio.timeout(PATIENCE):
                return [event async for event in errors]

    with wire() as namespace:
        [told] = asyncio.run(lose(namespace))
    assert isinstance(told.error, InterfaceGoneError)
