"""One run of a receiver, offered a load; its books must balance."""

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

_SETTLE = 1.0  # seconds, until the events of flows opened beforehand are read


@dataclass(frozen=True, slots=True)
class Trial:
    """A receiver and its load.

    ``first`` is sent beforehand, to open the flows; the figures leave its frames out.
    """

    receiver: Receiver
    load: Load
    first: Load | None = None


def measure(trial: Trial) -> dict[str, float]:
    """Offer the load to the receiver; returns the figures by name."""
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
        # The cable loses frames where its ring is full, and behind that. With native XDP the second
        # counter holds redirects as well.
        full = counter(namespace, SENDER, "tx_queue_0_xdp_xmit_errors")
        drops = counter(namespace, PORT, "rx_queue_0_drops")
    drops = 0 if trial.receiver.native else drops
    _check(trial, before + offered.frames, full + drops, figures)
    cpu = figures["reader_ns"] / max(1.0, figures["received"])
    figures["received"] -= before
    if trial.receiver.trail is not None:  # some of the trail's frames are counted as received
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
    """Print the books; raises where they do not balance."""
    name, wanted = trial.receiver.name, trial.load.count + (trial.first.count if trial.first else 0)
    if offered != wanted:
        raise RuntimeError(f"{name}: {offered} frames were sent in time, not {wanted}")
    if not trial.receiver.exact:
        return
    if not figures.get("received"):
        raise RuntimeError(f"{name} received nothing, or printed no figure")
    received, lost = int(figures["received"]), int(figures["lost"])
    law = f"{offered} offered = {received} received + {lost} lost + {veth} in the veth"
    if offered != received + lost + veth or not figures.get("balanced", 1):
        raise RuntimeError(f"{name}: the books do not balance: {law}")
    print(f"  {law}", file=sys.stderr)
