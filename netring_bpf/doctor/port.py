"""Checks the interface to capture on. Nothing is attached to it, bound to it or changed."""

from __future__ import annotations

import difflib
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netring_bpf.bpf.attached import AttachedProgram, tcx_programs
from netring_bpf.bpf.link import why_no_native
from netring_bpf.capture.capture_port import LARGEST_CHUNK, loses_at
from netring_bpf.capture.choose import check_capturable, foresee
from netring_bpf.doctor.finding import Asked, Checks, Finding, State
from netring_bpf.errors import (
    InterfaceDownError,
    InterfaceError,
    InterfaceNotFoundError,
    NetringError,
    PermissionDeniedError,
)
from netring_bpf.interface import Interface
from netring_bpf.interface.facts import Facts, list_interfaces
from netring_bpf.interface.netlink import offloads, receive_hash
from netring_bpf.remedies import (
    as_root,
    bring_up,
    detach_tcx,
    detach_xdp,
    end_processes,
    set_mtu,
    switch_off,
    word,
)
from netring_bpf.ring.options import MAX_QUEUES

__all__ = ["check_backend", "find_port", "port_checks"]

_HEADROOM, _TAIL, _LINK_HEADER = 256, 320, 22  # of a page: XDP's own room, and two VLAN tags
_SEEN: Final = (
    "rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "tx-generic-segmentation",
    "tx-tcp-segmentation", "rx-vlan-hw-parse",
)  # fmt: skip
_JOINS_FRAMES: Final = {"rx-gro-hw", "rx-lro"}
_DEVICES: Final = Path("/sys/bus/pci/devices")  # unlike /sys/class/net, of all namespaces


def find_port(asked: Asked) -> Facts | Finding:
    """Return what is known of the interface, or what is wrong if there is none."""
    assert asked.interface is not None
    try:
        index = Interface.find(asked.interface).index
        everyone = list_interfaces()
    except InterfaceNotFoundError as error:
        return Finding("interface", State.BAD, str(error), _another(asked))
    except NetringError as error:
        return Finding("interface", State.UNKNOWN, str(error))
    for facts in everyone:
        if facts.interface.index == index:
            return facts
    return Finding("interface", State.BAD, f"{asked.interface} has just gone", _another(asked))


def _another(asked: Asked) -> str:
    """Return the command that asks for an interface of a similar name, else that lists them."""
    assert asked.interface is not None
    names = [facts.interface.name for facts in list_interfaces()]
    by_fold = {name.casefold(): name for name in names}
    for similar in difflib.get_close_matches(asked.interface.casefold(), by_fold, n=1):
        return asked.again(interface=by_fold[similar])
    return asked.there("ip link") if asked.netns else "ip link"


def port_checks(asked: Asked, facts: Facts) -> Checks:
    """Return the checks of the interface."""
    return (
        ("interface", lambda: _interface(facts)),
        ("link", lambda: _link(asked, facts)),
        ("driver", lambda: _driver(asked, facts)),
        ("offloads", lambda: _offloads(asked, facts)),
        ("mtu", lambda: _mtu(asked, facts)),
        ("queues", lambda: _queues(asked, facts)),
        ("rss", lambda: _receive_hash(asked, facts)),
        ("xdp", lambda: _xdp(asked, facts)),
        ("tcx", lambda: _tcx(asked, facts)),
        ("numa", lambda: _numa(facts)),
    )


def check_backend(asked: Asked, facts: Facts, *, hindered: bool) -> Finding:
    """Return which backend a capture would have; ``hindered``: another check was bad."""
    if hindered:
        return Finding("backend", State.UNKNOWN, "none, until what is bad above is mended")
    return _backend(asked, facts)


def _interface(facts: Facts) -> Finding:
    interface = facts.interface
    kind = interface.kind or ("loopback" if interface.loopback else "hardware")
    found = f"{interface.name} (index {interface.index}, {kind})"
    if not interface.ethernet:
        found += ": its frames have no Ethernet header, which is not supported yet"
        return Finding("interface", State.BAD, found, "ip link")
    return Finding("interface", State.GOOD, found)


def _link(asked: Asked, facts: Facts) -> Finding:
    try:
        check_capturable(facts.interface)
    except InterfaceDownError as error:
        return Finding("link", State.BAD, str(error), asked.there(bring_up(facts.interface.name)))
    except InterfaceError:
        pass  # told by the check before
    if facts.state == "no carrier":
        found = "it is up, but has no carrier: no cable, or the other end is down"
        return Finding("link", State.WARNING, found)
    return Finding("link", State.GOOD, facts.state)


def _driver(asked: Asked, facts: Facts) -> Finding:
    name = facts.driver or facts.interface.kind or "unknown"
    if facts.xdp is None:
        return Finding(
            "driver", State.UNKNOWN, f"{name}; the kernel does not tell its XDP features"
        )
    features = ", ".join(sorted(facts.xdp)) or "none"
    found = f"{name}; XDP features: {features}"
    if refused := why_no_native(facts.interface, facts.xdp):
        if asked.wants_xdp:
            remedy = asked.again(backend="tpacket_v3")
            return Finding("driver", State.WARNING, f"{found}; {refused}", remedy)
        found += "; TPACKET_V3 needs none"
    return Finding("driver", State.GOOD, found)


