"""Somebody comes to need the interface while AF_XDP takes its frames: they are given back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from netring_bpf import (
    BackendChanged,
    Capture,
    CaptureError,
    Event,
    FlowEnd,
    FlowEnded,
    FlowOptions,
    FlowStarted,
    LinkDown,
    LinkUp,
    Netring,
    TpacketOptions,
    XdpMode,
    XdpOptions,
)
from netring_bpf._core import lib
from netring_bpf.capture.af_xdp import XdpRings
from netring_bpf.errors import AttachError, InterfaceInUseError
from tests.support.frames import udp
from tests.support.lab import Namespace, VethPair, link, xdp_attached
from tests.support.patience import PATIENCE, until, wait_until
from tests.support.rig import PORT, SENDER, assert_balanced
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

SMALL: dict[str, Any] = {
    "xdp": XdpOptions(ring_size=2048, chunks=4096),
    "tpacket": TpacketOptions(block_size=1 << 18, block_count=8, retire_timeout=0.01),
    "flow": FlowOptions(events=(FlowStarted, FlowEnded)),
}


@dataclass
class Host:
    """A host with a port, which a wire joins to a namespace outside; it has no address yet."""

    outside: Namespace
    inside: Namespace
    mac: str

    def send(self, count: int) -> None:
        frame = udp("10.9.0.2", "10.9.0.1", 5000, 7000, b"x", dmac=self.mac)
        send_frames(self.outside, SENDER, [frame] * count)

    def add_address(self) -> None:
        self.inside.ip(f"addr add 10.9.0.1/24 dev {PORT}")

    @contextlib.contextmanager
    def receiver(self) -> Iterator[Callable[[], int]]:
        """Give a function that counts the datagrams which the host got since its last call."""
        with self.inside.enter():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
            sock.bind(("0.0.0.0", 7000))
            sock.setblocking(False)

            def count() -> int:
                got = 0
                with contextlib.suppress(BlockingIOError):
                    while sock.recv(1):
                        got += 1
                return got

            yield count

    def capture(self, backend: str = "auto", **options: Any) -> Capture:
        chosen = {**SMALL, **options}
        return Capture(PORT, netns=self.inside.path, backend=backend, **chosen)  # type: ignore[arg-type]

    def netring(self, backend: str = "auto", **options: Any) -> Netring:
        chosen = {**SMALL, **options}
        return Netring(PORT, netns=self.inside.path, backend=backend, **chosen)  # type: ignore[arg-type]


@contextlib.contextmanager
def host(queues: int = 1) -> Iterator[Host]:
    with Namespace() as outside, Namespace() as inside:
        VethPair(outside, SENDER, inside, PORT, queues=queues)
        inside.ip("link set lo up")
        yield Host(outside, inside, link(inside, PORT)["address"])


def collected(ring: Netring) -> tuple[list[Event], asyncio.Task[None]]:
    """The events of the ring as they come, and the task that takes them."""
    events: list[Event] = []
    subscriber = ring.subscribe(errors="event")

    async def collect() -> None:
        async for event in subscriber:
            events.append(event)

    return events, asyncio.create_task(collect())


def has(events: list[Event], kind: type[Event]) -> Callable[[], bool]:
    return lambda: any(isinstance(event, kind) for event in events)


def test_an_address_that_arrives_gets_its_frames_and_the_flows_go_on() -> None:
    async def run(rig: Host, received: Callable[[], int]) -> None:
        ring = rig.netring(filter={"any": "udp", "none": "tcp"})
        async with ring:
            events, collecting = collected(ring)
            assert (ring.backend, ring.attach) == ("af_xdp", "native")
            await asyncio.to_thread(rig.send, 10)
            await until(lambda: ring.statistics().capture.received == 10)
            assert received() == 0
            await asyncio.to_thread(rig.add_address)
            await until(has(events, BackendChanged))
            assert (ring.backend, ring.attach, ring.xdp) == ("tpacket_v3", None, None)
            assert ring.fallback_reason == "it has the address 10.9.0.1/24"
            assert ring.notices == (
                "TPACKET_V3 instead of AF_XDP from now on: it has the address 10.9.0.1/24",
            )
            assert not xdp_attached(rig.inside, PORT)
            await asyncio.to_thread(rig.send, 10)
            assert received() == 10
            await until(lambda: ring.statistics().capture.received == 20)
        await collecting
        started, changed, ended = events
        assert isinstance(started, FlowStarted)
        assert isinstance(changed, BackendChanged)
        assert isinstance(ended, FlowEnded)
        assert changed[1:] == (PORT, "tpacket_v3", "it has the address 10.9.0.1/24")
        assert started.ts <= changed.ts <= ended.ts
        assert ended.flow.id == started.flow.id
        assert (ended.flow.orig.packets, ended.reason) == (20, FlowEnd.SHUTDOWN)
        books = ring.statistics().capture
        [queue] = books.queues
        assert (queue.seen, queue.redirected, queue.handed_back) == (10, 10, 0)
        assert (books.tp_packets, books.received, books.seen) == (10, 20, 20)
        assert books.matches == {"any": 20, "none": 0}
        assert_balanced(ring.statistics())

    with host() as rig, rig.receiver() as received:
        asyncio.run(run(rig, received))


def test_no_frame_is_lost_to_host_and_capture_while_they_keep_coming() -> None:
    """Each frame is either captured by AF_XDP or with the host."""

    async def run(rig: Host, received: Callable[[], int]) -> None:
        async with rig.netring() as ring:
            events, collecting = collected(ring)
            stop = threading.Event()
            sent = 0

            def send() -> None:
                nonlocal sent
                while not stop.wait(0.0005):
                    rig.send(20)
                    sent += 20

            sending = asyncio.create_task(asyncio.to_thread(send))
            await until(lambda: ring.statistics().capture.received > 100)
            await asyncio.to_thread(rig.add_address)
            await until(has(events, BackendChanged))
            before = ring.statistics().capture.received
            await until(lambda: ring.statistics().capture.received > before + 100)
            stop.set()
            await sending
            offered = sent
        await collecting
        books = ring.statistics().capture
        assert received() == offered - books.redirected
        assert (books.rx_dropped, books.rx_ring_full, books.tp_drops) == (0, 0, 0), books
        # What came between the switch and the new socket was handed back only.
        assert books.received <= offered
        assert [type(event) for event in events] == [FlowStarted, BackendChanged, FlowEnded]
        assert_balanced(ring.statistics())

    with host() as rig, rig.receiver() as received:
        asyncio.run(run(rig, received))


@pytest.mark.parametrize("mode", XdpMode)
def test_a_forced_af_xdp_ends_with_an_error_and_the_host_has_its_frames(mode: XdpMode) -> None:
    async def run(rig: Host, received: Callable[[], int]) -> None:
        xdp = XdpOptions(ring_size=2048, chunks=4096, mode=mode)
        async with rig.netring("af_xdp", xdp=xdp) as ring:
            events, collecting = collected(ring)
            await asyncio.to_thread(rig.send, 10)
            await until(lambda: ring.statistics().capture.received == 10)
            await asyncio.to_thread(rig.add_address)
            await until(has(events, CaptureError))
            assert not xdp_attached(rig.inside, PORT)
            await asyncio.to_thread(rig.send, 10)
            assert received() == 10
            await collecting
        assert isinstance(ring.error, InterfaceInUseError)
        assert "it has the address 10.9.0.1/24" in str(ring.error)
        assert [type(event) for event in events] == [FlowStarted, CaptureError, FlowEnded]
        assert_balanced(ring.statistics())

    with host() as rig, rig.receiver() as received:
        asyncio.run(run(rig, received))


@pytest.mark.parametrize("threads", [1, 2])
def test_packets_go_on_over_the_change(threads: int) -> None:
    xdp = XdpOptions(ring_size=2048, chunks=4096, threads=threads, symmetric_rss=True)
    with host(threads) as rig, rig.receiver() as received, rig.capture(xdp=xdp) as capture:
        packets = capture.packets(timeout=PATIENCE)
        rig.send(10)
        assert len([next(packets) for _ in range(10)]) == 10
        rig.add_address()
        wait_until(lambda: capture.backend == "tpacket_v3")
        rig.send(10)
        assert received() == 10
        assert len([next(packets) for _ in range(10)]) == 10
        packets.close()  # type: ignore[attr-defined]
        capture.close()
        books = capture.statistics()
        assert (books.redirected, books.tp_packets, books.handed_out) == (10, 10, 20)
        assert books.balanced


def test_packets_of_a_forced_af_xdp_end_with_the_error() -> None:
    with host() as rig, rig.capture("af_xdp") as capture:
        threading.Timer(0.2, rig.add_address).start()
        with pytest.raises(InterfaceInUseError, match=r"10\.9\.0\.1/24"):
            list(capture.packets())
        assert not xdp_attached(rig.inside, PORT)


def bridge(rig: Host, _: Namespace) -> None:
    rig.inside.ip("link add br0 type bridge")
    rig.inside.ip(f"link set {PORT} master br0")


def route(rig: Host, _: Namespace) -> None:
    rig.inside.ip(f"route add 192.0.2.0/24 dev {PORT}")


def macvlan(rig: Host, other: Namespace) -> None:
    rig.inside.ip(f"link add mv0 link {PORT} netns {other.pid} type macvlan mode bridge")
    other.ip("link set mv0 up")


def passthru(rig: Host, other: Namespace) -> None:
    rig.inside.ip(f"link add mv0 link {PORT} netns {other.pid} type macvlan mode passthru")
    other.ip("link set mv0 up")


ARRIVALS = {
    "bridge": (bridge, "it is a port of br0"),
    "route": (route, r"a route goes over it \(192\.0\.2\.0/24\)"),
    "macvlan": (macvlan, "of another device|another device runs over it"),
    "passthru": (passthru, "somebody made it promiscuous|another device runs over it"),
}


@pytest.mark.parametrize("backend", ["auto", "af_xdp"])
@pytest.mark.parametrize("what", ARRIVALS)
def test_whoever_arrives_is_seen(what: str, backend: str) -> None:
    arrive, reason = ARRIVALS[what]

    async def run(rig: Host, other: Namespace) -> None:
        # Whoever arrives says so on the wire.
        async with rig.netring(backend, filter="udp port 7000") as ring:
            assert ring.backend == "af_xdp"
            events, collecting = collected(ring)
            await asyncio.to_thread(arrive, rig, other)
            kind: type[Event] = BackendChanged if backend == "auto" else CaptureError
            await until(has(events, kind))
            assert not xdp_attached(rig.inside, PORT)
        await collecting
        [event] = [e for e in events if not isinstance(e, (LinkDown, LinkUp))]
        if isinstance(event, BackendChanged):
            said = event.reason
        else:
            assert isinstance(event, CaptureError)
            assert isinstance(event.error, InterfaceInUseError)
            said = str(event.error)
        assert re.search(reason, said)
        assert_balanced(ring.statistics())

    with host() as rig, Namespace() as other:
        asyncio.run(run(rig, other))


@contextlib.contextmanager
def listener(rig: Host) -> Iterator[socket.socket]:
    """One as tcpdump's."""
    with rig.inside.enter():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with sock:
        sock.bind((PORT, 3))
        sock.settimeout(PATIENCE)
        yield sock


