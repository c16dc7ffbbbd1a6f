"""Decides what an open capture must do about a change of its interface."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

from netring_bpf.bpf.attached import AttachedProgram
from netring_bpf.capture.af_xdp import XdpRings
from netring_bpf.capture.backend import BackendOptions
from netring_bpf.capture.capture_port import is_only_listened_to, loses_at, why_not_capture_port
from netring_bpf.capture.guard import Sight
from netring_bpf.capture.open_backend import Rings
from netring_bpf.errors import AttachError, NetringError, XdpBusyError
from netring_bpf.fork import held_off
from netring_bpf.interface import OwnMarks

__all__ = ["Finding", "InUse", "Lost", "answer"]

_OURS = OwnMarks(promiscuity=1)  # every capture makes its interface promiscuous once


@dataclass(frozen=True, slots=True)
class InUse:
    """Somebody else needs the frames: AF_XDP must give them back."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The capture gets no frames any more, so it must end."""

    error: NetringError


Finding: TypeAlias = InUse | Lost | None


def answer(
    rings: Rings,
    options: BackendOptions,
    before: Sight,
    now: Sight,
    swapping: AbstractContextManager[object],
) -> Finding:
    """Announce what the user must know, and return what the capture must do.

    To be called in the interface's namespace. ``swapping`` keeps the program from being swapped.
    """
    _follow_the_name(rings, now)
    if not isinstance(rings, XdpRings):
        _announce_program(rings, before, now)
        return None
    _announce_mtu(rings, before, now)
    _announce_queues(rings, before, now)
    return _find_program(rings, options, now, swapping) or _find_use(rings, options, now)


def _follow_the_name(rings: Rings, now: Sight) -> None:
    old, new = rings.interface.name, now.interface.name
    if old != new:
        rings.interface = dataclasses.replace(rings.interface, name=new)
        rings.announce(f"{old} is called {new} now; the capture goes on")


def _announce_mtu(rings: XdpRings, before: Sight, now: Sight) -> None:
    chunk = rings.opened.xdp.chunk_size if rings.opened.xdp else None
    if now.interface.mtu > before.interface.mtu and chunk:
        lost = loses_at(now.interface.mtu, chunk)
        if lost is not None:
            rings.announce(f"its MTU was raised from {before.interface.mtu}: {lost} (rx_dropped)")


def _announce_queues(rings: XdpRings, before: Sight, now: Sight) -> None:
    chosen = rings.opened.xdp.queues if rings.opened.xdp else None
    if now.queues == before.queues or chosen is not None:
        return
    more = now.queues > before.queues
    rings.announce(
        f"it has {now.queues} receive queues instead of {before.queues}"
        + (
            ": the frames of the new ones pass on to the host and are not captured (no_socket); "
            "open the capture again to take them"
            if more
            else ""
        )
    )


def _announce_program(rings: Rings, before: Sight, now: Sight) -> None:
    if now.program is not None and now.program != before.program:
        rings.announce(
            f"not every frame is seen, maybe none: an XDP program was attached to "
            f"{now.interface.name} ({AttachedProgram.find(now.program)}), and TPACKET_V3 sees only "
            "what it passes on"
        )


def _find_program(
    rings: XdpRings,
    options: BackendOptions,
    now: Sight,
    swapping: AbstractContextManager[object],
) -> Finding:
    if now.program == rings.program:
        return None
    with swapping, held_off():  # the program may just have been another of ours
        found = now.interface.xdp_program_id()
        if found == rings.program:
            return None
    name = now.interface.name
    if found is None:
        reason = f"another process has taken the XDP program off {name}"
        if options.backend == "auto":
            return InUse(reason)
        return Lost(AttachError(f"capture on {name}: {reason}", interface=name))
    program = AttachedProgram.find(found)
    return Lost(
        XdpBusyError(
            f"capture on {name}: another XDP program has taken the place of its own: {program}; "
            "end its process or detach it, and open the capture again",
            interface=name,
            program_id=program.id,
            program_name=program.name,
            pids=program.pids,
        )
    )


def _find_use(rings: XdpRings, options: BackendOptions, now: Sight) -> Finding:
    if options.steal:
        return None
    with held_off():
        reason = why_not_capture_port(now.interface, _OURS)
    if reason is None:
        return None
    if options.backend != "auto" and is_only_listened_to(now.interface):
        rings.announce(f"{reason}: it sees nothing of what AF_XDP takes")
        return None
    return InUse(reason)
