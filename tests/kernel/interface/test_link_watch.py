"""Changes of a link's state, also those whose messages the kernel could not queue."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator

import pytest

from netring_bpf import Netring
from netring_bpf.errors import InterfaceGoneError
from netring_bpf.interface import Interface, LinkChange, LinkWatch
from tests.support.lab import Namespace, link, tap
from tests.support.rig import PORT, SENDER, wire

pytestmark = pytest.mark.requires("root", "netns")

UP, DOWN, GONE = LinkChange.UP, LinkChange.DOWN, LinkChange.GONE
FLOOD = 800


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as namespace, namespace.enter():
        yield namespace


def flood(namespace: Namespace, ifname: str) -> None:
    """As many messages about an interface as no socket has room for."""
    lines = (f"link set {ifname} alias a{n}" for n in range(FLOOD))
    namespace.run(["ip", "-batch", "-"], input="\n".join(lines))


def wait_until(namespace: Namespace, state: str) -> None:
    while link(namespace, PORT)["operstate"] != state:
        pass


@pytest.mark.parametrize("of", [SENDER, PORT])
def test_a_change_behind_lost_messages_is_told(namespace: Namespace, of: str) -> None:
    with LinkWatch(Interface.find(PORT)) as watch:
        flood(namespace, of)
        namespace.ip(f"link set {PORT} down")
        assert watch.read() == [DOWN]
        flood(namespace, of)
        namespace.ip(f"link set {PORT} up")
        wait_until(namespace, "UP")
        assert watch.read() == [UP]
        assert watch.read() == []


@pytest.mark.parametrize("whose", [PORT, SENDER])
@pytest.mark.parametrize("times", [1, 3])
def test_down_and_up_behind_lost_messages_are_told_as_both(
    namespace: Namespace, whose: str, times: int
) -> None:
    with LinkWatch(Interface.find(PORT)) as watch:
        flood(namespace, PORT)
        for _ in range(times):
            namespace.ip(f"link set {whose} down")
            if whose == PORT:
                wait_until(namespace, "DOWN")
            namespace.ip(f"link set {whose} up")
            wait_until(namespace, "UP")
        assert watch.read() == [DOWN, UP]
        assert watch.read() == []


def test_the_state_behind_lost_messages_is_that_of_the_interface_s_own_namespace() -> None:
    with wire() as namespace:
        with namespace.enter():
            watch = LinkWatch(Interface.find(PORT))
        with watch:  # read by a thread that is elsewhere
            flood(namespace, PORT)
            assert watch.read() == []
            flood(namespace, PORT)
            namespace.ip(f"link set {PORT} down")
            assert watch.read() == [DOWN]


def test_a_deletion_behind_lost_messages_is_told(namespace: Namespace) -> None:
    with LinkWatch(Interface.find(PORT)) as watch:
        flood(namespace, PORT)
        namespace.ip(f"link del {PORT}")
        assert watch.read() == [DOWN, GONE]
        assert watch.read() == []


def test_each_change_is_told_once_where_nothing_is_lost(namespace: Namespace) -> None:
    told: list[LinkChange] = []
    with LinkWatch(Interface.find(PORT)) as watch:
        for _ in range(5):
            namespace.ip(f"link set {PORT} down")
            told += watch.read()
            namespace.ip(f"link set {PORT} up")
            wait_until(namespace, "UP")
            told += watch.read()
        namespace.ip(f"link set {PORT} mtu 1400")
        told += watch.read()
    assert told == [DOWN, UP] * 5


@pytest.mark.parametrize("ipv6", [True, False])
@pytest.mark.parametrize("of", ["t0", SENDER])
def test_a_link_whose_carrier_stays_is_told_down_and_up_too(
    namespace: Namespace, of: str, ipv6: bool
) -> None:
    with tap(namespace, "t0"):
        switch = f"echo {int(not ipv6)} >/proc/sys/net/ipv6/conf/t0/disable_ipv6"
        namespace.run(["sh", "-c", switch])
        namespace.ip("link set t0 up")
        with LinkWatch(Interface.find("t0")) as watch:
            for _ in range(2):
                flood(namespace, of)
                namespace.ip("link set t0 down")
                namespace.ip("link set t0 up")
                assert watch.read() == [DOWN, UP]
                flood(namespace, of)
                assert watch.read() == []


def test_messages_about_other_links_do_not_fill_the_socket(namespace: Namespace) -> None:
    with LinkWatch(Interface.find(PORT)) as watch:
        flood(namespace, SENDER)
        ready, _, _ = select.select([watch], [], [], 0)
        assert ready == []


def test_a_watch_of_what_is_gone_does_not_begin(namespace: Namespace) -> None:
    port = Interface.find(PORT)
    namespace.ip(f"link del {PORT}")
    with pytest.raises(InterfaceGoneError):
        LinkWatch(port)


@pytest.mark.parametrize("is_up", [True, False])
def test_a_capture_knows_whether_its_interface_has_a_link_as_it_begins(is_up: bool) -> None:
    async def run() -> bool:
        async with Netring(PORT, netns=namespace.path, backend="tpacket_v3") as ring:
            info = ring.subscribe().info
            assert info is not None
            return info.link_up

    with wire() as namespace:
        if not is_up:
            namespace.ip(f"link set {SENDER} down")
        assert asyncio.run(run()) is is_up
