"""Which place in the map ``matches`` counts for which named filter, over swaps of the filters."""

from __future__ import annotations

from collections.abc import Sequence

from netring_bpf.bpf.maps import SLOTS, Maps

__all__ = ["Slots"]


class Slots:
    """The names in force with their slots; a name that stays keeps its slot and its count."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}

    def plan(self, names: Sequence[str], maps: Maps) -> list[int]:
        """Return a slot for each name: its own, or a free one, whose count is set to 0.

        What is in force is left alone until ``commit()``.
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
        """The planned names are in force now."""
        self._slots = dict(zip(names, slots, strict=True))

    def counts(self, maps: Maps) -> dict[str, int]:
        """Return each name's count."""
        return {name: maps.matches_in_slot(slot) for name, slot in self._slots.items()}