def test_a_listener_that_arrives_goes_not_blind() -> None:
    with host() as rig, rig.capture() as capture, listener(rig) as other:
        wait_until(lambda: capture.backend == "tpacket_v3")
        rig.send(1)
        assert len(other.recv(100)) > 0
        assert len(list(capture.packets(count=1, timeout=PATIENCE))) == 1


def test_a_listener_that_arrives_ends_no_forced_af_xdp_but_is_told_of() -> None:
    with host() as rig, rig.capture("af_xdp") as capture, listener(rig):
        wait_until(lambda: capture.notices)
        [notice] = capture.notices
        assert notice.endswith("it sees nothing of what AF_XDP takes")
        rig.send(1)
        assert len(list(capture.packets(count=1, timeout=PATIENCE))) == 1


def test_what_was_allowed_is_not_watched() -> None:
    with host() as rig, rig.receiver() as received, rig.capture(steal=True) as capture:
        rig.add_address()
        time.sleep(1.5)  # more than a look
        rig.send(10)
        assert len(list(capture.packets(count=10, timeout=PATIENCE))) == 10
        assert (capture.backend, capture.notices, received()) == ("af_xdp", (), 0)


def test_a_raised_mtu_is_noticed() -> None:
    with host() as rig, rig.capture("af_xdp", xdp=XdpOptions(chunk_size=2048)) as capture:
        rig.inside.ip(f"link set {PORT} mtu 3000")
        wait_until(lambda: capture.notices)
        [notice] = capture.notices
        assert notice.startswith("its MTU was raised from 1500: frames of its MTU of 3000 are")


