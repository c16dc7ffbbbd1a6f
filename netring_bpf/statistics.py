"""The books of a capture: each part counts every frame that it takes in and gives out.

The counters of a running capture are read at slightly different moments. The equations hold
exactly once no frame is on its way, at the latest when the capture is closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CaptureStatistics", "Equation", "FlowStatistics", "QueueStatistics"]


_AF_XDP = "redirected = received + rx_dropped + rx_ring_full + in the ring"
_BOTH = "redirected + tp_packets = received + rx_dropped + rx_ring_full + tp_drops + in the rings"


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sums that must be equal, and the law that says so.

    ``law``: in words. ``left``, ``right``: the two sums: frames, packets, bytes, flows or events,
    as the law says.
    """

    law: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether the two sides are equal."""
        return self.left == self.right

    def __str__(self) -> str:
        return f"{self.law}: {self.left} {'=' if self.holds else '≠'} {self.right}"


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The XDP program's counts of the frames of one receive queue.

    ``queue``: its number. ``seen``: all frames that came. ``redirected``: frames that matched and
    went to an AF_XDP socket. ``not_matched``, ``no_socket``, ``handed_back``: frames passed to the
    host, as the filter did not match, as the queue had no socket, and as the host turned out to
    need the interface.
    """

    queue: int
    seen: int
    not_matched: int
    no_socket: int
    redirected: int
    handed_back: int = 0

    @property
    def passed(self) -> int:
        """Frames that went on to the host."""
        return self.not_matched + self.no_socket + self.handed_back


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """The flow table's counts of flows, and of their packets and bytes.

    ``started``, ``established``: flows so far. ``ended``: flows by reason, a value of ``FlowEnd``.
    ``live``: flows in the table now. ``ended_packets``, ``ended_bytes``, ``live_packets``,
    ``live_bytes``: of the flows that have ended, and of those that are live. ``peak``: the most
    live flows at one time. ``capacity``: the flows that the table has room for, before it evicts
    some.
    """

    started: int
    established: int
    ended: Mapping[str, int]
    live: int
    peak: int
    capacity: int
    ended_packets: int
    ended_bytes: int
    live_packets: int
    live_bytes: int


