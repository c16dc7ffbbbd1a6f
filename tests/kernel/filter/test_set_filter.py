"""Another filter while frames come in: at once, counted on, and the old one stays on failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from netring_bpf import Capture, Filter, FlowStarted, Netring, TpacketOptions
from netring_bpf.bpf import program as program_module
from netring_bpf.errors import ClosedError, FilterError, NetringError, VerifierError
from tests.support.frames import udp
from tests.support.lab import Namespace
from tests.support.patience import PATIENCE
from tests.support.rig import PORT, SENDER, WAYS, assert_balanced, wire
from tests.support.sender import send_frames

pytestmark = pytest.mark.requires("root", "netns", "bcc")


def frames(port: int, count: int) -> list[bytes]:
    return [udp("10.0.0.1", "10.0.0.2", 4000 + n, port) for n in range(count)]


def options(way: str) -> dict[str, Any]:
    """Small rings that hand over soon."""
    quick = TpacketOptions(block_size=1 << 16, block_count=2, retire_timeout=0.005)
    return {"tpacket": quick, **WAYS[way].options()}


@contextlib.asynccontextmanager
async def opened(namespace: Namespace, way: str, **more: Any) -> AsyncIterator[Netring]:
    ring = Netring(PORT, netns=namespace.path, **{**options(way), **more})
    async with ring:
        yield ring


def test_a_new_filter_takes_over_and_the_counters_go_on() -> None:
    async def run(namespace: Namespace, way: str) -> None:
        async with opened(namespace, way, filter="udp dst port 1000") as ring:
            events = ring.subscribe(kinds=FlowStarted)

            async def ports_of(count: int) -> set[int]:
                return {(await anext(events)).flow.key.resp.port for _ in range(count)}

            send_frames(namespace, SENDER, frames(1000, 5) + frames(2000, 3))
            assert await ports_of(5) == {1000}
            await ring.set_filter("udp dst port 2000")
            send_frames(namespace, SENDER, frames(1000, 7) + frames(2000, 11))
            assert await ports_of(11) == {2000}
            await ring.set_filter(None)
            send_frames(namespace, SENDER, frames(3000, 2))
            assert await ports_of(2) == {3000}
        books = ring.statistics()
        assert_balanced(books)
        assert books.capture.received == 18
        if way != "tpacket_v3":
            [queue] = books.capture.queues
            assert (queue.seen, queue.not_matched, queue.redirected) == (28, 10, 18)

    for way in WAYS:
        with wire() as namespace:
            asyncio.run(run(namespace, way))


@pytest.mark.parametrize("way", WAYS)
def test_the_old_filter_stays_when_the_new_one_fails(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        return (
            "#define NETRING_FILTER 1\nstatic int netring_filter(void *c) { return *(int *)0; }\n"
        )

    with wire() as namespace:
        settings = {**options(way), "filter": "udp dst port 1000", "netns": namespace.path}
        with Capture(PORT, **settings) as port:
            for wrong in ("tcp prot 80", "ip6 protochain 6"):
                with pytest.raises(FilterError):
                    port.set_filter(wrong)
            with pytest.raises(FilterError):
                port.set_filter(Filter("ip", linktype=12))
            with monkeypatch.context() as patch:
                patch.setattr(program_module, "to_c", refuse)
                with pytest.raises((VerifierError, NetringError)):
                    port.set_filter({"named": "udp dst port 2000"})
            send_frames(namespace, SENDER, frames(2000, 3) + frames(1000, 5))
            packets = list(port.packets(count=5, timeout=PATIENCE))
            assert [p.data for p in packets] == frames(1000, 5)
            assert port.statistics().received == 5
            assert port.statistics().matches == {}


@pytest.mark.parametrize("way", WAYS)
def test_the_snaplen_follows_the_filter(way: str) -> None:
    [frame] = frames(1000, 1)
    with (
        wire() as namespace,
        Capture(PORT, netns=namespace.path, **options(way)) as port,
    ):
        for snaplen, expected in ((50, frame[:50]), (20, frame[:20]), (60, frame)):
            port.set_filter(Filter("udp", snaplen=snaplen))
            send_frames(namespace, SENDER, [frame])
            [packet] = port.packets(count=1, timeout=PATIENCE)
            assert (packet.data, packet.len) == (expected, len(frame))


@pytest.mark.parametrize("way", WAYS)
def test_a_vlan_filter_can_be_put_in_force_in_another_namespace(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRING_BPF_CACHE", "")
    tagged = [udp("10.0.0.1", "10.0.0.2", 1, 2, vlans=(n,)) for n in (7, 8)]
    with wire() as namespace, Capture(PORT, netns=namespace.path, **options(way)) as port:
        port.set_filter("vlan 8")
        send_frames(namespace, SENDER, [*frames(1, 3), *tagged])
        [packet] = port.packets(count=1, timeout=PATIENCE)
        assert packet.data == tagged[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_capture_takes_no_filter(way: str) -> None:
    with wire() as namespace:
        port = Capture(PORT, netns=namespace.path, **options(way))
        with pytest.raises(ClosedError):
            port.set_filter("udp")
        with port:
            port.set_filter("udp")
        with pytest.raises(ClosedError):
            port.set_filter("udp")


@pytest.mark.parametrize("way", WAYS)
def test_named_filters_count_every_match_in_the_kernel_and_go_on_over_swaps(way: str) -> None:
    with wire() as namespace:
        named = {"web": "dst port 80", "low": "dst portrange 1-1023", "dns": Filter("port 53")}
        settings = {**options(way), "filter": named, "netns": namespace.path}
        with Capture(PORT, **settings) as port:
            assert port.statistics().matches == {"web": 0, "low": 0, "dns": 0}
            send_frames(
                namespace, SENDER, frames(80, 3) + frames(53, 5) + frames(9, 7) + frames(5000, 9)
            )
            assert len(list(port.packets(count=15, timeout=PATIENCE))) == 15
            # Any match counts: a frame to port 80 is both "web" and "low".
            assert port.statistics().matches == {"web": 3, "low": 15, "dns": 5}
            port.set_filter({"dns": "dst port 53", "web": "dst port 80", "new": "dst port 7"})
            send_frames(
                namespace, SENDER, frames(80, 1) + frames(53, 1) + frames(7, 2) + frames(9, 4)
            )
            assert len(list(port.packets(count=4, timeout=PATIENCE))) == 4
            assert port.statistics().matches == {"dns": 6, "web": 4, "new": 2}
            port.set_filter("dst port 9")
            send_frames(namespace, SENDER, frames(80, 1) + frames(9, 1))
            assert len(list(port.packets(count=1, timeout=PATIENCE))) == 1
            assert port.statistics().matches == {}
            port.set_filter({"low": "dst portrange 1-1023"})
            assert port.statistics().matches == {"low": 0}
        assert [str(law) for law in port.statistics().equations() if not law.holds] == []


@pytest.mark.long
def test_sixty_four_names_can_be_swapped_for_sixty_four_others() -> None:
    with wire() as namespace:
        settings = {**options("tpacket_v3"), "netns": namespace.path}
        first = {f"a{n}": f"dst port {n + 1}" for n in range(64)}
        second = {f"b{n}": f"dst port {n + 1}" for n in range(64)}
        with Capture(PORT, filter=first, **settings) as port:
            port.set_filter(second)
            send_frames(namespace, SENDER, frames(64, 2))
            assert len(list(port.packets(count=2, timeout=PATIENCE))) == 2
            expected = {name: 2 if name == "b63" else 0 for name in second}
            assert port.statistics().matches == expected
