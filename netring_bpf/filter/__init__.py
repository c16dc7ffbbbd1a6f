"""Filters in tcpdump's language, as values, compiled by libpcap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netring_bpf.lazy import hand_on

if TYPE_CHECKING:
    from netring_bpf.filter.filter import Filter, Instruction
    from netring_bpf.filter.filter_set import FilterLike, FilterSet

__all__ = [
    "Filter",
    "FilterLike",
    "FilterSet",
    "Instruction",
]

if not TYPE_CHECKING:  # type checkers would take any name for one that is there
    __getattr__ = hand_on(
        __name__,
        {
            "Filter": "netring_bpf.filter.filter",
            "FilterLike": "netring_bpf.filter.filter_set",
            "FilterSet": "netring_bpf.filter.filter_set",
            "Instruction": "netring_bpf.filter.filter",
        },
    )
