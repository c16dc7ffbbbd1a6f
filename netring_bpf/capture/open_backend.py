"""An open backend, whichever it is: the rings and what feeds them, owned as one thing.

Closing is the reverse of opening: the link goes first, so that no frame is redirected to a ring
that is being taken down.
"""

from __future__ import annotations

import contextlib
import logging

from netring_bpf.bpf.link import XdpLink
from netring_bpf.bpf.maps import Maps
from netring_bpf.bpf.match_slots import Slots
from netring_bpf.bpf.program import Hook, Program
from netring_bpf.errors import FilterError
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.options import MAX_QUEUES, XdpOptions
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics, QueueStatistics

__all__ = ["Rings", "for_kernel"]

_log = logging.getLogger("netring_bpf.capture")


class Rings:
    """An open backend: the readers with their rings, the programs' maps, and the XDP link.

    ``fallback_reason``: why ``"auto"`` did not take AF_XDP; else None. ``xdp``: the options in
    force, with all sizes; None with TPACKET_V3. ``cpus``: where each reader is to run.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        readers: Readers,
        maps: Maps | None,
        slots: Slots,
        link: XdpLink | None = None,
        snaplen: int = 0,
    ) -> None:
        self.backend = "tpacket_v3" if link is None else "af_xdp"
        self.readers = readers
        self.fallback_reason: str | None = None
        self.xdp: XdpOptions | None = None
        self.cpus: tuple[int, ...] | None = None
        self._notices: list[str] = []
        self._stack = stack
        self._interface = interface
        self._maps = maps
        self._slots = slots
        self._link = link
        self._snaplen = snaplen  # of AF_XDP sockets

    @property
    def attach(self) -> str | None:
        """``"native"`` or ``"generic"`` XDP; None with TPACKET_V3."""
        return self._link.mode.value if self._link else None

    @property
    def attach_reason(self) -> str | None:
        """Why XDP is not native, where it is not."""
        return self._link.reason if self._link else None

    @property
    def zero_copy(self) -> bool:
        """Whether AF_XDP shares its memory with the driver, instead of copying."""
        return self._link is not None and self.readers.zero_copy

    @property
    def notices(self) -> tuple[str, ...]:
        """What is not as the options asked for, and why."""
        return tuple(self._notices)

    def announce(self, notice: str) -> None:
        """Note it, and log it; once."""
        if notice in self._notices:
            return
        self._notices.append(notice)
        _log.warning("%s: %s", self._interface.name, notice)

    def check_busy_poll(self) -> None:
        """When frames have come: announce it where they were not fetched by busy polling."""
        if self.xdp is None or self.xdp.busy_poll is None or any(self.readers.napi_ids):
            return
        if self.statistics().received > 0:
            self.announce(
                "no busy polling: the driver does not say which NAPI instance feeds a queue; "
                "its interrupts bring the frames, as ever"
            )

    def set_filter(self, wanted: FilterSet) -> None:
        """Put other filters in force, at once and for all queues; on an error the old ones stay.

        In the thread's network namespace. Raises what opening raises.
        """
        filters = for_kernel(wanted, self._interface)
        if self._link is None:
            self._set_on_socket(filters)
            return
        assert self._maps is not None
        slots = self._slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, slots=slots) as program:
            # Whichever of the two filters took a frame, no byte past its snaplen is given out.
            before = self._snaplen
            self.readers.set_snaplen(min(before, filters.snaplen))
            try:
                self._link.update(program.fd)
            except BaseException:
                self.readers.set_snaplen(before)
                raise
        self._snaplen = filters.snaplen
        self.readers.set_snaplen(filters.snaplen)
        self._slots.commit(filters.names, slots)

    def _set_on_socket(self, filters: FilterSet) -> None:
        if not filters.names:
            self.readers.set_filter(filters.filters[0].instructions)
            self._slots.commit((), ())
            return
        if self._maps is None:
            self._maps = self._stack.enter_context(Maps(MAX_QUEUES))
        slots = self._slots.plan(filters.names, self._maps)
        with Program.load(filters, self._maps, hook=Hook.SOCKET, slots=slots) as program:
            self.readers.set_filter(program.fd)
        self._slots.commit(filters.names, slots)

    def detach(self) -> None:
        """Redirect no more; what is in the rings can still be read. Idempotent."""
        if self._link is not None:
            self._link.close()

    def statistics(self) -> CaptureStatistics:
        """Return the books of the programs and of the reader."""
        queues: tuple[QueueStatistics, ...] = ()
        if self._maps is not None and self._link is not None:
            rows = (
                QueueStatistics(queue, *self._maps.counters_of_queue(queue))
                for queue in range(self._maps.queues)
            )
            queues = tuple(row for row in rows if row.seen or row.queue == 0)
        matches = self._slots.counts(self._maps) if self._maps is not None else {}
        return self.readers.statistics(self.backend, self.attach, queues, matches)

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self._stack.close()


def for_kernel(wanted: FilterSet, interface: Interface) -> FilterSet:
    """Return the filters as the kernel runs them for the interface; raises ``FilterError``."""
    for one in wanted.filters:
        if one.has_loop:
            raise FilterError(
                f"filter {one.expression!r}: follows a chain of headers (protochain), which needs "
                "a loop, and the kernel runs none in a filter; capture more, and ask "
                "Filter.matches() for each packet",
                expression=one.expression,
            )
    return wanted.for_interface(interface.name)
