"""Threads on their CPUs and over the queues of AF_XDP, or an error that says why not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import os
import re
import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netring_bpf import BusyPoll, Capture, Netring, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.capture.backend import Backend
from netring_bpf.errors import InterfaceGoneError, OptionError
from tests.support.frames import udp
from tests.support.hugepages import reserved
from tests.support.lab import Namespace, VethPair, xdp_attached
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, Way, assert_balanced, capture, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")

CPUS = sorted(os.sched_getaffinity(0))
FLOWS, EACH = 200, 10
WAIT = 0.05  # seconds: less than from one look at the interface to the next
SLICE = 800_000  # ns
LITTLE = TpacketOptions(block_size=1 << 16, block_count=8)


def send_both_ways(namespace: Namespace) -> int:
    """Conversations: a veth chooses the queue by a hash that is the same for both directions."""
    frames = [
        frame
        for n in range(FLOWS)
        for frame in (
            udp("10.0.0.1", "10.0.0.2", 1000 + n, 53),
            udp("10.0.0.2", "10.0.0.1", 53, 1000 + n),
        )
    ]
    return send_frames(namespace, SENDER, frames * EACH)


@pytest.mark.parametrize("mode", XdpMode)
def test_threads_share_the_queues_and_the_books_are_one(mode: XdpMode) -> None:
    options = XdpOptions(ring_size=4096, chunks=8192, mode=mode, threads=2, symmetric_rss=True)
    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT, queues=4)
        outcome = capture(
            namespace, Way("af_xdp", mode.value), lambda: send_both_ways(namespace), xdp=options
        )
    flows = outcome.flows()
    assert len(flows) == FLOWS
    assert {(counters[0], counters[2]) for counters in flows.values()} == {(EACH, EACH)}
    used = Counter((event.flow.id - 1) % 2 for event in outcome.ended())
    assert set(used) == {0, 1}
    assert outcome.statistics.capture.received == outcome.offered
    assert_balanced(outcome.statistics)


def test_more_threads_than_queues_are_refused() -> None:
    options = XdpOptions(ring_size=64, chunks=128, threads=2, symmetric_rss=True)
    with wire() as namespace, pytest.raises(OptionError, match="vb has 1 queues") as caught:
        Capture(PORT, netns=namespace.path, xdp=options).open()
    assert caught.value.option == "threads"


def started(namespace: Namespace, tpacket: TpacketOptions) -> Capture:
    port = Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=tpacket)
    port.open()
    try:
        port.start(lambda _: None)
    except BaseException:
        port.close()
        raise
    return port


def readers() -> list[int]:
    """The readers' threads, by the kernel's numbers."""
    threads = [t for t in threading.enumerate() if t.name.startswith("netring-reader")]
    threads.sort(key=lambda thread: thread.name)
    return [thread.native_id or -1 for thread in threads]


def places() -> list[set[int]]:
    """The CPUs on which each reader thread may run."""
    return [os.sched_getaffinity(reader) for reader in readers()]


def slice_of(thread: int) -> int | None:
    """The thread's time slice in ns; None where the kernel does not tell."""
    text = Path(f"/proc/self/task/{thread}/sched").read_text()
    found = re.search(r"^se\.slice\s*:\s*(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def test_each_thread_runs_on_its_cpu_and_nothing_else_moves() -> None:
    cpus = (CPUS[-1], CPUS[0])
    before = os.sched_getaffinity(0)
    with wire() as namespace:
        options = TpacketOptions(block_size=1 << 16, block_count=8, threads=2, cpus=cpus)
        with_threads = started(namespace, options)
        assert places() == [{cpu} for cpu in cpus]
        assert os.sched_getaffinity(0) == before
        with_threads.close()


class Scheduling(ctypes.Structure):
    """As of sched_setattr(2), which Python has no name for."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("policy", ctypes.c_uint32), ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32), ("priority", ctypes.c_uint32), ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64), ("period", ctypes.c_uint64),
    )  # fmt: skip


@contextlib.contextmanager
def scheduled(policy: int, slice_ns: int) -> Iterator[None]:
    """This thread, and those that it starts, have the policy and the slice; 0: the kernel's own."""
    number = {"x86_64": 314, "aarch64": 274}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.sizeof(Scheduling)

    def put(policy: int, slice_ns: int) -> None:
        wanted = Scheduling(size=size, policy=policy, runtime=slice_ns)
        assert libc.syscall(number, 0, ctypes.byref(wanted), 0) == 0

    put(policy, slice_ns)
    try:
        yield
    finally:
        put(os.SCHED_OTHER, 0)


@pytest.mark.parametrize(
    ("policy", "before", "slice_ns"),
    [
        (os.SCHED_OTHER, 5_000_000, SLICE),
        (os.SCHED_OTHER, 400_000, 400_000),
        (os.SCHED_BATCH, 5_000_000, 5_000_000),
    ],
    ids=["long", "short already", "batch"],
)
def test_the_reader_alone_has_short_slices_unless_something_else_was_chosen(
    policy: int, before: int, slice_ns: int
) -> None:
    own = threading.get_native_id()
    usual = slice_of(own)
    if usual is None:
        pytest.skip("this kernel does not show slices (Linux 6.12, CONFIG_SCHED_DEBUG)")
    with wire() as namespace:
        port = Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=LITTLE)
        with port:
            with scheduled(policy, before):
                port.start(lambda _: None)
                assert slice_of(own) == before
            send_frames(namespace, SENDER, [udp("10.0.0.1", "10.0.0.2", 1000, 53)])
            assert select.select([port.fileno()], [], [], PATIENCE)[0]  # so its loop has begun
            [reader] = readers()
            assert (os.sched_getscheduler(reader), slice_of(reader)) == (policy, slice_ns)
            assert slice_of(own) == usual


