"""Tells whether redirecting an interface's frames takes them away from nobody, and loses none."""

from __future__ import annotations

from pathlib import Path

from netring_bpf.bpf.attached import tcx_programs
from netring_bpf.errors import NetringError
from netring_bpf.interface import Interface, OwnMarks
from netring_bpf.interface.capture_port import (
    NOTHING_OF_OURS,
    how_it_is_used,
    how_listeners_use,
    how_the_host_uses,
)
from netring_bpf.interface.netlink import offloads

__all__ = [
    "LARGEST_CHUNK",
    "is_only_listened_to",
    "loses_at",
    "loses_in_generic_mode",
    "why_not_capture_port",
    "why_one_sided",
]

_HEADROOM = 256  # of each chunk
_LINK_HEADER = 18  # Ethernet, and one VLAN tag
LARGEST_CHUNK = 4096
_JOINS_FRAMES = frozenset({"rx-gro-hw", "rx-lro"})


def why_not_capture_port(interface: Interface, own: OwnMarks | None = None) -> str | None:
    """Say in words how others use the interface; None if it is shown that nobody does.

    Asks the kernel anew each time, in the thread's network namespace. ``own``: the marks of our
    own capture on the interface, if there is one. If the kernel does not answer, the words say so.
    """
    own = own or OwnMarks()
    if why := how_it_is_used(interface, own):
        return why
    try:
        others = sorted({*tcx_programs(interface.index)} - own.programs)
    except NetringError as error:
        return f"the kernel does not tell who uses it ({error})"
    if others:
        return f"a tcx program (id {others[0]}) handles what it receives"
    return None


def is_only_listened_to(interface: Interface) -> bool:
    """Whether the interface is used by listeners alone, such as tcpdump."""
    try:
        table = Path("/proc/thread-self/net/packet").read_text(encoding="ascii", errors="replace")
        listened = how_listeners_use(interface.index, table, NOTHING_OF_OURS)
        return listened is not None and how_the_host_uses(interface) is None
    except (NetringError, OSError):
        return False


def loses_at(mtu: int, chunk_size: int) -> str | None:
    """Say in words that AF_XDP with chunks of this size loses frames at this MTU; None if not."""
    carries = chunk_size - _HEADROOM
    if mtu + _LINK_HEADER <= carries:
        return None
    return (
        f"frames of its MTU of {mtu} are longer than the {carries} bytes that a chunk of "
        f"{chunk_size} carries, and AF_XDP would drop them"
    )


def loses_in_generic_mode(interface: Interface) -> str | None:
    """Say in words that AF_XDP in generic mode loses frames of the interface; None if not.

    The kernel gives a generic program whole segments of up to 64 KiB from a sender that leaves
    cutting them to its link. In native mode it has them cut.
    """
    if interface.kind is not None:
        return (
            f"in generic mode a virtual link ({interface.kind}) brings segments that nobody has "
            "cut into frames (tso, gso), and AF_XDP would drop them"
        )
    if joins := _JOINS_FRAMES & offloads(interface.name):
        return (
            f"in generic mode the card joins frames ({', '.join(sorted(joins))}), and AF_XDP "
            "would drop what is longer than a chunk; switch it off (ethtool -K)"
        )
    return None


def why_one_sided(interface: Interface) -> str | None:
    """Say in words why an XDP program on the interface sees one direction only; None if not.

    A program sees what an interface receives. A mirror port receives both directions, and so does
    the loopback.
    """
    return None if interface.loopback else how_the_host_uses(interface)
