"""An open backend: the readers' rings and the programs that feed them, owned as one thing.

Closing reverses opening: the link goes first, so that no frame is redirected to a ring that is
being taken down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from abc import ABC, abstractmethod

from netring_bpf.bpf.match_slots import Slots
from netring_bpf.capture.backend import Opened
from netring_bpf.errors import FilterError, printable
from netring_bpf.filter.filter_set import FilterSet
from netring_bpf.interface import Interface
from netring_bpf.ring.readers import Readers
from netring_bpf.statistics import CaptureStatistics

__all__ = ["Rings", "for_kernel"]

_log = logging.getLogger("netring_bpf.capture")


class Rings(ABC):
    """The readers with their rings, and the programs that feed them; one subclass a backend.

    ``stack`` owns everything that ``close()`` frees. ``opened``: the backend and how it was
    opened. ``cpus``: the CPU of each reader's thread; None for any. ``filters``: those in force,
    as ``for_kernel`` returned them.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        interface: Interface,
        readers: Readers,
        slots: Slots,
        opened: Opened,
        cpus: tuple[int, ...] | None,
        filters: FilterSet,
    ) -> None:
        self.readers = readers
        self.opened: Opened = opened
        self.cpus = cpus
        self.interface = interface
        self.stack = stack
        self.slots = slots
        self.filters: FilterSet = filters

    def announce(self, notice: str) -> None:
        """Add a notice to ``opened`` and to the log, unless it is there already."""
        notices = self.opened.notices
        if notice in notices:
            return
        self.opened = dataclasses.replace(self.opened, notices=(*notices, notice))
        _log.warning("%s", printable(f"{self.interface.name}: {notice}"))

    def set_filter(self, wanted: FilterSet) -> None:
        """Swap the filters of all queues at once; on an error the old ones stay.

        To be called in the interface's network namespace. Raises the errors of opening.
        """
        filters = for_kernel(wanted, self.interface)
        self._swap(filters)
        self.filters = filters

    @abstractmethod
    def _swap(self, filters: FilterSet) -> None:
        """Swap the filters for these, which ``for_kernel`` returned."""

    @abstractmethod
    def detach(self) -> None:
        """Redirect no more frames; those in the rings can still be read. Idempotent."""

    @abstractmethod
    def check_busy_poll(self) -> None:
        """Announce it if frames have come, but not by the busy polling that was asked for."""

    @abstractmethod
    def statistics(self) -> CaptureStatistics:
        """Return the books of the programs and of the readers, as one."""

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        self.stack.close()


def for_kernel(wanted: FilterSet, interface: Interface) -> FilterSet:
    """Return the filters compiled for live traffic of the interface. Raises ``FilterError``."""
    for one in wanted.filters:
        if one.has_loop:
            raise FilterError(
                f"filter {one.expression!r}: follows a chain of headers (protochain), which needs "
                "a loop, and the kernel runs none in a filter; capture more, and ask "
                "Filter.matches() for each packet",
                expression=one.expression,
            )
    return wanted.for_interface(interface.name)