ANY, FIRST, LAST = set(CPUS), {CPUS[0]}, {CPUS[-1]}
TWO = XdpOptions(threads=2, symmetric_rss=True, cpus=(CPUS[-1], CPUS[0]))
INSTEAD = {
    "of AF_XDP": (XdpOptions(cpus=(CPUS[-1],)), LITTLE, [LAST], ()),
    "its own": (
        XdpOptions(cpus=(CPUS[-1],)), dataclasses.replace(LITTLE, cpus=(CPUS[0],)), [FIRST], (),
    ),
    "two of AF_XDP": (TWO, dataclasses.replace(LITTLE, threads=2), [LAST, FIRST], ()),
    "two for one": (TWO, LITTLE, [ANY], (
        f"any CPU instead of XdpOptions(cpus={TWO.cpus}), which are for 2 threads: TPACKET_V3 has "
        "1; say so in TpacketOptions(threads=…, cpus=…)",
    )),
}  # fmt: skip


@pytest.mark.parametrize("which", INSTEAD)
def test_what_is_taken_instead_of_af_xdp_runs_on_the_same_cpus_or_says_why_not(which: str) -> None:
    xdp, tpacket, expected, notices = INSTEAD[which]
    with wire() as namespace:
        namespace.ip(f"addr add 10.9.0.1/24 dev {PORT}")
        with Capture(PORT, netns=namespace.path, xdp=xdp, tpacket=tpacket) as port:
            assert port.backend == "tpacket_v3"
            assert port.notices == notices
            port.start(lambda _: None)
            assert places() == expected


@pytest.mark.parametrize("cpu", [4095, 1 << 31])
def test_a_cpu_that_is_not_there_is_an_error_and_no_thread_is_left(cpu: int) -> None:
    before = set(threading.enumerate())
    options = TpacketOptions(block_size=1 << 16, block_count=8, threads=2, cpus=(CPUS[0], cpu))
    with (
        wire() as namespace,
        pytest.raises(OptionError, match=f"thread 1 cannot run on CPU {cpu}: ") as caught,
    ):
        started(namespace, options)
    assert caught.value.option == "cpus"
    assert f"are {', '.join(map(str, CPUS))}" in str(caught.value)
    assert set(threading.enumerate()) == before


