"""Sums, rates and the largest of each kind, of all flows of a capture."""

from netring_bpf.aggregate.options import StatsOptions

__all__ = ["StatsOptions"]