def _offloads(asked: Asked, facts: Facts) -> Finding:
    name = facts.interface.name
    active = offloads(name)
    found = f"on: {', '.join(feature for feature in _SEEN if feature in active) or 'none'}"
    if joined := _JOINS_FRAMES & active:
        return Finding(
            "offloads",
            State.WARNING,
            f"{found}; the card joins frames ({', '.join(sorted(joined))}), so that they are "
            "counted as one, and AF_XDP in generic mode drops long ones",
            asked.there(switch_off(name, joined)),
        )
    return Finding("offloads", State.GOOD, found)


def _mtu(asked: Asked, facts: Facts) -> Finding:
    interface = facts.interface
    mtu = interface.mtu
    if not asked.wants_xdp or interface.loopback:
        return Finding("mtu", State.GOOD, f"{mtu}; TPACKET_V3 takes any")
    most = resource.getpagesize() - _HEADROOM - _TAIL - _LINK_HEADER
    remedy = asked.there(set_mtu(interface.name, most))
    if lost := loses_at(mtu, LARGEST_CHUNK):
        return Finding("mtu", State.WARNING, lost, remedy)
    if mtu > most:
        found = f"{mtu}: native XDP needs a frame in one page, so most drivers take up to {most}"
        return Finding("mtu", State.WARNING, found, remedy)
    return Finding("mtu", State.GOOD, f"{mtu}; AF_XDP takes up to {most}")


def _queues(asked: Asked, facts: Facts) -> Finding:
    found = f"{facts.queues} receive queue{'s' * (facts.queues != 1)}"
    if asked.wants_xdp and facts.queues > MAX_QUEUES:
        remedy = asked.there(f"ethtool -L {word(facts.interface.name)} combined {MAX_QUEUES}")
        found += f"; one capture by AF_XDP takes {MAX_QUEUES}"
        return Finding("queues", asked.without_xdp, found, remedy)
    return Finding("queues", State.GOOD, found)


def _receive_hash(asked: Asked, facts: Facts) -> Finding:
    told = receive_hash(facts.interface.name)
    if facts.queues == 1:
        return Finding("rss", State.GOOD, "not needed: one receive queue")
    if told is None or not told.key:
        return Finding("rss", State.UNKNOWN, "the driver does not tell how it chooses the queue")
    if told.is_symmetric:
        found = "symmetric: both directions of a flow come to one queue"
        return Finding("rss", State.GOOD, found)
    key = ":".join(["6d", "5a"] * (len(told.key) // 2))
    return Finding(
        "rss",
        State.GOOD,
        "not symmetric, so AF_XDP has one thread for all queues; for more, make it symmetric and "
        "say --symmetric-rss",
        asked.there(f"ethtool -X {word(facts.interface.name)} hkey {key}"),
    )


def _xdp(asked: Asked, facts: Facts) -> Finding:
    if facts.attached is None:
        return Finding("xdp", State.GOOD, "no program is attached")
    program = AttachedProgram.find(facts.attached.program)
    if program.pids:
        remedy = as_root(end_processes(program.pids))
    else:
        remedy = asked.there(detach_xdp(facts.interface.name, facts.attached.mode))
    if asked.wants_xdp:
        return Finding("xdp", State.BAD, f"taken by {program}", remedy)
    found = f"{program} is attached, and TPACKET_V3 sees only what it passes on"
    return Finding("xdp", State.WARNING, found, remedy)


def _tcx(asked: Asked, facts: Facts) -> Finding:
    try:
        ids = tcx_programs(facts.interface.index)
    except PermissionDeniedError as error:
        remedy = asked.again_as_root() if error.capability else ""
        return Finding("tcx", State.UNKNOWN, str(error), remedy)
    except NetringError as error:
        return Finding("tcx", State.UNKNOWN, str(error))
    if not ids:
        return Finding("tcx", State.GOOD, "no program is attached")
    programs = [*map(AttachedProgram.find, ids)]
    found = f"taken by {'; '.join(map(str, programs))}"
    if not asked.wants_xdp or asked.steal:
        return Finding("tcx", State.GOOD, found)
    return Finding("tcx", State.WARNING, found, _end_tcx(asked, facts, programs))


def _end_tcx(asked: Asked, facts: Facts, programs: Sequence[AttachedProgram]) -> str:
    if pids := sorted({pid for program in programs for pid in program.pids}):
        return as_root(end_processes(pids))
    return asked.there(detach_tcx(facts.interface.name))


def _numa(facts: Facts) -> Finding:
    device = _DEVICES / facts.bus if facts.bus else None
    try:
        assert device is not None
        node = int((device / "numa_node").read_text(encoding="ascii"))
        cpus = (device / "local_cpulist").read_text(encoding="ascii").strip()
    except (AssertionError, OSError, ValueError):
        return Finding("numa", State.GOOD, "not on a node: no PCI device")
    if node < 0:
        return Finding("numa", State.GOOD, "one node for all CPUs")
    return Finding("numa", State.GOOD, f"node {node}; its CPUs, for --cpus: {cpus}")


def _backend(asked: Asked, facts: Facts) -> Finding:
    """Ask the choice itself."""
    try:
        foreseen = foresee(facts.interface, asked.options())
    except NetringError as error:
        is_forced = asked.backend == "af_xdp"
        remedy = asked.again(backend="tpacket_v3") if is_forced else asked.again_as_root()
        return Finding("backend", State.BAD, f"{asked.backend} would fail: {error}", remedy)
    found = foreseen.backend
    if foreseen.attach is not None:
        found += f", {foreseen.attach} XDP"
    if foreseen.reason is not None:
        found += f": {foreseen.reason}"
    return Finding("backend", State.GOOD, found)