def test_busy_polling_loses_nothing_and_says_where_it_cannot_be_had() -> None:
    frames = [udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(FLOWS)] * EACH
    options = XdpOptions(ring_size=4096, chunks=8192, busy_poll=BusyPoll(microseconds=50))
    with (
        wire() as namespace,
        Capture(PORT, netns=namespace.path, backend="af_xdp", xdp=options) as port,
    ):
        port.start(lambda _: None)
        assert send_frames(namespace, SENDER, frames) == len(frames)
        port.stop()
        port.stop()
        for _ in port.finish(4096):
            pass
    books = port.statistics()
    assert (books.received, books.flows.started) == (len(frames), FLOWS)
    assert [str(law) for law in books.equations() if not law.holds] == []
    # A veth has a NAPI of its own and tells no socket which.
    assert [notice.partition(":")[0] for notice in port.notices] == ["no busy polling"]


@pytest.mark.parametrize("way", WAYS)
def test_packets_come_from_every_ring(way: str) -> None:
    """Also without the threads: those who ask for packets read all rings themselves."""
    xdp = XdpOptions(
        ring_size=4096, chunks=8192, threads=2, symmetric_rss=True,
        mode=XdpMode(WAYS[way].attach) if WAYS[way].attach else None,
    )  # fmt: skip
    tpacket = TpacketOptions(block_size=1 << 16, block_count=64, threads=2)
    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT, queues=4)
        with Capture(
            PORT, netns=namespace.path, backend=WAYS[way].backend, xdp=xdp, tpacket=tpacket
        ) as port:
            count = send_both_ways(namespace)
            assert len(list(port.packets(count=count, timeout=PATIENCE))) == count
            assert list(port.packets(timeout=0.1)) == []
        assert [str(law) for law in port.statistics().equations() if not law.holds] == []


PAGES = 4  # of 2 MiB: what the UMEM below takes


@pytest.mark.parametrize("pages", [PAGES, 0])
def test_huge_pages_are_used_where_there_are_some_and_announced_where_not(pages: int) -> None:
    options = XdpOptions(ring_size=1024, chunks=4096, chunk_size=2048, huge_pages=True)
    frames = [udp("10.0.0.1", "10.0.0.2", n, 53) for n in range(FLOWS)]
    with (
        wire() as namespace,
        reserved(pages) as free,
        Capture(PORT, netns=namespace.path, backend="af_xdp", xdp=options) as port,
    ):
        if free >= PAGES:
            assert port.notices == ()
        else:
            [notice] = port.notices
            assert notice.startswith("normal pages instead of huge ones")
            assert "8192 KiB a queue" in notice
        send_frames(namespace, SENDER, frames)
        got = list(port.packets(count=FLOWS, timeout=PATIENCE))
        assert [packet.data for packet in got] == frames


def test_the_options_in_force_tell_what_was_chosen() -> None:
    with wire() as namespace:
        namespace.ip(f"link set {SENDER} mtu 3000")
        namespace.ip(f"link set {PORT} mtu 3000")
        asked = XdpOptions(ring_size=256)
        with Capture(PORT, netns=namespace.path, backend="af_xdp", xdp=asked) as port:
            assert port.xdp == XdpOptions(ring_size=256, chunks=256, chunk_size=4096)
            long = udp("10.0.0.1", "10.0.0.2", 1, 2, bytes(2900))
            send_frames(namespace, SENDER, [long])
            [packet] = port.packets(count=1, timeout=PATIENCE)
            assert packet.data == long
        with Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=LITTLE) as other:
            assert other.xdp is None


