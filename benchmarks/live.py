"""What of the traffic on a wire becomes flow events: beside a bare loop in C, and beside peers.

The generator offers UDP frames on a veth, pinned on CPU 0, where the kernel's receive path runs as
well; the receiver is pinned on CPU 1. Every run starts with a cable and processes of its own, and
its books must balance: what was offered is what the receiver's side of the kernel has counted.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from benchmarks.generator import Generator, Load
from benchmarks.receivers import Receiver, Running
from tests.support.lab import Namespace
from tests.support.rig import PORT, SENDER, wire

__all__ = ["run"]

_COUNT, _QUICK_COUNT = 4_000_000, 200_000
_SETTLE = 0.1  # seconds: five times what a block waits
_PEERS = ("tcpdump", "libpcap", "softflowd", "nfstream", "scapy")


@dataclass(frozen=True, slots=True)
class Trial:
    """One row: a receiver and what it is offered."""

    receiver: Receiver
    load: Load


def _counter(namespace: Namespace, interface: str, pattern: str) -> int:
    shown = namespace.run(["ethtool", "-S", interface]).stdout
    return sum(map(int, re.findall(rf"{pattern}: (\d+)", shown)))


def measure(trial: Trial) -> dict[str, float]:
    """Offer the load to the receiver; what became of it, by name."""
    with wire() as namespace:
        if not trial.receiver.native:
            namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        with (
            Generator(namespace, SENDER, trial.load) as generator,
            Running(trial.receiver, namespace) as running,
        ):
            offered = generator.run()
            time.sleep(_SETTLE)
            figures = running.stop()
        full = _counter(namespace, SENDER, "tx_queue_0_xdp_xmit_errors")
        full += _counter(namespace, PORT, "rx_queue_0_drops")
    figures |= {"offered": offered.frames, "ns": offered.ns, "veth_drops": full}
    figures["seconds"] = offered.ns / 1e9
    figures["offered_rate"] = offered.rate
    figures["received_rate"] = figures["received"] / offered.ns * 1e9
    figures["share"] = figures["received"] / offered.frames
    figures["reader_per_packet"] = figures["reader_ns"] / max(1, figures["received"])
    return figures
