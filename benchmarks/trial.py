"""One run of a receiver: what it is offered, what it receives, and books that balance."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.generator import Generator, Load
from benchmarks.receivers import Receiver, Running
from tests.support.lab import Namespace, counter
from tests.support.rig import PORT, SENDER, wire

__all__ = ["Trial", "measure"]

_SETTLE = 1.0  # seconds, for the events of flows that are opened beforehand


@dataclass(frozen=True, slots=True)
class Trial:
    """A receiver and what it is offered.

    ``first``: before that, so that the flows are there; its frames are not in the figures.
    """

    receiver: Receiver
    load: Load
    first: Load | None = None


def measure(trial: Trial) -> dict[str, float]:
    """Offer the load to the receiver: what became of it, by name."""
    with wire() as namespace:
        if not trial.receiver.native:
            namespace.run(["ethtool", "-K", PORT, "gro", "on"])
        with (
            Running(trial.receiver, namespace) as running,
            Generator(namespace, SENDER, trial.load, favoured=trial.receiver.favoured) as generator,
        ):
            before = _send(namespace, trial.first)
            offered = generator.run()
            time.sleep(trial.receiver.settle)
            _send(namespace, trial.receiver.trail)
            figures = {"received": 0.0, **running.stop()}
        # The cable's own losses: its ring was full, or (with native XDP: of redirects too) behind.
        full = counter(namespace, SENDER, "tx_queue_0_xdp_xmit_errors")
        drops = counter(namespace, PORT, "rx_queue_0_drops")
    drops = 0 if trial.receiver.native else drops
    _check(trial, before + offered.frames, full + drops, figures)
    cpu = figures["reader_ns"] / max(1.0, figures["received"])
    figures["received"] -= before
    if trial.receiver.trail is not None:  # its frames are received as well, some of them
        figures["received"] = min(figures["received"], offered.frames)
    return {
        **figures,
        "offered": offered.frames,
        "offered_rate": offered.rate,
        "received_rate": 1e9 * figures["received"] / offered.ns,
        "share": figures["received"] / offered.frames,
        "cpu": cpu,
    }


def _send(namespace: Namespace, load: Load | None) -> int:
    if load is None:
        return 0
    with Generator(namespace, SENDER, load) as generator:
        frames = generator.run().frames
    time.sleep(_SETTLE)
    return frames


def _check(trial: Trial, offered: int, veth: int, figures: Mapping[str, float]) -> None:
    """The books: printed, and an error when they do not balance."""
    name, wanted = trial.receiver.name, trial.load.count + (trial.first.count if trial.first else 0)
    if offered != wanted:
        raise RuntimeError(f"{name}: {offered} frames instead of {wanted} in time")
    if not trial.receiver.exact:
        return
    if not figures.get("received"):
        raise RuntimeError(f"{name} received nothing, or did not say what")
    received, lost = int(figures["received"]), int(figures["lost"])
    law = f"{offered} offered = {received} received + {lost} lost + {veth} in the veth"
    if offered != received + lost + veth or not figures.get("balanced", 1):
        raise RuntimeError(f"{name}: the books do not balance: {law}")
    print(f"  {law}", file=sys.stderr)
