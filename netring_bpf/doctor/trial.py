"""Captures a frame by each backend, on a cable of its own in a network namespace of its own.

The namespace has no name, and only the calling thread is in it. The kernel takes it away, with the
cable and what is attached to it, when the thread leaves it or the process ends in whichever way.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from typing import Final

from netring_bpf.bpf.xdp_mode import XdpMode
from netring_bpf.capture.backend import Backend
from netring_bpf.capture.capture import Capture
from netring_bpf.doctor.finding import Asked, Finding, State
from netring_bpf.doctor.machine import SMALL_TABLE
from netring_bpf.errors import NetringError, PermissionDeniedError, SyscallError, limits_explained
from netring_bpf.interface.namespace import in_new_namespace
from netring_bpf.interface.netlink import Netlink
from netring_bpf.ring.options import TpacketOptions, XdpOptions

__all__ = ["try_backends"]

_PORT, _SENDER = "port", "sender"
_MTU = 1500
_TRIALS: Final[tuple[tuple[str, Backend, XdpMode | None], ...]] = (
    ("trial_native", "af_xdp", XdpMode.NATIVE),
    ("trial_generic", "af_xdp", XdpMode.GENERIC),
    ("trial_tpacket", "tpacket_v3", None),
)
_HEADER: Final = bytes.fromhex("ffffffffffff 02006e657472 88b5")  # an experiment's ethertype
_SHORTEST = 60  # bytes of a frame
_PATIENCE = 5.0  # seconds; a new cable drops frames for some milliseconds
_PAUSE = 0.02  # seconds between two frames


def try_backends(asked: Asked) -> Iterator[Finding]:
    """Yield how each backend did that may be taken."""
    trials = [trial for trial in _TRIALS if asked.wants_xdp or trial[1] == "tpacket_v3"]
    done = 0
    try:
        with in_new_namespace():
            with limits_explained("make a cable"), Netlink() as kernel:
                kernel.add_veth(_PORT, _SENDER, _MTU)
            for name, backend, mode in trials:
                yield _try(asked, name, backend, mode)
                done += 1
    except NetringError as error:
        lacks = isinstance(error, PermissionDeniedError) and error.capability
        remedy = asked.again_as_root() if lacks else ""
        for name, _, _ in trials[done:]:
            yield Finding(name, State.UNKNOWN, f"not tried: {error}", remedy)


def _try(asked: Asked, name: str, backend: Backend, mode: XdpMode | None) -> Finding:
    listens = backend == "tpacket_v3"
    state = State.BAD if listens else asked.without_xdp
    remedy = "" if listens else asked.again(backend="tpacket_v3")
    try:
        with limits_explained("try to capture"):
            took = _receive_one(backend, mode)
    except NetringError as error:
        return Finding(name, state, str(error), remedy)
    if took is None:
        found = f"no frame came within {_PATIENCE:.0f} s of sending"
        return Finding(name, state, found, remedy)
    return Finding(name, State.GOOD, f"a frame came through, after {took * 1000:.1f} ms")


def _receive_one(backend: Backend, mode: XdpMode | None) -> float | None:
    """Return the seconds from opening to the frame; None if none came. Raises ``NetringError``."""
    frame = (_HEADER + b"netring-bpf doctor" + secrets.token_bytes(16)).ljust(_SHORTEST, b"\0")
    with (
        Capture(
            _PORT,
            backend=backend,
            steal=True,  # nobody else is here
            xdp=XdpOptions(mode=mode, ring_size=64, chunks=128),
            tpacket=TpacketOptions(block_size=1 << 16, block_count=2),
            flow=SMALL_TABLE,
        ) as capture,
        _sender() as sender,
    ):
        began = time.monotonic()
        while time.monotonic() < began + _PATIENCE:
            _send(sender, frame)
            if any(packet.data == frame for packet in capture.packets(timeout=_PAUSE)):
                return time.monotonic() - began
    return None


def _sender() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        made.bind((_SENDER, 0))
    except OSError as error:
        made.close()
        raise SyscallError(f"bind a packet socket to {_SENDER}", error.errno or 0) from error
    return made


def _send(sender: socket.socket, frame: bytes) -> None:
    try:
        sender.send(frame)
    except OSError:
        time.sleep(_PAUSE)  # the cable is not ready yet, or full
