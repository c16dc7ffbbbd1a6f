"""Assigns each named filter a slot of the map ``matches``, over swaps of the filters."""

from __future__ import annotations

from collections.abc import Sequence

from netring_bpf.bpf.maps import SLOTS, Maps

__all__ = ["Slots"]


class Slots:
    """The slots of the names in force. A name that stays over a swap keeps its slot and count."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}

    def plan(self, names: Sequence[str], maps: Maps) -> list[int]:
        """Return a slot for each name: its own, or a free one, whose count is set to 0.

        The names in force stay until ``commit()``.
        """
        free = iter(sorted(set(range(SLOTS)) - set(self._slots.values())))
        planned = []
        for name in names:
            slot = self._slots.get(name)
            if slot is None:
                slot = next(free)
                maps.clear_slot(slot)
            planned.append(slot)
        return planned

    def commit(self, names: Sequence[str], slots: Sequence[int]) -> None:
        """Put the planned names in force."""
        self._slots = dict(zip(names, slots, strict=True))

    def counts(self, maps: Maps) -> dict[str, int]:
        """Return each name's count."""
        return {name: maps.matches_in_slot(slot) for name, slot in self._slots.items()}