@dataclass(frozen=True, slots=True)
class CaptureStatistics:
    """The books of one capture, from the driver to the hand-off of events to Python.

    ``backend``, ``attach``: as the properties of ``Netring``. ``flows``: the books of the flow
    table. ``matches``: the matches of each filter with a name, counted in the kernel. AF_XDP only:
    ``queues``, and the kernel's ``rx_dropped`` (no free chunk, or a frame longer than one),
    ``rx_ring_full`` and ``fill_ring_empty``. TPACKET_V3 only: ``tp_packets``, the frames that
    matched the filter, and ``tp_drops``, those of them that found no room in the ring. A capture
    that went from AF_XDP to TPACKET_V3 has both.
    ``in_ring``: frames that the kernel has handed over and the reader has not read yet.
    ``received``, ``received_bytes``: all frames that the reader has read. ``keyed``,
    ``keyed_bytes``: those that belong to a flow. ``not_keyed``: frames that do not, by reason.
    ``partly_read``: packets that belong to a flow although a part of them is missing or makes no
    sense, by reason.
    ``handed_out``: those given out whole by ``Capture.packets()`` or to a ``Recorder``.
    ``inner``, ``inner_bytes``: packets inside of keyed ones (tunnels over UDP) that belong to a
    flow of their own; ``inner_not_keyed``: packets that do not. ``fragments``: IP fragments after
    the first, keyed by its ports, or by none (``partly_read``) if it has not come;
    ``fragments_waiting``: frames that wait for it; ``fragment_overlaps``: fragments that overlap
    earlier ones.
    ``neighbours``: addresses and prefixes that ARP and neighbour discovery told, if
    ``FlowOptions.events`` asks for them; ``neighbours_repeated``: those of them told again within
    a minute, which have no event.
    Capture files only: ``file_frames``, the frames read; ``file_filtered``, those of them that did
    not match the filter; ``file_overlong``, those that were captured longer than the file says
    they were on the wire.
    ``events_produced``: events that the flow table made. ``events_taken``: events that Python took.
    ``events_lost``: events not taken in time. ``link_errors``: the times the interface was found
    down. ``time_step``: steps of the wall clock; in a file, the times that its time stamps went
    back by more than a second, or ahead by more than an hour, for good. ``time_stray``, files only:
    frames whose time stamp fits to no other, and moved no timeout.
    ``names_read``: exchanges of the protocols inside flows, such as handshakes, requests and
    questions. ``names_missed``: exchanges not read, or not told, by reason
    (docs/statistics.md).
    """

    backend: str
    attach: str | None
    queues: tuple[QueueStatistics, ...]
    matches: Mapping[str, int]
    rx_dropped: int
    rx_ring_full: int
    fill_ring_empty: int
    tp_packets: int
    tp_drops: int
    in_ring: int
    received: int
    received_bytes: int
    keyed: int
    keyed_bytes: int
    not_keyed: Mapping[str, int]
    partly_read: Mapping[str, int]
    handed_out: int
    inner: int
    inner_bytes: int
    inner_not_keyed: int
    fragments: int
    fragments_waiting: int
    fragment_overlaps: int
    neighbours: int
    neighbours_repeated: int
    file_frames: int
    file_filtered: int
    file_overlong: int
    flows: FlowStatistics
    events_produced: int
    events_taken: int
    events_lost: int
    link_errors: int
    time_step: int
    time_stray: int
    names_read: int
    names_missed: Mapping[str, int]

    @property
    def seen(self) -> int:
        """Frames that the XDP program saw; with TPACKET_V3, those that matched the filter.

        After a change of the backend both, without what the program handed back to the host.
        """
        return sum(q.seen - q.handed_back for q in self.queues) + self.tp_packets

    @property
    def passed(self) -> int:
        """Frames that went on to the host; with TPACKET_V3, which only listens, all frames."""
        return sum(q.passed for q in self.queues) + self.tp_packets

    @property
    def redirected(self) -> int:
        """Frames taken from the host and sent to an AF_XDP socket."""
        return sum(q.redirected for q in self.queues)

    @property
    def lost(self) -> int:
        """Matching frames that found no room and were not received."""
        return self.rx_dropped + self.rx_ring_full + self.tp_drops

    def equations(self) -> tuple[Equation, ...]:
        """Return the laws of conservation with the figures put in."""
        return (
            *self._kernel_equations(),
            Equation(
                "received = keyed + not keyed + handed out + fragments that wait",
                self.received,
                self.keyed
                + sum(self.not_keyed.values())
                + self.handed_out
                + self.fragments_waiting,
            ),
            Equation(
                "keyed + inner = packets of ended flows + of live flows",
                self.keyed + self.inner,
                self.flows.ended_packets + self.flows.live_packets,
            ),
            Equation(
                "keyed bytes + inner bytes = bytes of ended flows + of live flows",
                self.keyed_bytes + self.inner_bytes,
                self.flows.ended_bytes + self.flows.live_bytes,
            ),
            Equation(
                "flows started = ended + live",
                self.flows.started,
                sum(self.flows.ended.values()) + self.flows.live,
            ),
            Equation(
                "events produced = taken + lost",
                self.events_produced,
                self.events_taken + self.events_lost,
            ),
        )

    def _kernel_equations(self) -> tuple[Equation, ...]:
        if self.backend == "tpacket_v3" and not self.queues:
            return (
                Equation(
                    "tp_packets = received + tp_drops + in the ring",
                    self.tp_packets,
                    self.received + self.tp_drops + self.in_ring,
                ),
            )
        if self.backend == "file":
            return (
                Equation(
                    "frames of the file = received + filtered out",
                    self.file_frames,
                    self.received + self.file_filtered,
                ),
            )
        if not self.queues:
            return ()
        return (
            *(
                Equation(
                    f"queue {q.queue}: seen = passed + redirected", q.seen, q.passed + q.redirected
                )
                for q in self.queues
            ),
            Equation(
                _BOTH if self.backend == "tpacket_v3" else _AF_XDP,
                self.redirected + self.tp_packets,
                self.received + self.lost + self.in_ring,
            ),
        )

    @property
    def balanced(self) -> bool:
        """Whether every equation holds."""
        return all(equation.holds for equation in self.equations())