@pytest.mark.parametrize("mode", [*XdpMode, None], ids=str)
def test_a_netring_tells_the_options_in_force_of_af_xdp_and_else_none(mode: XdpMode | None) -> None:
    async def run() -> None:
        asked = XdpOptions(ring_size=256, mode=mode)
        backend: Backend = "af_xdp" if mode else "tpacket_v3"
        ring = Netring(PORT, netns=namespace.path, backend=backend, xdp=asked, tpacket=LITTLE)
        assert ring.xdp is None
        async with ring:
            chosen = XdpOptions(ring_size=256, chunks=256, chunk_size=2048, mode=mode)
            assert ring.xdp == (chosen if mode else None)

    with wire() as namespace:
        asyncio.run(run())


def test_blocks_of_pcapng_come_from_every_ring_and_end_when_it_is_quiet() -> None:
    tpacket = TpacketOptions(block_size=1 << 16, block_count=64, threads=2)
    with wire() as namespace:
        port = Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=tpacket)
        with port:
            count = send_both_ways(namespace)
            got = 0
            while got < count:
                blocks = port.blocks(count, PATIENCE)
                assert blocks is not None
                got += blocks.frames
            assert got == count
            port.quiesce()
            send_both_ways(namespace)
            assert port.blocks(count, 0.1) is None
        assert port.statistics().received == count


def test_closing_ends_who_waits_for_packets_of_several_rings() -> None:
    tpacket = TpacketOptions(block_size=1 << 16, block_count=8, threads=2)
    with wire() as namespace:
        port = Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=tpacket)
        got: list[object] = []
        with port:
            first = threading.Event()

            def read() -> None:
                for packet in port.packets():
                    got.append(packet)
                    first.set()

            reader = threading.Thread(target=read)
            reader.start()
            send_frames(namespace, SENDER, [udp("10.0.0.1", "10.0.0.2", 1, 2)])
            assert first.wait(PATIENCE)
            port.stop()
            reader.join(PATIENCE)
            assert not reader.is_alive()
        assert len(got) == 1


def packets_of(port: Capture) -> object:
    return list(port.packets(timeout=WAIT))


def blocks_of(port: Capture) -> object:
    return port.blocks(64, WAIT)


@contextlib.contextmanager
def looked_at(namespace: Namespace) -> Iterator[Capture]:
    """Two sockets, whose interface has just been looked at: not again soon, unless it is asked."""
    tpacket = TpacketOptions(block_size=1 << 16, block_count=8, threads=2)
    with Capture(PORT, netns=namespace.path, backend="tpacket_v3", tpacket=tpacket) as port:
        assert list(port.packets(timeout=0.0)) == []
        yield port


@pytest.mark.parametrize("read", [packets_of, blocks_of])
def test_who_waits_at_several_sockets_hears_at_once_that_the_interface_is_gone(
    read: Callable[[Capture], object],
) -> None:
    with wire() as namespace, looked_at(namespace) as port:
        namespace.ip(f"link del {PORT}")
        with pytest.raises(InterfaceGoneError):
            read(port)


@pytest.mark.parametrize("read", [packets_of, blocks_of])
def test_who_waits_at_several_sockets_looks_at_each_that_has_an_error(
    read: Callable[[Capture], object],
) -> None:
    with wire() as namespace:
        with looked_at(namespace) as port:
            namespace.ip(f"link set {PORT} down")
            assert not read(port)
        assert port.statistics().link_errors == 2


def test_a_netring_on_a_cpu_that_is_not_there_closes_again() -> None:
    async def run() -> None:
        xdp = XdpOptions(ring_size=64, chunks=128, cpus=(4095,))
        ring = Netring(PORT, netns=namespace.path, backend="af_xdp", xdp=xdp)
        with pytest.raises(OptionError, match="CPU 4095"):
            async with ring:
                pass
        assert not xdp_attached(namespace, PORT)
        assert ring.statistics().balanced

    with wire() as namespace:
        asyncio.run(run())
