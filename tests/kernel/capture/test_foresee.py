"""The backend that is foreseen is the one that opening then takes, with the same reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from netring_bpf import Capture, NetringError, TpacketOptions, XdpMode, XdpOptions
from netring_bpf.capture.backend import BACKENDS, Backend, BackendOptions
from netring_bpf.capture.choose import foresee
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface, in_namespace
from netring_bpf.ring.flow_options import FlowOptions
from tests.support.lab import Namespace, xdp_attached
from tests.support.rig import PORT, SENDER, wire

pytestmark = pytest.mark.requires("root", "netns", "bcc")

LITTLE = TpacketOptions(block_size=1 << 16, block_count=2)
SITUATIONS: dict[str, Callable[[Namespace], object]] = {
    "free": lambda _: None,
    "in use": lambda ns: ns.ip(f"address add 10.0.0.1/24 dev {PORT}"),
    "down": lambda ns: ns.ip(f"link set dev {PORT} down"),
    "large frames": lambda ns: ns.ip(f"link set dev {PORT} mtu 9000"),
}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with wire() as ns:
        yield ns


def foreseen(namespace: Namespace, backend: Backend, steal: bool, xdp: XdpOptions) -> object:
    options = BackendOptions(
        backend=backend,
        filter=FilterSet.of(None),
        steal=steal,
        xdp=xdp,
        tpacket=LITTLE,
        flow=FlowOptions(),
    )
    try:
        with in_namespace(namespace.path):
            told = foresee(Interface.find(PORT), options)
    except NetringError as error:
        return str(error)
    return told.backend, told.attach, told.reason


def opened(namespace: Namespace, backend: Backend, steal: bool, xdp: XdpOptions) -> object:
    try:
        with Capture(
            PORT, netns=namespace.path, backend=backend, steal=steal, xdp=xdp, tpacket=LITTLE
        ) as capture:
            return capture.backend, capture.attach, capture.fallback_reason
    except NetringError as error:
        return str(error)


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_foreseen_comes_true(
    namespace: Namespace, situation: str, backend: Backend
) -> None:
    SITUATIONS[situation](namespace)
    for steal in (False, True):
        # A chunk of 4096 bytes carries no frame of 9000, which only auto looks at.
        xdp = XdpOptions(mode=XdpMode.GENERIC if situation == "large frames" else None,
                         ring_size=64, chunks=128)  # fmt: skip
        told = foreseen(namespace, backend, steal, xdp)
        assert not xdp_attached(namespace, PORT)
        assert told == opened(namespace, backend, steal, xdp)


def test_native_mode_that_queues_forbid_is_foreseen() -> None:
    with Namespace() as namespace:
        namespace.ip(
            f"link add {PORT} numrxqueues 1 numtxqueues 1 type veth "
            f"peer name {SENDER} numrxqueues 1 numtxqueues 4"
        )
        namespace.ip(f"link set {PORT} up")
        namespace.ip(f"link set {SENDER} up")
        small = XdpOptions(ring_size=64, chunks=128)
        assert foreseen(namespace, "af_xdp", False, small) == ("af_xdp", "generic", None)
        told = foreseen(namespace, "auto", False, small)
        taken = opened(namespace, "auto", False, small)
    assert isinstance(told, tuple)
    assert isinstance(taken, tuple)
    assert told[:2] == taken[:2] == ("tpacket_v3", None)
    why = "the other end of the cable has more transmit queues than this one has receive queues"
    assert why in told[2]
    assert why in taken[2]