def test_new_queues_pass_their_frames_on_and_are_noticed() -> None:
    with host(2) as rig:
        # The kernel refuses XDP where the peer can send on more queues than there are.
        rig.outside.run(["ethtool", "-L", SENDER, "tx", "1"])
        rig.inside.run(["ethtool", "-L", PORT, "rx", "1"])
        with rig.capture() as capture:
            rig.inside.run(["ethtool", "-L", PORT, "rx", "2"])
            wait_until(lambda: capture.notices)
            [notice] = capture.notices
            assert notice.startswith("it has 2 receive queues instead of 1: the frames of the new")


def test_a_new_name_is_noticed_and_the_capture_goes_on() -> None:
    with host() as rig, rig.capture() as capture:
        rig.inside.ip(f"link set {PORT} down")
        rig.inside.ip(f"link set {PORT} name other0")
        rig.inside.ip("link set other0 up")
        wait_until(lambda: capture.notices)
        assert capture.notices == (f"{PORT} is called other0 now; the capture goes on",)
        wait_until(lambda: link(rig.inside, "other0")["operstate"] == "UP")
        capture.set_filter("udp port 7000")
        rig.send(3)
        assert len(list(capture.packets(count=3, timeout=PATIENCE))) == 3


def take_the_program_off(capture: Capture) -> None:
    """As bpftool does from another process."""
    rings = capture._rings
    assert isinstance(rings, XdpRings)
    assert lib.nr_link_detach(rings._link._fd) == 0


def test_a_program_that_others_took_off_does_not_leave_it_blind() -> None:
    with host() as rig, rig.capture() as capture:
        take_the_program_off(capture)
        wait_until(lambda: capture.backend == "tpacket_v3")
        assert capture.fallback_reason == f"another process has taken the XDP program off {PORT}"
        rig.send(3)
        assert len(list(capture.packets(count=3, timeout=PATIENCE))) == 3
    with host() as rig, rig.capture("af_xdp") as capture:
        take_the_program_off(capture)
        with pytest.raises(AttachError, match="another process has taken the XDP program off"):
            list(capture.packets())


def test_swapping_filters_looks_like_no_other_program() -> None:
    with host() as rig, rig.capture() as capture:
        for number in range(30):
            capture.set_filter("udp" if number % 2 else "udp port 7000")
            rig.inside.ip(f"link set {PORT} alias number{number}")  # a message: it looks again
        assert (capture.backend, capture.notices) == ("af_xdp", ())
        rig.send(3)
        assert len(list(capture.packets(count=3, timeout=PATIENCE))) == 3
