"""A veth pair to capture on, and a capture run to its end with everything it published."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from netring_bpf import Event, FiveTuple, FlowEnded, Netring, NetringStatistics, XdpMode, XdpOptions
from tests.support.lab import Namespace, VethPair, counter
from tests.support.paths import ROOT
from tests.support.sender import send_frames

SENDER, PORT = "va", "vb"
_FLOOD_LIMIT = 3600  # seconds; the test ends it before


@dataclass(frozen=True)
class Way:
    """A backend with the attach mode it is to have."""

    backend: str
    attach: str | None

    def options(self) -> dict[str, Any]:
        if self.attach is None:
            return {"backend": self.backend}
        return {"backend": self.backend, "xdp": XdpOptions(mode=XdpMode(self.attach))}


WAYS = {
    "native": Way("af_xdp", "native"),
    "generic": Way("af_xdp", "generic"),
    "tpacket_v3": Way("tpacket_v3", None),
}


@dataclass(frozen=True)
class Outcome:
    """The events that a finished capture published, and its books."""

    offered: int
    events: list[Event]
    statistics: NetringStatistics

    def ended(self) -> list[FlowEnded]:
        return [event for event in self.events if isinstance(event, FlowEnded)]

    def flows(self) -> dict[FiveTuple, tuple[int, int, int, int, str]]:
        """Each ended flow's counters and history, by its key."""
        flows = {
            e.flow.key: (
                e.flow.orig.packets,
                e.flow.orig.bytes,
                e.flow.resp.packets,
                e.flow.resp.bytes,
                e.flow.history,
            )
            for e in self.ended()
        }
        assert len(flows) == len(self.ended()), "a flow ended twice"
        return flows


@contextlib.contextmanager
def wire() -> Iterator[Namespace]:
    """A namespace with a veth pair that carries nothing but the test's frames."""
    with Namespace() as namespace:
        VethPair(namespace, SENDER, namespace, PORT)
        yield namespace


def capture(namespace: Namespace, way: Way, send: Callable[[], int], **options: Any) -> Outcome:
    """Capture on ``PORT`` while ``send`` runs in a thread; close; return all of it."""

    async def run() -> Outcome:
        ring = Netring(PORT, netns=namespace.path, buffer=1 << 20, **{**way.options(), **options})
        events: list[Event] = []
        async with ring:
            assert (ring.backend, ring.attach) == (way.backend, way.attach)
            subscriber = ring.subscribe()

            async def collect() -> None:
                async for event in subscriber:
                    events.append(event)

            collecting = asyncio.create_task(collect())
            offered = await asyncio.to_thread(send)
        await collecting
        return Outcome(offered, events, ring.statistics())

    return asyncio.run(run())


def send_repeatedly(namespace: Namespace, frames: list[bytes], count: int) -> Callable[[], int]:
    """Offer exactly ``count`` frames: the given ones, over and over."""
    return lambda: send_frames(namespace, SENDER, (frames[i % len(frames)] for i in range(count)))


def start_flood(namespace: Namespace, rate: int, ports: Sequence[int]) -> subprocess.Popen[str]:
    """Start ``tests.support.flood`` out of ``SENDER``; returns when frames come."""
    arguments = [SENDER, str(rate), str(_FLOOD_LIMIT), *map(str, ports)]
    process = namespace.popen(
        ["env", f"PYTHONPATH={ROOT}", "/usr/bin/python3", "-m", "tests.support.flood", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != "ready\n":
        process.communicate()
        raise AssertionError(said)
    return process


def stop_flood(namespace: Namespace, process: subprocess.Popen[str]) -> tuple[int, int]:
    """End the flood; return the frames that the cable took, and the ns that it ran."""
    said, _ = process.communicate()
    assert process.returncode == 0
    offered, took = map(int, said.split())
    # A full veth refuses frames, which then never reach the interface.
    return offered - counter(namespace, SENDER, "tx_queue_0_xdp_xmit_errors"), took


def assert_balanced(statistics: NetringStatistics) -> None:
    """Every equation of the books, with the one that is off in the message."""
    assert [str(law) for law in statistics.equations() if not law.holds] == []
