"""Changes of a link's state, also those whose messages the kernel could not queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netring_bpf.errors import InterfaceGoneError
from netring_bpf.interface import Interface, LinkChange, LinkWatch
from tests.support.lab import Namespace, link
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
        flood(namespace, SENDER)
        for _ in range(times):
            namespace.ip(f"link set {whose} down")
            if whose == PORT:
                wait_until(namespace, "DOWN")
            namespace.ip(f"link set {whose} up")
            wait_until(namespace, "UP")
        assert watch.read() == [DOWN, UP]
        assert watch.read() == []


def test_a_deletion_behind_lost_messages_is_told(namespace: Namespace) -> None:
    namespace.ip("link add x0 type veth peer name x1")
    with LinkWatch(Interface.find(PORT)) as watch:
        flood(namespace, "x0")
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


def test_a_watch_of_what_is_gone_does_not_begin(namespace: Namespace) -> None:
    port = Interface.find(PORT)
    namespace.ip(f"link del {PORT}")
    with pytest.raises(InterfaceGoneError):
        LinkWatch(port)
