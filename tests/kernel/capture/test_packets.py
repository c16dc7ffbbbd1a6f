"""Whole frames for those who ask: the same bytes from every backend, tags in place."""

from __future__ import annotations

import threading

import pytest

from netring_bpf import Capture, Filter, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.errors import ClosedError, InterfaceGoneError
from tests.support.frames import SMAC, ethernet, icmp_echo, tcp, udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

FRAMES = [
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"plain"),
    udp("10.0.0.1", "10.0.0.2", 1, 2, b"tagged", vlans=(100,)),
    tcp("2001:db8::1", "2001:db8::2", 1, 2, b"double", vlans=(200, 300)),
    icmp_echo("10.0.0.1", "10.0.0.2", 1, 1, bytes(range(256)) * 5),
    ethernet(0x88CC, b"not IP at all"),
    ethernet(0x0800, b"", vlans=(4094,)),
]
SMALL = {
    "xdp": XdpOptions(ring_size=64, chunks=128),
    "tpacket": TpacketOptions(block_size=1 << 16, block_count=4),
}


def capture(namespace: Namespace, way: str, **options: object) -> Capture:
    mode = WAYS[way].attach
    xdp = XdpOptions(ring_size=64, chunks=128, mode=XdpMode(mode) if mode else None)
    chosen = {**SMALL, "xdp": xdp, "backend": WAYS[way].backend, **options}
    return Capture(PORT, netns=namespace.path, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", WAYS)
def test_frames_come_whole_and_in_order(way: str) -> None:
    with wire() as namespace, capture(namespace, way) as port:
        send_frames(namespace, SENDER, FRAMES * 5)
        packets = list(port.packets(count=len(FRAMES) * 5, timeout=PATIENCE))
        assert [p.data for p in packets] == FRAMES * 5
        assert [p.len for p in packets] == [len(f) for f in FRAMES * 5]
        assert [p.ts for p in packets] == sorted(p.ts for p in packets)
        books = port.statistics()
        assert (books.received, books.handed_out, books.keyed) == (30, 30, 0)
        assert [str(law) for law in books.equations() if not law.holds] == []


@pytest.mark.parametrize("way", WAYS)
def test_the_filter_holds_and_the_count_is_exact(way: str) -> None:
    expression = "udp or (ip and tcp) or ether proto 0x88cc"
    with wire() as namespace, capture(namespace, way, filter=expression) as port:
        send_frames(namespace, SENDER, FRAMES)
        matching = [FRAMES[0], FRAMES[1], FRAMES[4]]
        first = list(port.packets(count=2, timeout=PATIENCE))
        assert [p.data for p in first] == matching[:2]
        last = list(port.packets(count=1, timeout=PATIENCE))
        assert [p.data for p in last] == matching[2:]
        assert list(port.packets(timeout=0.1)) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_was_not_read_is_in_the_books_as_in_the_ring(way: str) -> None:
    with wire() as namespace, capture(namespace, way) as port:
        send_frames(namespace, SENDER, FRAMES)
        assert len(list(port.packets(count=2, timeout=PATIENCE))) == 2
        port.close()
        books = port.statistics()
        assert (books.received, books.handed_out, books.in_ring) == (2, 2, len(FRAMES) - 2)
        assert [str(law) for law in books.equations() if not law.holds] == []


@pytest.mark.parametrize("way", WAYS)
def test_a_snaplen_cuts_the_bytes_and_not_the_length(way: str) -> None:
    """The outermost tag is not counted: the kernel has taken it out by then."""
    plain, tagged, double = (
        udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(range(200)), vlans=vlans)
        for vlans in ((), (100,), (200, 100))
    )
    short = udp("10.0.0.1", "10.0.0.2", 1, 2)
    frames = [plain, tagged, double, short]
    only = Filter("udp or vlan", snaplen=64)
    with wire() as namespace, capture(namespace, way, filter=only) as port:
        send_frames(namespace, SENDER, frames)
        packets = list(port.packets(count=4, timeout=PATIENCE))
    assert [p.len for p in packets] == [len(frame) for frame in frames]
    assert [p.data for p in packets] == [plain[:64], tagged[:68], double[:68], short]


@pytest.mark.parametrize("way", WAYS)
def test_closing_from_another_thread_ends_the_iteration(way: str) -> None:
    with wire() as namespace, capture(namespace, way) as port:
        send_frames(namespace, SENDER, FRAMES[:1])
        stop = threading.Timer(0.1, port.stop)  # by then the loop waits for the next one
        for number, packet in enumerate(port.packets()):
            assert (number, packet.data) == (0, FRAMES[0])
            stop.start()
        stop.join()


@pytest.mark.parametrize("way", WAYS)
def test_a_deleted_interface_ends_it_with_an_error(way: str) -> None:
    with wire() as namespace, capture(namespace, way) as port:
        namespace.ip(f"link del {PORT}")
        with pytest.raises(InterfaceGoneError) as caught:
            list(port.packets())
        assert caught.value.interface == PORT


def test_after_closing_there_is_nothing_to_read_and_the_books_stay() -> None:
    with wire() as namespace:
        port = capture(namespace, "tpacket_v3")
        with pytest.raises(ClosedError):
            list(port.packets())
        with port:
            send_frames(namespace, SENDER, FRAMES)
            assert len(list(port.packets(count=len(FRAMES), timeout=PATIENCE))) == len(FRAMES)
        with pytest.raises(ClosedError):
            list(port.packets())
        with pytest.raises(ClosedError):
            port.open()
        port.close()
        assert port.statistics().handed_out == len(FRAMES)


def test_a_mirror_port_s_frames_are_seen_though_they_are_for_others() -> None:
    frame = udp("10.0.0.1", "10.0.0.2", 1, 2, smac=SMAC, dmac="02:ff:ff:ff:ff:ff")
    with wire() as namespace:
        for way in WAYS:
            with capture(namespace, way) as port:
                send_frames(namespace, SENDER, [frame])
                assert [p.data for p in port.packets(count=1, timeout=PATIENCE)] == [frame]
